//! Reads and removes the history of a channel.

use std::sync::Arc;

use super::shared::Service;
use crate::api::error::ApiError;
use crate::channel::{ChannelName, DataType, Publication};
use crate::ids::Position;
use crate::limits::{API_HISTORY_BYTES_MAX, API_HISTORY_MAX};
use crate::mesh::{Addressed, Answer, Asker, History, ToHome};
use crate::protocol::HistoryPage;

/// A page of history.
#[derive(Debug)]
pub(in crate::api) struct HistoryResult {
    /// Type of the payloads.
    pub(in crate::api) data: DataType,
    /// The page, as much of it as fits [`API_HISTORY_BYTES_MAX`].
    pub(in crate::api) publications: Vec<Arc<Publication>>,
    /// Number of publications that were asked for and did not fit.
    pub(in crate::api) omitted: usize,
    /// Where the channel stands.
    pub(in crate::api) top: Position,
}

/// Reads a page of a channel's history.
///
/// # Errors
/// 107 for a wrong channel, 102 for an unknown namespace, 108 for one without history, 112 for a
/// `since` of another epoch.
pub(in crate::api) async fn history(
    service: &Service,
    channel: &str,
    page: HistoryPage,
) -> Result<HistoryResult, ApiError> {
    let data = data_type(service, channel)?;
    if page.reverse && page.since.is_some_and(|since| since.offset == 0) {
        return Err(ApiError::bad_request("nothing comes before offset 0"));
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
            asker: Asker::Control(ticket),
        };
        Addressed::Shard(home, ToHome::History(Box::new(history)).into())
    };
    match service.courier().request(make).await? {
        Answer::History { mut publications, omitted, top, .. } => {
            let all = publications.len();
            publications.truncate(fitting(data, &publications));
            let omitted = omitted + all - publications.len();
            Ok(HistoryResult { data, publications, omitted, top })
        }
        other => Err(ApiError::internal(format!("{other:?} to a history request"))),
    }
}

/// Forgets a channel's history. Its position stays.
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
        other => Err(ApiError::internal(format!("{other:?} to the removal of a history"))),
    }
}

/// The type of the channel's payloads, if it has a history.
fn data_type(service: &Service, channel: &str) -> Result<DataType, ApiError> {
    let namespace = service.resolve(channel)?;
    if namespace.has_history() {
        Ok(namespace.data)
    } else {
        let detail = "this channel has no history: set history_size and history_ttl";
        Err(ApiError::not_available(detail))
    }
}

/// Number of publications that fit into one answer: the first one in any case. What they need is
/// counted as JSON, which is the longest form: text is escaped, and bytes become base64.
fn fitting(data: DataType, publications: &[Arc<Publication>]) -> usize {
    let mut bytes = 0;
    let fits = |publication: &&Arc<Publication>| {
        bytes += data.json_bytes(&publication.data);
        bytes <= API_HISTORY_BYTES_MAX
    };
    let count = publications.iter().take_while(fits).count();
    count.max(1).min(publications.len())
}
