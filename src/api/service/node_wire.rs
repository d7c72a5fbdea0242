//! The JSON that nodes exchange about the application's requests.
//!
//! Nodes of several versions run together during an upgrade. So names never change, absent fields
//! have defaults, and unknown fields are ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::channels::{ChannelsPage, ChannelsQuery};
use super::connections::{Close, ConnectionsCommand, Selection};
use super::info::{DeliveryInfo, NodeInfo};
use crate::api::error::ApiError;
use crate::ids::{Since, SinceEpoch};
use crate::mesh::RemoteCall;
use crate::reason::ClientError;

/// The text for an epoch that no server can have, because the client's text is not an epoch.
const UNKNOWN_EPOCH: &str = "_";

/// A request of another node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NodeRequest {
    /// Carry out a command for connections.
    Connections(ConnectionsCommand),
    /// List channels.
    Channels(ChannelsQuery),
}

/// Parameters of all commands for connections.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct CommandWire {
    user: String,
    channel: String,
    client: String,
    session: String,
    whitelist: Vec<String>,
    disconnect: Option<CloseWire>,
    recover_since: Option<SinceWire>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct CloseWire {
    code: u16,
    reason: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct SinceWire {
    offset: u64,
    epoch: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct QueryWire {
    pattern: String,
    limit: usize,
    cursor: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct PageWire {
    channels: BTreeMap<String, ChannelWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ChannelWire {
    num_clients: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct NodeWire {
    uid: String,
    name: String,
    version: String,
    num_clients: u64,
    num_users: u64,
    num_channels: u64,
    num_subs: u64,
    uptime: u64,
    process: ProcessWire,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    delivery: DeliveryInfo,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ProcessWire {
    cpu: f64,
    rss: u64,
}

#[derive(Serialize)]
struct Done {}

/// `{"result":{..}}` or `{"error":{..}}`.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum ReplyOut<T> {
    Result(T),
    Error(ErrorWire),
}

/// The same, for parsing.
#[derive(Deserialize)]
struct ReplyIn<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ErrorWire>,
}

#[derive(Serialize, Deserialize)]
struct ErrorWire {
    code: u16,
    message: String,
}

/// Returns the request to other nodes to carry out `command`.
///
/// # Errors
/// Internal, if the request can't be serialized. That would be a bug.
pub(super) fn request_of_command(command: &ConnectionsCommand) -> Result<RemoteCall, ApiError> {
    let of = |whose: &Selection| CommandWire {
        user: whose.user.clone(),
        client: whose.client.clone(),
        session: whose.session.clone(),
        ..CommandWire::default()
    };
    let (method, wire) = match command {
        ConnectionsCommand::Disconnect { whose, close, spared } => {
            let Close { code, reason } = close.clone();
            let (whitelist, disconnect) = (spared.clone(), Some(CloseWire { code, reason }));
            ("disconnect", CommandWire { whitelist, disconnect, ..of(whose) })
        }
        ConnectionsCommand::Unsubscribe { whose, channel } => {
            ("unsubscribe", CommandWire { channel: channel.clone(), ..of(whose) })
        }
        ConnectionsCommand::Subscribe { whose, channel, recover } => {
            let recover_since = recover.map(SinceWire::from);
            ("subscribe", CommandWire { channel: channel.clone(), recover_since, ..of(whose) })
        }
    };
    call(method, &wire)
}

/// Returns the request to other nodes to list their channels.
///
/// # Errors
/// Internal, if the request can't be serialized. That would be a bug.
pub(super) fn request_of_query(query: &ChannelsQuery) -> Result<RemoteCall, ApiError> {
    let ChannelsQuery { pattern, after, limit } = query.clone();
    call("channels", &QueryWire { pattern, limit, cursor: after })
}

fn call(method: &str, params: &impl Serialize) -> Result<RemoteCall, ApiError> {
    let params = serde_json::to_string(params);
    let params = params.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(RemoteCall { method: method.into(), params: params.into_boxed_str() })
}

/// Parses a request.
///
/// # Errors
/// `MethodNotFound` for a method that this version does not know, 107 for invalid parameters.
pub(super) fn read_request(call: &RemoteCall) -> Result<NodeRequest, ApiError> {
    if &*call.method == "channels" {
        let QueryWire { pattern, limit, cursor } = read_params(call)?;
        return Ok(NodeRequest::Channels(ChannelsQuery { pattern, after: cursor, limit }));
    }
    let known = ["disconnect", "unsubscribe", "subscribe"];
    if !known.contains(&&*call.method) {
        let detail = format!("{:?}", call.method);
        return Err(ApiError::Refused { error: ClientError::MethodNotFound, detail });
    }
    let wire: CommandWire = read_params(call)?;
    let (channel, recover) = (wire.channel, wire.recover_since.map(Since::from));
    let whose = Selection { user: wire.user, client: wire.client, session: wire.session };
    Ok(NodeRequest::Connections(match &*call.method {
        "disconnect" => {
            let CloseWire { code, reason } = wire.disconnect.unwrap_or_default();
            let close = Close { code, reason };
            ConnectionsCommand::Disconnect { whose, close, spared: wire.whitelist }
        }
        "unsubscribe" => ConnectionsCommand::Unsubscribe { whose, channel },
        _ => ConnectionsCommand::Subscribe { whose, channel, recover },
    }))
}

fn read_params<T: DeserializeOwned>(call: &RemoteCall) -> Result<T, ApiError> {
    serde_json::from_str(&call.params).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Serializes the reply to a command.
pub(super) fn write_done(outcome: Result<(), ApiError>) -> Box<str> {
    write_reply(outcome.map(|()| Done {}))
}

/// Serializes the reply to a query.
pub(super) fn write_page(outcome: Result<ChannelsPage, ApiError>) -> Box<str> {
    write_reply(outcome.map(|page| {
        let wire = |(name, num_clients)| (name, ChannelWire { num_clients });
        let channels = page.channels.into_iter().map(wire).collect();
        PageWire { channels, cursor: page.cursor }
    }))
}

fn write_reply<T: Serialize>(outcome: Result<T, ApiError>) -> Box<str> {
    let reply = match outcome {
        Ok(result) => ReplyOut::Result(result),
        Err(error) => {
            let code = error.error().details().code;
            ReplyOut::Error(ErrorWire { code, message: error.message() })
        }
    };
    let text = serde_json::to_string(&reply);
    text.unwrap_or_else(|_| r#"{"error":{"code":100,"message":"internal server error"}}"#.into())
        .into_boxed_str()
}

/// Parses the reply to a command.
///
/// # Errors
/// The error of the other node; internal if the reply is invalid.
pub(super) fn read_done(body: &str) -> Result<(), ApiError> {
    read_reply::<serde::de::IgnoredAny>(body).map(drop)
}

/// Parses the reply to a query.
///
/// # Errors
/// As [`read_done`].
pub(super) fn read_page(body: &str) -> Result<ChannelsPage, ApiError> {
    let PageWire { channels, cursor } = read_reply(body)?;
    let channels = channels.into_iter().map(|(name, channel)| (name, channel.num_clients));
    Ok(ChannelsPage { channels: channels.collect(), cursor })
}

fn read_reply<T: DeserializeOwned>(body: &str) -> Result<T, ApiError> {
    let malformed = |error| ApiError::internal(format!("invalid reply of another node: {error}"));
    let reply: ReplyIn<'_> = serde_json::from_str(body).map_err(malformed)?;
    if let Some(error) = reply.error {
        let known = ClientError::ALL.iter().find(|known| known.details().code == error.code);
        return Err(ApiError::Refused {
            error: known.copied().unwrap_or(ClientError::Internal),
            detail: format!("from another node: {}", error.message),
        });
    }
    serde_json::from_str(reply.result.map_or("{}", RawValue::get)).map_err(malformed)
}

/// Serializes the description of a node.
pub(super) fn write_node(node: &NodeInfo) -> String {
    let wire = NodeWire {
        uid: node.uid.clone(),
        name: node.name.clone(),
        version: node.version.clone(),
        num_clients: node.connections,
        num_users: 0,
        num_channels: node.channels,
        num_subs: node.subscriptions,
        uptime: node.uptime.as_secs(),
        process: ProcessWire { cpu: node.cpu_percent, rss: node.resident_bytes },
        delivery: node.delivery.clone(),
    };
    // This can't fail: only maps with keys other than text can't be serialized.
    serde_json::to_string(&wire).unwrap_or_default()
}

/// Parses the description of another node. `None` if it is invalid.
pub(super) fn read_node(body: &str) -> Option<NodeInfo> {
    let wire: NodeWire = serde_json::from_str(body).ok()?;
    Some(NodeInfo {
        uid: wire.uid,
        name: wire.name,
        version: wire.version,
        connections: wire.num_clients,
        channels: wire.num_channels,
        subscriptions: wire.num_subs,
        uptime: Duration::from_secs(wire.uptime),
        cpu_percent: wire.process.cpu,
        resident_bytes: wire.process.rss,
        delivery: wire.delivery,
    })
}

impl From<Since> for SinceWire {
    fn from(since: Since) -> SinceWire {
        let epoch = match since.epoch {
            SinceEpoch::Any => String::new(),
            SinceEpoch::Exactly(epoch) => epoch.to_string(),
            SinceEpoch::Unknown => UNKNOWN_EPOCH.to_owned(),
        };
        SinceWire { offset: since.offset, epoch }
    }
}

impl From<SinceWire> for Since {
    fn from(wire: SinceWire) -> Since {
        Since { epoch: SinceEpoch::from_text(&wire.epoch), offset: wire.offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    fn whose() -> Selection {
        Selection { user: "u".to_owned(), client: "c".to_owned(), session: "s".to_owned() }
    }

    /// Checks that `request` is written as `text`, and parsed back to the same value.
    fn check(call: Result<RemoteCall, ApiError>, text: &str, request: NodeRequest) {
        let call = call.expect("it can be written");
        assert_eq!(format!("{} {}", call.method, call.params), text);
        assert_eq!(read_request(&call), Ok(request));
    }

    #[test]
    fn requests_are_written_as_nodes_of_all_versions_read_them() {
        let close = Close { code: 4000, reason: "bye".to_owned() };
        let spared = vec!["x".to_owned()];
        let command = ConnectionsCommand::Disconnect { whose: whose(), close, spared };
        let text = concat!(
            r#"disconnect {"user":"u","channel":"","client":"c","session":"s","whitelist":["x"],"#,
            r#""disconnect":{"code":4000,"reason":"bye"},"recover_since":null}"#
        );
        check(request_of_command(&command), text, NodeRequest::Connections(command));
        for (epoch, spelling) in [
            (SinceEpoch::Any, ""),
            (SinceEpoch::Exactly(Epoch::new(0xe)), "e"),
            (SinceEpoch::Unknown, "_"),
        ] {
            let recover = Some(Since { epoch, offset: 4 });
            let channel = "a".to_owned();
            let command = ConnectionsCommand::Subscribe { whose: whose(), channel, recover };
            let text = format!(
                concat!(
                    r#"subscribe {{"user":"u","channel":"a","client":"c","session":"s","#,
                    r#""whitelist":[],"disconnect":null,"#,
                    r#""recover_since":{{"offset":4,"epoch":"{}"}}}}"#
                ),
                spelling
            );
            check(request_of_command(&command), &text, NodeRequest::Connections(command));
        }
        let channel = String::new();
        let command = ConnectionsCommand::Unsubscribe { whose: whose(), channel };
        let text = concat!(
            r#"unsubscribe {"user":"u","channel":"","client":"c","session":"s","#,
            r#""whitelist":[],"disconnect":null,"recover_since":null}"#
        );
        check(request_of_command(&command), text, NodeRequest::Connections(command));
        let (pattern, after) = ("p*".to_owned(), "a".to_owned());
        let query = ChannelsQuery { pattern, after, limit: 7 };
        let text = r#"channels {"pattern":"p*","limit":7,"cursor":"a"}"#;
        check(request_of_query(&query), text, NodeRequest::Channels(query));
        let other = RemoteCall { method: "refresh".into(), params: "{}".into() };
        let error = read_request(&other).expect_err("no such request");
        assert_eq!(error.error(), ClientError::MethodNotFound);
    }

    #[test]
    fn replies_are_read_as_a_result_or_an_error() {
        let text = r#"{"result":{"channels":{"a":{"num_clients":2}},"cursor":"a"}}"#;
        let page = read_page(text).expect("a page");
        assert_eq!(&*write_page(Ok(page)), text);
        assert_eq!(read_done(r#"{"result":{}}"#), Ok(()));
        assert_eq!(&*write_done(Ok(())), r#"{"result":{}}"#);
        let busy = write_done(Err(ApiError::Busy));
        assert_eq!(&*busy, r#"{"error":{"code":111,"message":"too many requests"}}"#);
        let error = read_page(&busy).expect_err("an error");
        assert_eq!(error.error(), ClientError::TooManyRequests);
        assert!(read_page("nonsense").is_err());
    }

    #[test]
    fn a_node_describes_itself_as_nodes_of_all_versions_read_it() {
        let node = NodeInfo {
            uid: "u".to_owned(),
            name: "n".to_owned(),
            version: "1.0".to_owned(),
            connections: 1,
            channels: 2,
            subscriptions: 3,
            uptime: Duration::from_secs(4),
            cpu_percent: 0.5,
            resident_bytes: 6,
            delivery: DeliveryInfo::new(),
        };
        let text = write_node(&node);
        let expected = concat!(
            r#"{"uid":"u","name":"n","version":"1.0","num_clients":1,"num_users":0,"#,
            r#""num_channels":2,"num_subs":3,"uptime":4,"process":{"cpu":0.5,"rss":6}}"#
        );
        assert_eq!(text, expected);
        assert_eq!(read_node(&text), Some(node.clone()));
        let delivery = DeliveryInfo::from([("10s".to_owned(), Default::default())]);
        let node = NodeInfo { delivery, ..node };
        assert_eq!(read_node(&write_node(&node)), Some(node));
        assert_eq!(read_node("nonsense"), None);
    }
}
