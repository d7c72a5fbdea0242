//! `history` and `history_remove`.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::Api;
use super::error::ApiError;
use super::request::{Empty, HistoryRequest, HistoryResult};
use crate::channel::{ChannelName, ChannelView, DataType, Publication};
use crate::ids::{Since, SinceEpoch};
use crate::limits::{API_HISTORY_BYTES_MAX, API_HISTORY_MAX};
use crate::mesh::{Addressed, Answer, Asker, History, ToHome};
use crate::protocol::{HistoryPage, write_publication};

/// What a publication's JSON has beside its payload, mostly: offset and tags.
const PUBLICATION_OVERHEAD_BYTES: usize = 64;

/// Reads a page of a channel's history, as much of it as fits [`API_HISTORY_BYTES_MAX`], and says
/// how many publications did not.
///
/// # Errors
/// 107 for a wrong channel, 102 for an unknown namespace, 108 for one without history, 112 for a
/// `since` of another epoch.
pub(super) async fn history(
    api: &Arc<Api>,
    request: HistoryRequest,
) -> Result<HistoryResult, ApiError> {
    let data = history_namespace(api, &request.channel)?;
    let since = request
        .since
        .map(|since| Since { epoch: SinceEpoch::from_text(&since.epoch), offset: since.offset });
    if request.reverse && since.is_some_and(|since| since.offset == 0) {
        return Err(ApiError::bad_request("nothing comes before offset 0"));
    }
    let page = HistoryPage { limit: request.limit, since, reverse: request.reverse };
    let home = api.courier.home(&request.channel);
    let make = |ticket| {
        let history = History {
            channel: ChannelName::new(&request.channel),
            page,
            publications_max: API_HISTORY_MAX,
            bytes_max: API_HISTORY_BYTES_MAX,
            confirmed: true,
            unserved: None,
            asker: Asker::Control(ticket),
        };
        Addressed::Shard(home, ToHome::History(Box::new(history)).into())
    };
    match api.courier.request(make).await? {
        Answer::History { publications, omitted, top, .. } => {
            let name = &request.channel;
            let view = ChannelView { name, data, has_history: true, epoch: top.epoch };
            let bodies = history_publications(&view, &publications)?;
            Ok(HistoryResult {
                omitted: omitted + publications.len() - bodies.len(),
                publications: bodies,
                offset: top.offset,
                epoch: top.epoch.to_string(),
            })
        }
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
    match api.courier.request(|ticket| api.courier.history_remove(channel, ticket)).await? {
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

/// The publications as they are written, as many as fit: the first one in any case.
fn history_publications(
    view: &ChannelView<'_>,
    publications: &[Arc<Publication>],
) -> Result<Vec<Box<RawValue>>, ApiError> {
    let mut bytes = 0;
    let mut bodies = Vec::with_capacity(publications.len());
    for publication in publications {
        // Text is escaped, and bytes become base64.
        bytes += view.data.json_bytes(&publication.data);
        if bytes > API_HISTORY_BYTES_MAX && !bodies.is_empty() {
            break;
        }
        let mut json = Vec::with_capacity(publication.data.len() + PUBLICATION_OVERHEAD_BYTES);
        write_publication(view, publication, &mut json);
        let body = serde_json::from_slice::<Box<RawValue>>(&json);
        bodies.push(body.map_err(|error| ApiError::internal(error.to_string()))?);
    }
    Ok(bodies)
}
