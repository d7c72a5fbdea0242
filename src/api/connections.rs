//! `disconnect`, `unsubscribe` and `subscribe`: what the application may do to connections.

use std::sync::Arc;

use super::Api;
use super::error::ApiError;
use super::methods::Method;
use super::request::{ConnectionsRequest, DisconnectBody, Empty, StreamPosition};
use crate::channel::ChannelName;
use crate::ids::{ConnectionId, Since, SinceEpoch};
use crate::limits::API_BATCH_MAX;
use crate::limits::{ANSWER_TIMEOUT, CLOSE_REASON_BYTES_MAX};
use crate::mesh::{Addressed, ControlRequest, Target, ToShard};
use crate::reason::CloseReason;

/// Codes that an application may close with. Source: RFC 6455 §7.4.2 leaves 3000-4999.
const DISCONNECT_CODES: std::ops::RangeInclusive<u16> = 3000..=4999;

/// Text of a close whose code is not one of ours, where the application gives none.
const DISCONNECT_TEXT: &str = "disconnect";

/// Carries out one of them on this node.
///
/// # Errors
/// See each.
pub(super) async fn call(
    api: &Arc<Api>,
    method: Method,
    request: ConnectionsRequest,
) -> Result<Empty, ApiError> {
    match method {
        Method::Disconnect => disconnect(api, request).await,
        Method::Unsubscribe => unsubscribe(api, request).await,
        Method::Subscribe => subscribe(api, request).await,
        other => Err(ApiError::internal(format!("{other:?} does not concern connections"))),
    }
}

/// Closes the connections of a user, or one of them.
///
/// # Errors
/// 107 for a code or text that can't be sent.
async fn disconnect(api: &Arc<Api>, request: ConnectionsRequest) -> Result<Empty, ApiError> {
    let (code, text) = disconnect_reason(request.disconnect.as_ref())?;
    let spared = |client: &String| connection(api, client);
    if request.whitelist.len() > API_BATCH_MAX {
        let count = request.whitelist.len();
        let detail = format!("{count} clients in whitelist, where {API_BATCH_MAX} are the most");
        return Err(ApiError::bad_request(detail));
    }
    let whitelist: Vec<ConnectionId> = request.whitelist.iter().filter_map(spared).collect();
    let Some(target) = target(api, &request) else { return Ok(Empty {}) };
    let asked = ControlRequest::Disconnect { target, whitelist, code, text };
    ask(api, asked).await
}

/// Ends subscriptions of a user's connections, or of one of them, to one channel or to all.
///
/// # Errors
/// 107 for a channel that can't be one, 102 for an unknown namespace.
async fn unsubscribe(api: &Arc<Api>, request: ConnectionsRequest) -> Result<Empty, ApiError> {
    let channel = if request.channel.is_empty() {
        None
    } else {
        api.resolve(&request.channel)?;
        Some(ChannelName::new(&request.channel))
    };
    let Some(target) = target(api, &request) else { return Ok(Empty {}) };
    ask(api, ControlRequest::Unsubscribe { target, channel }).await
}

/// Subscribes a user's connections, or one of them, to a channel.
///
/// # Errors
/// 107 for a channel or position that can't be one, 102 for an unknown namespace, 108 for what is
/// not part of this version.
async fn subscribe(api: &Arc<Api>, request: ConnectionsRequest) -> Result<Empty, ApiError> {
    api.resolve(&request.channel)?;
    let absent = [
        ("data", request.data.is_some() || !request.b64data.is_empty()),
        ("info", request.info.is_some()),
        ("expire_at", request.expire_at != 0),
    ];
    if let Some((name, _)) = absent.iter().find(|(_, given)| *given) {
        let detail = format!("subscribe.{name} is not part of this version");
        return Err(ApiError::not_available(detail));
    }
    let since = |position: &StreamPosition| Since {
        epoch: SinceEpoch::from_text(&position.epoch),
        offset: position.offset,
    };
    let recover = request.recover_since.as_ref().map(since);
    let Some(target) = target(api, &request) else { return Ok(Empty {}) };
    let channel = ChannelName::new(&request.channel);
    ask(api, ControlRequest::Subscribe { target, channel, recover }).await
}

