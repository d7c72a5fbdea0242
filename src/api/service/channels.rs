//! The channels that have subscribers, in pages.

use std::collections::BTreeMap;

use super::shared::Service;
use crate::api::error::ApiError;
use crate::channel::ChannelName;
use crate::limits::{ANSWER_TIMEOUT, API_CHANNELS_PAGE, API_CHANNELS_PAGE_MAX, CHANNEL_BYTES_MAX};
use crate::mesh::{Answer, ControlRequest};

/// Which page is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct ChannelsQuery {
    /// Glob that names must match; empty matches all.
    pub(in crate::api) pattern: String,
    /// Only names above this one; empty begins at the first.
    pub(in crate::api) after: String,
    /// Maximum number of channels on the page; 0 leaves it to the server.
    pub(in crate::api) limit: usize,
}

/// A page, ordered by name.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) struct ChannelsPage {
    /// Each with the number of its subscribers.
    pub(in crate::api) channels: BTreeMap<String, u64>,
    /// The last name of a page that more may follow: ask again for those above it.
    pub(in crate::api) cursor: Option<String>,
}

impl ChannelsQuery {
    /// Maximum number of channels on the page.
    fn limit(&self) -> usize {
        if self.limit == 0 { API_CHANNELS_PAGE } else { self.limit }
    }

    fn check(&self) -> Result<(), ApiError> {
        let limit = self.limit;
        if limit > API_CHANNELS_PAGE_MAX {
            let detail = format!("limit {limit}, where {API_CHANNELS_PAGE_MAX} is the most");
            return Err(ApiError::bad_request(detail));
        }
        for (name, text) in [("pattern", &self.pattern), ("cursor", &self.after)] {
            if text.len() > CHANNEL_BYTES_MAX {
                let detail = format!("a {name} of more than {CHANNEL_BYTES_MAX} bytes");
                return Err(ApiError::bad_request(detail));
            }
        }
        Ok(())
    }
}

/// A page of the list of this node's channels.
///
/// # Errors
/// 107 for a limit, pattern or cursor that is too large.
pub(super) async fn own(
    service: &Service,
    query: &ChannelsQuery,
) -> Result<ChannelsPage, ApiError> {
    query.check()?;
    let limit = query.limit();
    let asked = ControlRequest::Channels {
        pattern: Box::from(query.pattern.as_str()),
        after: Box::from(query.after.as_str()),
        limit,
    };
    let mut parts = Vec::with_capacity(service.courier().shards());
    for answer in service.courier().request_all(&asked, ANSWER_TIMEOUT).await? {
        match answer {
            Answer::Channels(part) => parts.push(part),
            other => return Err(ApiError::internal(format!("{other:?} to a list of channels"))),
        }
    }
    Ok(merge_shards(parts, limit))
}

/// The same for pages of several nodes. One with a cursor is full, so it has all names up to its
/// last one.
pub(super) fn merge_nodes(pages: Vec<ChannelsPage>, query: &ChannelsQuery) -> ChannelsPage {
    let full = pages.iter().any(|page| page.cursor.is_some());
    let mut channels = BTreeMap::new();
    for (name, subscribers) in pages.into_iter().flat_map(|page| page.channels) {
        *channels.entry(name).or_default() += subscribers;
    }
    page(channels, full, query.limit())
}

/// The first `limit` names of all parts, each of which holds its shard's first `limit`. A part
/// that is full may have more names after its last one, but those come after the page's last one
/// as well: the part alone fills the page.
fn merge_shards(parts: Vec<Vec<(ChannelName, u32)>>, limit: usize) -> ChannelsPage {
    let full = parts.iter().any(|part| part.len() >= limit);
    let mut channels = BTreeMap::new();
    for (name, subscribers) in parts.into_iter().flatten() {
        *channels.entry(name.as_str().to_owned()).or_default() += u64::from(subscribers);
    }
    page(channels, full, limit)
}

fn page(mut channels: BTreeMap<String, u64>, full: bool, limit: usize) -> ChannelsPage {
    let more = full || channels.len() > limit;
    while channels.len() > limit {
        channels.pop_last();
    }
    let last = channels.last_key_value().map(|(name, _)| name.clone());
    ChannelsPage { channels, cursor: last.filter(|_| more) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with their number of subscribers.
    type Names<'a> = &'a [(&'a str, u32)];

    fn part(names: Names<'_>) -> Vec<(ChannelName, u32)> {
        names.iter().map(|(name, clients)| (ChannelName::new(name), *clients)).collect()
    }

    fn expected(names: Names<'_>, cursor: Option<&str>) -> ChannelsPage {
        let channels = names.iter().map(|(name, clients)| ((*name).to_owned(), (*clients).into()));
        ChannelsPage { channels: channels.collect(), cursor: cursor.map(str::to_owned) }
    }

    #[test]
    fn pages_of_several_nodes_become_one() {
        let page = |names: Names<'_>| merge_shards(vec![part(names)], 2);
        let query = ChannelsQuery { pattern: String::new(), after: String::new(), limit: 2 };
        let merged = merge_nodes(vec![page(&[("a", 1), ("c", 1)]), page(&[("b", 2)])], &query);
        assert_eq!(merged, expected(&[("a", 1), ("b", 2)], Some("b")));
        let merged = merge_nodes(vec![page(&[("a", 1)]), page(&[("a", 3)])], &query);
        assert_eq!(merged, expected(&[("a", 4)], None));
    }

    #[test]
    fn pages_of_several_shards_become_one_ordered_page() {
        let check = |parts: &[Names<'_>], limit, names: Names<'_>, cursor| {
            let parts = parts.iter().map(|names| part(names)).collect();
            assert_eq!(merge_shards(parts, limit), expected(names, cursor));
        };
        check(&[&[], &[]], 2, &[], None);
        check(&[&[("a", 1), ("c", 2)], &[("a", 4)]], 3, &[("a", 5), ("c", 2)], None);
        let whole: Names<'_> = &[("a", 1), ("b", 1)];
        check(&[&[("a", 1), ("d", 1)], &[("b", 1), ("c", 1)]], 2, whole, Some("b"));
        check(&[whole, &[]], 2, whole, Some("b"));
    }
}
