//! `history` and `history_remove`.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::value::{RawValue, to_raw_value};

use super::Api;
use super::error::ApiError;
use super::request::{ClientInfo, Empty, HistoryRequest, HistoryResult, PublicationBody};
use crate::channel::{ChannelName, DataType, Publication};
use crate::ids::{Since, SinceEpoch};
use crate::limits::{API_HISTORY_BYTES_MAX, API_HISTORY_MAX};
use crate::mesh::{Answer, Asker, History, Message};
use crate::protocol::HistoryPage;

/// Reads a page of a channel's history, as much of it as fits [`API_HISTORY_BYTES_MAX`].
///
/// # Errors
/// 107 for a wrong channel, 102 for an unknown namespace, 108 for one without history, 112 for a
/// `since` of another epoch.
pub(super) async fn history(
    api: &Arc<Api>,
    request: HistoryRequest,
) -> Result<HistoryResult, ApiError> {
    let data_type = history_namespace(api, &request.channel)?;
    let since = request
        .since
        .map(|since| Since { epoch: SinceEpoch::from_text(&since.epoch), offset: since.offset });
    if request.reverse && since.is_some_and(|since| since.offset == 0) {
        return Err(ApiError::bad_request("nothing comes before offset 0"));
    }
    let page = HistoryPage { limit: request.limit, since, reverse: request.reverse };
    let make = |ticket| {
        Message::History(Box::new(History {
            channel: ChannelName::new(&request.channel),
            page,
            publications_max: API_HISTORY_MAX,
            asker: Asker::Control(ticket),
        }))
    };
    let home = api.courier.home(&request.channel);
    match api.courier.request(home, make).await? {
        Answer::History { publications, top, .. } => Ok(HistoryResult {
            publications: history_publications(data_type, &publications)?,
            offset: top.offset,
            epoch: top.epoch.to_string(),
        }),
        other => Err(ApiError::internal(format!("{other:?} to a history request"))),
    }
}

/// Forgets a channel's history. Its position stays.
///
/// # Errors
/// As [`history`].
pub(super) async fn history_remove(
    api: &Arc<Api>,
    request: HistoryRequest,
) -> Result<Empty, ApiError> {
    history_namespace(api, &request.channel)?;
    let channel = ChannelName::new(&request.channel);
    let make = |ticket| Message::HistoryRemove { channel, asker: Asker::Control(ticket) };
    match api.courier.request(api.courier.home(&request.channel), make).await? {
        Answer::HistoryRemoved => Ok(Empty {}),
        other => Err(ApiError::internal(format!("{other:?} to the removal of a history"))),
    }
}

/// The type of the channel's payloads, if it has a history.
fn history_namespace(api: &Api, channel: &str) -> Result<DataType, ApiError> {
    let namespace = api.resolve(channel)?;
    if namespace.has_history() {
        Ok(namespace.data)
    } else {
        let detail = "this channel has no history: set history_size and history_ttl";
        Err(ApiError::not_available(detail))
    }
}

/// The publications as they are written, the first one in any case.
fn history_publications(
    data_type: DataType,
    publications: &[Arc<Publication>],
) -> Result<Vec<PublicationBody>, ApiError> {
    let mut bytes = 0;
    let mut bodies = Vec::with_capacity(publications.len().min(1024));
    for publication in publications {
        bytes += publication.data.len();
        if bytes > API_HISTORY_BYTES_MAX && !bodies.is_empty() {
            break;
        }
        let body = history_publication(data_type, publication);
        bodies.push(body.map_err(|error| ApiError::internal(error.to_string()))?);
    }
    Ok(bodies)
}

/// One publication. Text is written as a JSON string, binary as one in base64.
fn history_publication(
    data_type: DataType,
    publication: &Publication,
) -> Result<PublicationBody, serde_json::Error> {
    let data: Box<RawValue> = match data_type {
        DataType::Json => serde_json::from_slice(&publication.data)?,
        DataType::Text => to_raw_value(&String::from_utf8_lossy(&publication.data))?,
        DataType::Binary => to_raw_value(&BASE64.encode(&publication.data))?,
    };
    let info = publication.publisher.as_ref().map(|publisher| ClientInfo {
        user: publisher.user.to_string(),
        client: publisher.client.to_string(),
    });
    let tags: BTreeMap<String, String> =
        publication.tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Ok(PublicationBody { data, info, offset: publication.offset, tags })
}
