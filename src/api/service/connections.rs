//! Commands for connections: close them, or begin and end their subscriptions.

use super::shared::Service;
use crate::api::error::ApiError;
use crate::channel::ChannelName;
use crate::ids::{ConnectionId, Since};
use crate::limits::{ANSWER_TIMEOUT, API_BATCH_MAX, CLOSE_REASON_BYTES_MAX, DISCONNECT_CODES};
use crate::mesh::{Addressed, ControlRequest, ShardMail, Target};
use crate::reason::CloseReason;

/// The text of a close with a code of the application but without a text.
const DISCONNECT_TEXT: &str = "disconnect";

/// A command for a selection of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) enum ConnectionsCommand {
    /// Close connections.
    Disconnect {
        whose: Selection,
        /// Code and text of the close frame.
        close: Close,
        /// Ids of clients that stay connected.
        spared: Vec<String>,
    },
    /// End subscriptions.
    Unsubscribe {
        whose: Selection,
        /// The channel; empty means all channels.
        channel: String,
    },
    /// Begin subscriptions.
    Subscribe {
        whose: Selection,
        channel: String,
        /// Their last position, if missed publications are requested.
        recover: Option<Since>,
    },
}

/// A selection of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Selection {
    /// The user of the connections; empty means anonymous ones.
    pub(in crate::api) user: String,
    /// Only the client with this id; empty means all clients of the user.
    pub(in crate::api) client: String,
    /// Only the client with this session. The transports that have sessions are not supported.
    pub(in crate::api) session: String,
}

/// Code and text of a close frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Close {
    /// The code; 0 means the server's default.
    pub(in crate::api) code: u16,
    /// The text; empty means the server's default.
    pub(in crate::api) reason: String,
}

/// Carries out `command` on this node.
///
/// # Errors
/// 107 for an invalid channel, code or text; 102 for an unknown namespace.
pub(super) async fn own(service: &Service, command: &ConnectionsCommand) -> Result<(), ApiError> {
    match request(service, command)? {
        Some(request) => ask(service, request).await,
        None => Ok(()),
    }
}

/// Converts the command to a request to shards. `None` if it can concern no connection of this
/// node.
fn request(
    service: &Service,
    command: &ConnectionsCommand,
) -> Result<Option<ControlRequest>, ApiError> {
    Ok(match command {
        ConnectionsCommand::Disconnect { whose, close, spared } => {
            let (code, text) = close_frame(close)?;
            if spared.len() > API_BATCH_MAX {
                let count = spared.len();
                let detail =
                    format!("whitelist has {count} clients; the maximum is {API_BATCH_MAX}");
                return Err(ApiError::bad_request(detail));
            }
            let whitelist = spared.iter().filter_map(|client| service.connection(client)).collect();
            let target = target(service, whose);
            target.map(|target| ControlRequest::Disconnect { target, whitelist, code, text })
        }
        ConnectionsCommand::Unsubscribe { whose, channel } => {
            if !channel.is_empty() {
                service.resolve(channel)?;
            }
            let channel = (!channel.is_empty()).then(|| ChannelName::new(channel));
            target(service, whose).map(|target| ControlRequest::Unsubscribe { target, channel })
        }
        ConnectionsCommand::Subscribe { whose, channel, recover } => {
            service.resolve(channel)?;
            let (channel, recover) = (ChannelName::new(channel), *recover);
            let target = target(service, whose);
            target.map(|target| ControlRequest::Subscribe { target, channel, recover })
        }
    })
}

/// Returns code and text for the close frame. SDKs treat empty and JSON texts differently.
fn close_frame(close: &Close) -> Result<(u16, Box<str>), ApiError> {
    let forced = CloseReason::ForceDisconnect.details();
    let code = if close.code == 0 { forced.code } else { close.code };
    let text = close.reason.as_str();
    if !DISCONNECT_CODES.contains(&code) {
        let detail = format!("disconnect.code is {code}; use 3000 to 4999");
        return Err(ApiError::bad_request(detail));
    }
    if text.len() > CLOSE_REASON_BYTES_MAX {
        let bytes = text.len();
        let detail =
            format!("disconnect.reason is {bytes} bytes; the maximum is {CLOSE_REASON_BYTES_MAX}");
        return Err(ApiError::bad_request(detail));
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        let detail =
            format!("disconnect.reason {text:?} is valid JSON, which clients treat differently");
        return Err(ApiError::bad_request(detail));
    }
    let mut known = CloseReason::ALL.iter().map(|reason| reason.details());
    let known = known.find(|known| known.code == code);
    let standard = known.map_or(DISCONNECT_TEXT, |known| known.text);
    Ok((code, Box::from(if text.is_empty() { standard } else { text })))
}

/// Returns the selected connections. `None` if there can be none, because the client id does not
/// belong to this node, or because a session is given.
fn target(service: &Service, whose: &Selection) -> Option<Target> {
    if !whose.session.is_empty() {
        return None;
    }
    let user = Box::from(whose.user.as_str());
    if whose.client.is_empty() {
        return Some(Target { user, connection: None });
    }
    Some(Target { user, connection: Some(service.connection(&whose.client)?) })
}

/// Sends the request to the one shard that has the connection, or to all shards.
async fn ask(service: &Service, request: ControlRequest) -> Result<(), ApiError> {
    match connection(&request) {
        Some(id) => {
            let make = |ticket| Addressed::Shard(id.shard, ShardMail::Control { ticket, request });
            service.courier().request(make).await?;
        }
        None => {
            service.courier().request_all(&request, ANSWER_TIMEOUT).await?;
        }
    }
    Ok(())
}

/// Returns the connection of a request that concerns only one.
fn connection(request: &ControlRequest) -> Option<ConnectionId> {
    match request {
        ControlRequest::Disconnect { target, .. }
        | ControlRequest::Unsubscribe { target, .. }
        | ControlRequest::Subscribe { target, .. } => target.connection,
        ControlRequest::Channels { .. } | ControlRequest::Drain { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_has_a_code_of_applications_and_a_text_that_clients_take_as_text() {
        let frame =
            |code: u16, reason: &str| close_frame(&Close { code, reason: reason.to_owned() });
        assert_eq!(close_frame(&Close::default()), Ok((3503, Box::from("force disconnect"))));
        assert_eq!(frame(4100, ""), Ok((4100, Box::from("disconnect"))));
        assert_eq!(frame(3001, ""), Ok((3001, Box::from("shutdown"))));
        assert_eq!(frame(4999, "bye"), Ok((4999, Box::from("bye"))));
        for (code, text) in [(1000, ""), (2999, ""), (5000, ""), (4000, "404"), (4000, "{}")] {
            assert!(frame(code, text).is_err(), "{code} {text}");
        }
        assert!(frame(4000, &"x".repeat(CLOSE_REASON_BYTES_MAX)).is_ok());
        assert!(frame(4000, &"x".repeat(CLOSE_REASON_BYTES_MAX + 1)).is_err());
    }
}
