//! `channels`: the channels that have subscribers, in pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Api;
use super::error::ApiError;
use super::request::{ChannelBody, ChannelsRequest, ChannelsResult};
use crate::channel::ChannelName;
use crate::limits::{ANSWER_TIMEOUT, API_CHANNELS_PAGE, API_CHANNELS_PAGE_MAX, CHANNEL_BYTES_MAX};
use crate::mesh::{Answer, ControlRequest};

/// A page of the list of channels, ordered by name.
///
/// # Errors
/// 107 for a limit, pattern or cursor that is too large.
pub(super) async fn channels(
    api: &Arc<Api>,
    request: ChannelsRequest,
) -> Result<ChannelsResult, ApiError> {
    if request.limit > API_CHANNELS_PAGE_MAX {
        let limit = request.limit;
        let detail = format!("limit {limit}, where {API_CHANNELS_PAGE_MAX} is the most");
        return Err(ApiError::bad_request(detail));
    }
    for (name, text) in [("pattern", &request.pattern), ("cursor", &request.cursor)] {
        if text.len() > CHANNEL_BYTES_MAX {
            let detail = format!("a {name} of more than {CHANNEL_BYTES_MAX} bytes");
            return Err(ApiError::bad_request(detail));
        }
    }
    let limit = limit(&request);
    let asked = ControlRequest::Channels {
        pattern: request.pattern.into_boxed_str(),
        after: request.cursor.into_boxed_str(),
        limit,
    };
    let mut parts = Vec::with_capacity(api.courier.shards());
    for answer in api.courier.request_all(&asked, ANSWER_TIMEOUT).await? {
        match answer {
            Answer::Channels(part) => parts.push(part),
            other => return Err(ApiError::internal(format!("{other:?} to a list of channels"))),
        }
    }
    Ok(channels_merge(parts, limit))
}

/// Most channels of a page.
pub(super) fn limit(request: &ChannelsRequest) -> usize {
    if request.limit == 0 { API_CHANNELS_PAGE } else { request.limit }
}

/// The same for pages of several nodes. One with a cursor is full, so it has all names up to its
/// last one.
pub(super) fn pages_merge(pages: Vec<ChannelsResult>, limit: usize) -> ChannelsResult {
    let full = pages.iter().any(|page| page.cursor.is_some());
    let mut channels: BTreeMap<String, ChannelBody> = BTreeMap::new();
    for (name, body) in pages.into_iter().flat_map(|page| page.channels) {
        let channel = channels.entry(name).or_insert(ChannelBody { num_clients: 0 });
        channel.num_clients += body.num_clients;
    }
    page(channels, full, limit)
}

/// The first `limit` names of all parts, each of which holds its shard's first `limit`. A part
/// that is full may have more names after its last one, but those come after the page's last one
/// as well: the part alone fills the page.
fn channels_merge(parts: Vec<Vec<(ChannelName, u32)>>, limit: usize) -> ChannelsResult {
    let full = parts.iter().any(|part| part.len() >= limit);
    let mut channels: BTreeMap<String, ChannelBody> = BTreeMap::new();
    for (name, clients) in parts.into_iter().flatten() {
        let empty = ChannelBody { num_clients: 0 };
        let channel = channels.entry(name.as_str().to_owned()).or_insert(empty);
        channel.num_clients += u64::from(clients);
    }
    page(channels, full, limit)
}

fn page(mut channels: BTreeMap<String, ChannelBody>, full: bool, limit: usize) -> ChannelsResult {
    let more = full || channels.len() > limit;
    while channels.len() > limit {
        channels.pop_last();
    }
    let last = channels.last_key_value().map(|(name, _)| name.clone());
    ChannelsResult { channels, cursor: last.filter(|_| more) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(names: &[(&str, u32)]) -> Vec<(ChannelName, u32)> {
        names.iter().map(|(name, clients)| (ChannelName::new(name), *clients)).collect()
    }

    fn check(parts: &[&[(&str, u32)]], limit: usize, expected: &str) {
        let parts = parts.iter().map(|names| part(names)).collect();
        let merged = channels_merge(parts, limit);
        let json = serde_json::to_string(&merged).expect("a result can be written");
        assert_eq!(json, expected);
    }

    #[test]
    fn pages_of_several_nodes_become_one() {
        let page = |names: &[(&str, u32)], limit| channels_merge(vec![part(names)], limit);
        let pages = vec![page(&[("a", 1), ("c", 1)], 2), page(&[("b", 2)], 2)];
        let merged = serde_json::to_string(&pages_merge(pages, 2)).expect("it can be written");
        let expected = r#"{"channels":{"a":{"num_clients":1},"b":{"num_clients":2}},"cursor":"b"}"#;
        assert_eq!(merged, expected);
        let pages = vec![page(&[("a", 1)], 2), page(&[("a", 3)], 2)];
        let merged = serde_json::to_string(&pages_merge(pages, 2)).expect("it can be written");
        assert_eq!(merged, r#"{"channels":{"a":{"num_clients":4}}}"#);
    }

    #[test]
    fn pages_of_several_shards_become_one_ordered_page() {
        check(&[&[], &[]], 2, r#"{"channels":{}}"#);
        check(
            &[&[("a", 1), ("c", 2)], &[("a", 4)]],
            3,
            r#"{"channels":{"a":{"num_clients":5},"c":{"num_clients":2}}}"#,
        );
        check(
            &[&[("a", 1), ("d", 1)], &[("b", 1), ("c", 1)]],
            2,
            r#"{"channels":{"a":{"num_clients":1},"b":{"num_clients":1}},"cursor":"b"}"#,
        );
        check(
            &[&[("a", 1), ("b", 1)], &[]],
            2,
            r#"{"channels":{"a":{"num_clients":1},"b":{"num_clients":1}},"cursor":"b"}"#,
        );
    }
}
