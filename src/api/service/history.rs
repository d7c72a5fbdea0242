//! Reads and removes the history of a channel.

use std::sync::Arc;

use super::shared::Service;
use crate::api::error::ApiError;
use crate::channel::{ChannelName, DataType, Publication};
use crate::ids::Position;
use crate::limits::{API_HISTORY_BYTES_MAX, API_HISTORY_MAX};
use crate::mesh::{Addressed, Answer, History, Page, Reader, ToHome};
use crate::protocol::HistoryPage;

/// A page of history.
#[derive(Debug)]
pub(in crate::api) struct FoundHistory {
    /// Type of the payloads.
    pub(in crate::api) data: DataType,
    /// The publications of the page that fit into [`API_HISTORY_BYTES_MAX`].
    pub(in crate::api) publications: Vec<Arc<Publication>>,
    /// Number of requested publications that did not fit.
    pub(in crate::api) omitted: usize,
    /// The current position of the channel.
    pub(in crate::api) top: Position,
}

/// Reads a page of a channel's history.
///
/// # Errors
/// 107 for an invalid channel, 102 for an unknown namespace, 108 for a namespace without history,
/// 112 for a `since` of another epoch.
pub(in crate::api) async fn history(
    service: &Service,
    channel: &str,
    page: HistoryPage,
) -> Result<FoundHistory, ApiError> {
    let data = data_type(service, channel)?;
    if page.reverse && page.since.is_some_and(|since| since.offset == 0) {
        return Err(ApiError::bad_request("since.offset must be above 0 with reverse"));
    }
    let home = service.courier().home(channel);
    let make = |ticket| {
        let history = History {
            channel: ChannelName::new(channel),
            page,
            publications_max: API_HISTORY_MAX,
            bytes_max: API_HISTORY_BYTES_MAX,
            confirmed: true,
            unserved: None,
            reader: Reader::Control(ticket),
        };
        Addressed::Shard(home, ToHome::History(Box::new(history)).into())
    };
    match service.courier().request(make).await? {
        Answer::Page(Page { mut publications, omitted, top, .. }) => {
            let all = publications.len();
            publications.truncate(fitting(data, &publications));
            let omitted = omitted + all - publications.len();
            Ok(FoundHistory { data, publications, omitted, top })
        }
        other => {
            Err(ApiError::internal(format!("unexpected answer to a history request: {other:?}")))
        }
    }
}

/// Removes the history of a channel. Its position stays.
///
/// # Errors
/// As [`history`].
pub(in crate::api) async fn history_remove(
    service: &Service,
    channel: &str,
) -> Result<(), ApiError> {
    data_type(service, channel)?;
    let channel = ChannelName::new(channel);
    let courier = service.courier();
    match courier.request(|ticket| courier.history_remove(channel, ticket)).await? {
        Answer::HistoryRemoved => Ok(()),
        other => Err(ApiError::internal(format!(
            "unexpected answer to the removal of a history: {other:?}"
        ))),
    }
}

/// Returns the type of the channel's payloads, if it has a history.
fn data_type(service: &Service, channel: &str) -> Result<DataType, ApiError> {
    let namespace = service.resolve(channel)?;
    if namespace.has_history() {
        Ok(namespace.data)
    } else {
        let detail = "this channel has no history; to keep one, set history_size and history_ttl";
        Err(ApiError::not_available(detail))
    }
}

/// Returns the number of publications that fit into one response. The first always counts as
/// fitting. Sizes are counted as JSON, which is the longest form: text is escaped, and bytes become
/// base64.
fn fitting(data: DataType, publications: &[Arc<Publication>]) -> usize {
    let mut bytes = 0;
    let fits = |publication: &&Arc<Publication>| {
        bytes += data.json_bytes(&publication.data);
        bytes <= API_HISTORY_BYTES_MAX
    };
    let count = publications.iter().take_while(fits).count();
    count.max(1).min(publications.len())
}
