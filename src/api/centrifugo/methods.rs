//! The methods by name, and the translation of each to the service and back.

use super::reply::{CallError, CallResult, Reply, raw};
use super::request::{
    BroadcastResult, ChannelsParams, ChannelsResult, ConnectionsParams, Empty, HistoryParams,
    HistoryResult, InfoResult, PublishResult, read,
};
use crate::api::error::ApiError;
use crate::api::service::{self, Service};
use crate::channel::{ChannelView, Unfit};
use crate::protocol::PublishParams;
use crate::reason::ClientError;

/// A method that may be used in a batch: any except `batch` itself.
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
    /// A method of Centrifugo that is not supported yet.
    Unavailable(&'static str),
}

/// All methods with their names. Source: Centrifugo's server API.
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
    /// Returns the method with this name.
    ///
    /// # Errors
    /// `MethodNotFound` (104), with the name.
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
/// `Malformed` if `params` is invalid for the method; otherwise the error of the method.
pub(super) async fn call(service: &Service, method: Method, params: &[u8]) -> CallResult {
    match method {
        Method::Publish => publish(service, &read(params)?).await,
        Method::Broadcast => broadcast(service, &read(params)?).await,
        Method::History => history(service, &read(params)?).await,
        Method::HistoryRemove => {
            let params: HistoryParams = read(params)?;
            service::history_remove(service, &params.channel).await?;
            raw(&Empty {})
        }
        Method::Channels => {
            let params: ChannelsParams = read(params)?;
            raw(&ChannelsResult::from(service::channels(service, &params.into_query()).await?))
        }
        Method::Info => raw(&InfoResult::from(service::info(service).await?)),
        Method::Disconnect => connections(service, ConnectionsParams::disconnect, params).await,
        Method::Unsubscribe => connections(service, ConnectionsParams::unsubscribe, params).await,
        Method::Subscribe => connections(service, ConnectionsParams::subscribe, params).await,
        Method::Unavailable(name) => {
            Err(ApiError::not_available(format!("{name} is not supported yet")).into())
        }
    }
}

/// `publish`
///
/// # Errors
/// See [`service::publish`].
pub(super) async fn publish(service: &Service, params: &PublishParams) -> CallResult {
    if params.channel.is_empty() {
        return Err(ApiError::bad_request("channel is missing").into());
    }
    let published = service::publish(service, &params.channel, &params.command()?).await?;
    raw(&PublishResult::from(published))
}

/// `broadcast`
///
/// # Errors
/// See [`service::broadcast`].
pub(super) async fn broadcast(service: &Service, params: &PublishParams) -> CallResult {
    let command = params.command()?;
    let mut responses = Vec::with_capacity(params.channels.len());
    for result in service::broadcast(service, &params.channels, &command).await? {
        let outcome = match result {
            Ok(published) => raw(&PublishResult::from(published)),
            Err(error) => Err(CallError::Api(error)),
        };
        responses.push(raw(&Reply::from(outcome))?);
    }
    raw(&BroadcastResult { responses })
}

async fn history(service: &Service, params: &HistoryParams) -> CallResult {
    let found = service::history(service, &params.channel, params.page()).await?;
    let (name, data) = (params.channel.as_str(), found.data);
    let view = ChannelView { name, data, has_history: true, epoch: found.top.epoch };
    raw(&HistoryResult::new(&view, &found)?)
}

/// Carries out a method for connections, whose parameters `command` converts.
async fn connections(
    service: &Service,
    command: fn(ConnectionsParams) -> Result<service::ConnectionsCommand, Unfit>,
    params: &[u8],
) -> CallResult {
    service::carry_out(service, &command(read(params)?)?).await?;
    raw(&Empty {})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::counted::COUNTED;

    #[test]
    fn every_method_is_counted_by_its_name() {
        for (name, _) in METHODS {
            assert!(COUNTED.contains(&name), "{name} is missing in COUNTED");
        }
    }
}
