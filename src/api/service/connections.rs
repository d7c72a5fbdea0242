//! What the application may do to connections: close them, end or begin their subscriptions.

use super::shared::Service;
use crate::api::error::ApiError;
use crate::channel::ChannelName;
use crate::ids::{ConnectionId, Since};
use crate::limits::{ANSWER_TIMEOUT, API_BATCH_MAX, CLOSE_REASON_BYTES_MAX, DISCONNECT_CODES};
use crate::mesh::{Addressed, ControlRequest, Target, ToShard};
use crate::reason::CloseReason;

/// Text of a close whose code is not one of ours, where the application gives none.
const DISCONNECT_TEXT: &str = "disconnect";

/// What is to be done to which connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) enum ConnectionsCommand {
    /// Close them.
    Disconnect {
        /// The connections.
        whose: Selection,
        /// What the close frame says.
        close: Close,
        /// Ids of clients that are not concerned.
        spared: Vec<String>,
    },
    /// End subscriptions.
    Unsubscribe {
        /// The connections.
        whose: Selection,
        /// Empty means all channels.
        channel: String,
    },
    /// Begin subscriptions.
    Subscribe {
        /// The connections.
        whose: Selection,
        /// The channel.
        channel: String,
        /// Where they stand, if what they missed is wanted.
        recover: Option<Since>,
    },
}

/// Connections as an application names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Selection {
    /// Those of this user; empty means anonymous ones.
    pub(in crate::api) user: String,
    /// Only the one with this id; empty means all of the user's.
    pub(in crate::api) client: String,
    /// Only the one with this session. Only transports that this server lacks have sessions.
    pub(in crate::api) session: String,
}

/// What a close frame is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Close {
    /// The code; 0 leaves it to the server.
    pub(in crate::api) code: u16,
    /// The text; empty leaves it to the server.
    pub(in crate::api) reason: String,
}

/// Carries out `command` on this node.
///
/// # Errors
/// 107 for a channel, code or text that can't be one, 102 for an unknown namespace.
pub(super) async fn own(service: &Service, command: &ConnectionsCommand) -> Result<(), ApiError> {
    match request(service, command)? {
        Some(request) => ask(service, request).await,
        None => Ok(()),
    }
}

/// What shards are asked for; `None` if no connection of this node can be meant.
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
                    format!("{count} clients to be spared, where {API_BATCH_MAX} are the most");
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

/// Code and text for the close frame. SDKs read an empty text, or one that is JSON, differently.
fn close_frame(close: &Close) -> Result<(u16, Box<str>), ApiError> {
    let forced = CloseReason::ForceDisconnect.row();
    let code = if close.code == 0 { forced.code } else { close.code };
    let text = close.reason.as_str();
    if !DISCONNECT_CODES.contains(&code) {
        let detail = format!("a close with code {code}, where 3000 to 4999 are an application's");
        return Err(ApiError::bad_request(detail));
    }
    if text.len() > CLOSE_REASON_BYTES_MAX {
        let bytes = text.len();
        let detail = format!(
            "a close with a reason of {bytes} bytes, where {CLOSE_REASON_BYTES_MAX} are allowed"
        );
        return Err(ApiError::bad_request(detail));
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        let detail =
            format!("the reason {text:?} of a close is JSON, which clients read as their own");
        return Err(ApiError::bad_request(detail));
    }
    let known = CloseReason::ALL.iter().map(|reason| reason.row()).find(|row| row.code == code);
    let standard = known.map_or(DISCONNECT_TEXT, |row| row.text);
    Ok((code, Box::from(if text.is_empty() { standard } else { text })))
}

/// The connections that are meant; `None` if there can be none: the client id is not one of this
/// node's living ones, or a session is named.
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

/// Asks the one shard that has the connection, or all of them.
async fn ask(service: &Service, request: ControlRequest) -> Result<(), ApiError> {
    match connection(&request) {
        Some(id) => {
            let make =
                |ticket| Addressed::Shard(id.shard, ToShard::Control { ticket, request }.into());
            service.courier().request(make).await?;
        }
        None => {
            service.courier().request_all(&request, ANSWER_TIMEOUT).await?;
        }
    }
    Ok(())
}

/// The one connection that a request concerns.
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