/// Code and text for the close frame. SDKs read an empty text, or one that is JSON, differently.
fn disconnect_reason(body: Option<&DisconnectBody>) -> Result<(u16, Box<str>), ApiError> {
    let forced = CloseReason::ForceDisconnect.row();
    let (code, text) = match body {
        Some(body) if body.code != 0 => (body.code, body.reason.as_str()),
        Some(body) => (forced.code, body.reason.as_str()),
        None => (forced.code, ""),
    };
    if !DISCONNECT_CODES.contains(&code) {
        let detail = format!("disconnect.code {code}, where 3000 to 4999 are an application's");
        return Err(ApiError::bad_request(detail));
    }
    if text.len() > CLOSE_REASON_BYTES_MAX {
        let bytes = text.len();
        let detail = format!(
            "a disconnect.reason of {bytes} bytes, where {CLOSE_REASON_BYTES_MAX} fit a close frame"
        );
        return Err(ApiError::bad_request(detail));
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        let detail = format!("disconnect.reason {text:?} is JSON, which clients read as their own");
        return Err(ApiError::bad_request(detail));
    }
    let known = CloseReason::ALL.iter().map(|reason| reason.row()).find(|row| row.code == code);
    let standard = known.map_or(DISCONNECT_TEXT, |row| row.text);
    Ok((code, Box::from(if text.is_empty() { standard } else { text })))
}

/// The connections that are meant; absent if none can be: the client id is not one of this node's
/// living ones, or a session is named, which only transports that this server lacks have.
fn target(api: &Api, request: &ConnectionsRequest) -> Option<Target> {
    if !request.session.is_empty() {
        return None;
    }
    let user = Box::from(request.user.as_str());
    if request.client.is_empty() {
        return Some(Target { user, connection: None });
    }
    Some(Target { user, connection: Some(connection(api, &request.client)?) })
}

/// The connection that a client id means, if this node made the id.
fn connection(api: &Api, client: &str) -> Option<ConnectionId> {
    (api.identify)(&client.parse().ok()?)
}

/// Asks the one shard that has the connection, or all of them.
async fn ask(api: &Arc<Api>, request: ControlRequest) -> Result<Empty, ApiError> {
    let connection = match &request {
        ControlRequest::Disconnect { target, .. }
        | ControlRequest::Unsubscribe { target, .. }
        | ControlRequest::Subscribe { target, .. } => target.connection,
        ControlRequest::Channels { .. } | ControlRequest::Drain { .. } => None,
    };
    match connection {
        Some(id) => {
            let make =
                |ticket| Addressed::Shard(id.shard, ToShard::Control { ticket, request }.into());
            api.courier.request(make).await?;
        }
        None => {
            api.courier.request_all(&request, ANSWER_TIMEOUT).await?;
        }
    }
    Ok(Empty {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_has_a_code_of_applications_and_a_text_that_clients_take_as_text() {
        let reason = |code: u16, reason: &str| {
            disconnect_reason(Some(&DisconnectBody { code, reason: reason.to_owned() }))
        };
        let forced = (3503, Box::from("force disconnect"));
        assert_eq!(disconnect_reason(None), Ok(forced.clone()));
        assert_eq!(reason(0, ""), Ok(forced));
        assert_eq!(reason(4100, ""), Ok((4100, Box::from("disconnect"))));
        assert_eq!(reason(3001, ""), Ok((3001, Box::from("shutdown"))));
        assert_eq!(reason(4999, "bye"), Ok((4999, Box::from("bye"))));
        for (code, text) in [(1000, ""), (2999, ""), (5000, ""), (4000, "404"), (4000, "{}")] {
            assert!(reason(code, text).is_err(), "{code} {text}");
        }
        assert!(reason(4000, &"x".repeat(CLOSE_REASON_BYTES_MAX)).is_ok());
        assert!(reason(4000, &"x".repeat(CLOSE_REASON_BYTES_MAX + 1)).is_err());
    }
}
