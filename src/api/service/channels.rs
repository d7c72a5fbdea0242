//! Lists the channels that have subscribers, in pages.

use std::collections::BTreeMap;

use super::shared::Service;
use crate::api::error::ApiError;
use crate::channel::{ChannelName, Glob};
use crate::limits::{ANSWER_TIMEOUT, API_CHANNELS_PAGE, API_CHANNELS_PAGE_MAX, CHANNEL_BYTES_MAX};
use crate::mesh::{Answer, ControlRequest};

/// The requested page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct ChannelsQuery {
    /// Glob that names must match; an empty one matches all.
    pub(in crate::api) pattern: String,
    /// Only names after this one; an empty one begins at the first.
    pub(in crate::api) after: String,
    /// Maximum number of channels on the page; 0 means the server's default.
    pub(in crate::api) limit: usize,
}

/// A page of channels, sorted by name.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) struct ChannelsPage {
    /// The channels, with the number of subscribers of each.
    pub(in crate::api) channels: BTreeMap<String, u64>,
    /// The last name of the page, if more channels may follow it.
    pub(in crate::api) cursor: Option<String>,
}

impl ChannelsQuery {
    /// The effective maximum number of channels on the page.
    fn limit(&self) -> usize {
        if self.limit == 0 { API_CHANNELS_PAGE } else { self.limit }
    }

    /// Checks the query, and returns its pattern.
    fn check(&self) -> Result<Glob, ApiError> {
        let limit = self.limit;
        if limit > API_CHANNELS_PAGE_MAX {
            let detail = format!("limit is {limit}; the maximum is {API_CHANNELS_PAGE_MAX}");
            return Err(ApiError::bad_request(detail));
        }
        for (name, text) in [("pattern", &self.pattern), ("cursor", &self.after)] {
            if text.len() > CHANNEL_BYTES_MAX {
                let detail = format!("{name} is longer than {CHANNEL_BYTES_MAX} bytes");
                return Err(ApiError::bad_request(detail));
            }
        }
        Glob::new(&self.pattern).map_err(|error| {
            let pattern = &self.pattern;
            ApiError::bad_request(format!("pattern {pattern:?} is not valid: {error}"))
        })
    }
}

/// Returns a page of the channels on this node.
///
/// # Errors
/// 107 if limit, pattern or cursor is too large, or if the pattern is invalid.
pub(super) async fn own(
    service: &Service,
    query: &ChannelsQuery,
) -> Result<ChannelsPage, ApiError> {
    let asked = ControlRequest::Channels {
        pattern: query.check()?,
        after: Box::from(query.after.as_str()),
        limit: query.limit(),
    };
    let mut parts = Vec::with_capacity(service.courier().shards());
    for answer in service.courier().request_all(&asked, ANSWER_TIMEOUT).await? {
        match answer {
            Answer::Channels(part) => parts.push(part),
            other => {
                return Err(ApiError::internal(format!(
                    "unexpected answer to a list of channels: {other:?}"
                )));
            }
        }
    }
    Ok(merge_shards(parts, query))
}

/// Merges the parts of several shards, each of which has the first names of its shard. A full part
/// may have more names after its last one.
fn merge_shards(parts: Vec<Vec<(ChannelName, u32)>>, query: &ChannelsQuery) -> ChannelsPage {
    let page = |part: Vec<(ChannelName, u32)>| {
        let last = part.last().filter(|_| part.len() >= query.limit());
        let cursor = last.map(|(name, _)| name.as_str().to_owned());
        let channels = part.iter().map(|(name, count)| (name.as_str().to_owned(), (*count).into()));
        ChannelsPage { channels: channels.collect(), cursor }
    };
    merge(parts.into_iter().map(page).collect(), query)
}

/// Merges the pages of several shards or nodes into one. A page with a cursor is full, so the names
/// after its last one also come after the last name of the merged page.
pub(super) fn merge(pages: Vec<ChannelsPage>, query: &ChannelsQuery) -> ChannelsPage {
    let full = pages.iter().any(|page| page.cursor.is_some());
    let mut channels = BTreeMap::new();
    for (name, subscribers) in pages.into_iter().flat_map(|page| page.channels) {
        *channels.entry(name).or_default() += subscribers;
    }
    let more = full || channels.len() > query.limit();
    while channels.len() > query.limit() {
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

    fn page_of(limit: usize) -> ChannelsQuery {
        ChannelsQuery { pattern: String::new(), after: String::new(), limit }
    }

    fn part(names: Names<'_>) -> Vec<(ChannelName, u32)> {
        names.iter().map(|(name, clients)| (ChannelName::new(name), *clients)).collect()
    }

    fn expected(names: Names<'_>, cursor: Option<&str>) -> ChannelsPage {
        let channels = names.iter().map(|(name, clients)| ((*name).to_owned(), (*clients).into()));
        ChannelsPage { channels: channels.collect(), cursor: cursor.map(str::to_owned) }
    }

    #[test]
    fn pages_of_several_nodes_become_one() {
        let query = page_of(2);
        let page = |names: Names<'_>| merge_shards(vec![part(names)], &query);
        let merged = merge(vec![page(&[("a", 1), ("c", 1)]), page(&[("b", 2)])], &query);
        assert_eq!(merged, expected(&[("a", 1), ("b", 2)], Some("b")));
        let merged = merge(vec![page(&[("a", 1)]), page(&[("a", 3)])], &query);
        assert_eq!(merged, expected(&[("a", 4)], None));
    }

    #[test]
    fn pages_of_several_shards_become_one_ordered_page() {
        let check = |parts: &[Names<'_>], limit, names: Names<'_>, cursor| {
            let parts = parts.iter().map(|names| part(names)).collect();
            assert_eq!(merge_shards(parts, &page_of(limit)), expected(names, cursor));
        };
        check(&[&[], &[]], 2, &[], None);
        check(&[&[("a", 1), ("c", 2)], &[("a", 4)]], 3, &[("a", 5), ("c", 2)], None);
        let whole: Names<'_> = &[("a", 1), ("b", 1)];
        check(&[&[("a", 1), ("d", 1)], &[("b", 1), ("c", 1)]], 2, whole, Some("b"));
        check(&[whole, &[]], 2, whole, Some("b"));
    }
}
