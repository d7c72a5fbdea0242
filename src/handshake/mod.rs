//! The request that opens a connection: parsed, checked, answered. Pure.

mod parse;
mod query;
mod origin;
mod respond;

pub use parse::read;
pub use respond::{Acceptance, Unavailable, health_response, response, unavailable};

use crate::ids::Since;

/// What the listener accepts.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Origins that browsers may come from, as `scheme://host[:port]`, a `*` in a part matching
    /// any text. Empty: only requests without an `Origin` header, or of the same host.
    pub allowed_origins: Vec<String>,
    /// `GET /echo` exists.
    pub echo: bool,
}

/// What a request head turned out to be.
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// A WebSocket connection begins.
    Upgrade(Upgrade),
    /// The request is refused, and the connection closed.
    Respond(Response),
    /// A load balancer asks how the node is: [`health_response`] ends the connection.
    Health {
        /// It asks for the head alone.
        head_only: bool,
    },
}

/// An accepted upgrade.
#[derive(Debug, PartialEq)]
pub struct Upgrade {
    /// What the client wants to speak.
    pub endpoint: Endpoint,
    /// What it is answered with.
    pub acceptance: Acceptance,
    /// Bytes of the request; what follows are frames.
    pub consumed: usize,
}

/// An HTTP answer that ends the connection.
#[derive(Debug, PartialEq)]
pub struct Response {
    /// The status, for metrics and tests.
    pub status: u16,
    /// Head and body.
    pub bytes: Vec<u8>,
}

/// What a path and its query ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoint {
    /// Centrifugo's client protocol.
    Centrifugo {
        /// Heartbeats are WebSocket pings, not the protocol's own.
        frame_pings: bool,
        /// The protobuf form was asked for, which this server refuses after the upgrade (3506): a
        /// refused handshake would be tried again for ever.
        protobuf: bool,
    },
    /// Plain WebSocket, or what is wrong with its query: a page can read the reason of a close
    /// frame, but neither the status nor the body of a refused upgrade.
    Plain(Result<PlainRequest, &'static str>),
    /// Every message comes back.
    Echo,
}

/// The query of `/ws`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlainRequest {
    /// Channels to subscribe to, each once, with the position to recover from.
    pub channels: Vec<(String, Option<Since>)>,
    /// Wrap each publication in JSON.
    pub envelope: bool,
    /// Send messages that show that the connection lives.
    pub heartbeat: bool,
    /// Number of the newest publications to send first in channels without a position.
    pub last: usize,
    /// Publish the client's messages to this channel.
    pub publish: Option<String>,
}
