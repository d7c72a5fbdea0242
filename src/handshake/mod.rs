//! Parses and checks the request that opens a connection, and writes the response. Pure.

mod parse;
mod query;
mod origin;
mod respond;

pub use parse::read;
pub use respond::{
    Acceptance, Unavailable, bad_proxy_header, health_response, response, unavailable,
};

use crate::ids::Since;

/// The rules of the listener.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Allowed origins, as `scheme://host[:port]`; a `*` in a part matches any text. If empty, only
    /// requests without an `Origin` header or from the same host are allowed.
    pub allowed_origins: Vec<String>,
    /// Whether `GET /echo` exists.
    pub echo: bool,
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
    Health {
        /// Whether only the head of the response is requested.
        head_only: bool,
    },
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

/// An HTTP response that ends the connection.
#[derive(Debug, PartialEq)]
pub struct Response {
    /// The status, for metrics and tests.
    pub status: u16,
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
        /// Whether the Protobuf form was requested. The server refuses it after the upgrade (3506),
        /// because SDKs would retry a refused handshake forever.
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
    /// Send messages that show that the connection lives.
    pub heartbeat: bool,
    /// Number of newest publications to send first in channels without a position.
    pub last: usize,
    /// The channel to which messages of the client are published.
    pub publish: Option<String>,
}
