//! The methods of the API by name, and how each is called.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::error::ApiError;
use super::{Api, cluster, history, info, publish};
use crate::reason::ClientError;

/// What a method answers: JSON, or why not.
pub(super) type Outcome = Result<Box<RawValue>, ApiError>;

/// A method that may stand in a batch, so any but `batch` itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Publish,
    Broadcast,
    History,
    HistoryRemove,
    Channels,
    Info,
    Disconnect,
    Unsubscribe,
    Subscribe,
    /// Known to Centrifugo's clients, and not part of this server yet.
    Unavailable(&'static str),
}

/// Every method with its name. Source: Centrifugo's server API.
const METHODS: [(&str, Method); 20] = [
    ("publish", Method::Publish),
    ("broadcast", Method::Broadcast),
    ("history", Method::History),
    ("history_remove", Method::HistoryRemove),
    ("channels", Method::Channels),
    ("info", Method::Info),
    ("disconnect", Method::Disconnect),
    ("unsubscribe", Method::Unsubscribe),
    ("presence", Method::Unavailable("presence")),
    ("presence_stats", Method::Unavailable("presence_stats")),
    ("subscribe", Method::Subscribe),
    ("refresh", Method::Unavailable("refresh")),
    ("rpc", Method::Unavailable("rpc")),
    ("map_publish", Method::Unavailable("map_publish")),
    ("map_remove", Method::Unavailable("map_remove")),
    ("map_read_state", Method::Unavailable("map_read_state")),
    ("map_read_stream", Method::Unavailable("map_read_stream")),
    ("map_stats", Method::Unavailable("map_stats")),
    ("map_clear", Method::Unavailable("map_clear")),
    ("shared_poll_publish", Method::Unavailable("shared_poll_publish")),
];

impl Method {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| *name)
    }

    /// The method called `name`.
    ///
    /// # Errors
    /// `MethodNotFound` (104), naming it.
    pub(super) fn from_name(name: &str) -> Result<Method, ApiError> {
        let found = METHODS.iter().find(|(known, _)| *known == name);
        found.map(|(_, method)| *method).ok_or_else(|| ApiError::Refused {
            error: ClientError::MethodNotFound,
            detail: format!("{name:?}"),
        })
    }
}

/// Carries out one method with the parameters `params`, a JSON object.
///
/// # Errors
/// `Malformed` if `params` is not what the method takes; else what the method fails with.
pub(super) async fn call(api: &Arc<Api>, method: Method, params: &[u8]) -> Outcome {
    match method {
        Method::Publish => raw(&publish::publish(api, read(params)?).await?),
        Method::Broadcast => raw(&publish::broadcast(api, read(params)?).await?),
        Method::History => raw(&history::history(api, read(params)?).await?),
        Method::HistoryRemove => raw(&history::history_remove(api, read(params)?).await?),
        Method::Channels => raw(&cluster::channels(api, params).await?),
        Method::Info => raw(&info::info(api).await?),
        Method::Disconnect | Method::Unsubscribe | Method::Subscribe => {
            raw(&cluster::everywhere(api, method, params).await?)
        }
        Method::Unavailable(name) => {
            Err(ApiError::not_available(format!("{name} is not part of this version")))
        }
    }
}

/// Reads a method's parameters.
///
/// # Errors
/// `Malformed`, with the place.
pub(super) fn read<T: DeserializeOwned>(params: &[u8]) -> Result<T, ApiError> {
    crate::protocol::read_params(params).map_err(ApiError::Malformed)
}

/// Writes a method's result.
///
/// # Errors
/// Internal: our own types can be written, so this is our mistake.
pub(super) fn raw(result: &impl Serialize) -> Outcome {
    serde_json::value::to_raw_value(result).map_err(|error| ApiError::internal(error.to_string()))
}
