//! Parses and checks the request that opens a connection, and writes the response. Pure.

mod headers;
mod parse;
mod query;
mod respond;
mod route;

pub use parse::{named_origin, read};
pub use respond::{
    Acceptance, Unavailable, bad_proxy_header, health_response, response, unavailable,
};

use crate::ids::Since;
use crate::limits::SETTING_HANDSHAKE_BYTES_MAX;
use crate::origins::{Hosts, Origins};
use crate::reason::Refusal;
use crate::settings::Settings;

/// The rules of the listener.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Pages that may connect.
    pub origins: Origins,
    /// Names by which clients may address the server.
    pub hosts: Hosts,
    /// Path that requests may have in front of the paths of this server; "" for none.
    pub path_prefix: String,
    /// Maximum bytes of a request head.
    pub head_bytes_max: usize,
    /// Whether `GET /echo` exists.
    pub echo: bool,
}

impl Rules {
    /// Returns the rules of a node with these settings.
    pub fn new(settings: &Settings) -> Rules {
        Rules {
            origins: Origins::new(settings),
            hosts: Hosts::new(settings),
            path_prefix: settings.server.path_prefix.clone(),
            head_bytes_max: settings.client.handshake_bytes_max,
            echo: settings.echo,
        }
    }
}

impl Default for Rules {
    /// Requests without an `Origin` header or from the same host, of the highest length.
    fn default() -> Rules {
        Rules {
            origins: Origins::default(),
            hosts: Hosts::default(),
            path_prefix: String::new(),
            head_bytes_max: SETTING_HANDSHAKE_BYTES_MAX,
            echo: false,
        }
    }
}

/// The result of reading a request head.
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// The request opens a WebSocket connection.
    Upgrade(Upgrade),
    /// The request is refused, and the connection is closed.
    Respond(Response),
    /// The request is a health check. [`health_response`] ends the connection.
    Health(Probe),
}

/// The method of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `GET`.
    Get,
    /// `HEAD`: only the head of the response is requested.
    Head,
    /// `OPTIONS`, which load balancers use if they are not told a path.
    Options,
}

/// An accepted upgrade.
#[derive(Debug, PartialEq)]
pub struct Upgrade {
    /// The requested endpoint.
    pub endpoint: Endpoint,
    /// The response.
    pub acceptance: Acceptance,
    /// Number of bytes of the request. Frames follow it.
    pub consumed: usize,
}

/// An HTTP response that refuses a request and ends the connection.
#[derive(Debug, PartialEq)]
pub struct Response {
    /// The reason, with the status, for metrics and tests.
    pub reason: Refusal,
    /// Head and body.
    pub bytes: Vec<u8>,
}

/// The meaning of a path and its query.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoint {
    /// Centrifugo's client protocol.
    Centrifugo {
        /// Whether heartbeats are WebSocket pings instead of pings of the protocol.
        frame_pings: bool,
        /// Whether the Protobuf form was requested. The server refuses it after the first message
        /// (3506), because SDKs would retry a refused handshake forever.
        protobuf: bool,
    },
    /// Plain WebSocket, or the error in its query. It is sent in a close frame, because pages can't
    /// read the status or body of a refused upgrade.
    Plain(Result<PlainRequest, &'static str>),
    /// Every message is sent back.
    Echo,
}

/// The query of `/ws`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlainRequest {
    /// Channels to subscribe to, without repeats, each with the position to recover from.
    pub channels: Vec<(String, Option<Since>)>,
    /// Whether to wrap each publication in JSON.
    pub envelope: bool,
    /// Whether to send messages that show that the connection is alive.
    pub heartbeat: bool,
    /// Number of newest publications to send first in channels without a position.
    pub last: usize,
    /// The channel to which messages of the client are published.
    pub publish: Option<String>,
}
