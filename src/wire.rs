//! Turns the messages of a protocol into the bytes of a connection. Pure.
//!
//! Codecs write messages, and a `Framing` turns them into bytes. A `Wire` is one of each, so
//! two connections with the same wire receive the same bytes. For this reason, bytes that are
//! encoded once for many connections are stored by wire (`shard::delivery::channels`). To add a
//! framing, or a compression of messages, extend this file.

use std::sync::Arc;
use std::time::Duration;

use crate::channel::{ChannelView, Publication};
use crate::handshake::Endpoint;
use crate::protocol::{Codec, MessageKind, MessageSink, Protocol, Push, Reply, write_heartbeat};
use crate::reason::CloseReason;
use crate::ws::{self, Opcode, OpenFrame};

/// The way in which messages are separated in the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Each message is a WebSocket frame.
    WebSocket,
}

impl Framing {
    const COUNT: usize = 1;
}

/// The messages of a protocol in a framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The protocol of the messages, in both directions.
    pub protocol: Protocol,
    framing: Framing,
}

impl Wire {
    /// Number of wires, for tables with an entry for each.
    pub const COUNT: usize = Protocol::COUNT * Framing::COUNT;

    /// Returns the wire with messages of `protocol` in WebSocket frames.
    pub const fn websocket(protocol: Protocol) -> Wire {
        Wire { protocol, framing: Framing::WebSocket }
    }

    /// Returns the wire of the clients of an endpoint.
    pub fn of(endpoint: &Endpoint) -> Wire {
        Wire::websocket(match endpoint {
            Endpoint::Centrifugo { protobuf: true, .. } => Protocol::Protobuf,
            Endpoint::Centrifugo { .. } => Protocol::Centrifugo,
            Endpoint::Plain(Ok(request)) if request.envelope => Protocol::Envelope,
            Endpoint::Plain(_) => Protocol::Plain,
            Endpoint::Echo => Protocol::Echo,
        })
    }

    /// Returns the index of this wire in a table.
    pub const fn index(self) -> usize {
        self.protocol as usize * Framing::COUNT + self.framing as usize
    }

    /// Appends the answer to request `id` to `out`.
    ///
    /// # Errors
    /// See [`Codec::encode_reply`].
    pub fn encode_reply(
        self,
        id: u32,
        reply: &Reply<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CloseReason> {
        // A buffer that grows to 600 KB by doubling copies the same number of bytes, and needs the
        // memory twice.
        out.reserve(reply.publications().iter().map(|one| one.cost_bytes()).sum());
        self.protocol.encode_reply(id, reply, &mut self.sink(out))
    }

    /// Appends an event, which is not the answer to a request, to `out`.
    ///
    /// # Errors
    /// See [`Codec::encode_push`].
    pub fn encode_push(self, push: &Push<'_>, out: &mut Vec<u8>) -> Result<(), CloseReason> {
        self.protocol.encode_push(push, &mut self.sink(out))
    }

    /// Appends `publications` to `out`. All subscribers with this wire receive these bytes.
    pub fn encode_publications(
        self,
        channel: &ChannelView<'_>,
        publications: &[Arc<Publication>],
        out: &mut Vec<u8>,
    ) {
        self.protocol.encode_publications(channel, publications, &mut self.sink(out));
    }

    /// Appends the protocol's own ping, which the client answers with a command. Returns false if
    /// the protocol has no ping.
    pub fn encode_ping(self, out: &mut Vec<u8>) -> bool {
        self.protocol.encode_ping(&mut self.sink(out))
    }

    /// Appends a message that shows a page that the connection is alive, because browsers hide
    /// pings. The next one follows within `every`.
    pub fn encode_heartbeat(self, every: Duration, out: &mut Vec<u8>) {
        write_heartbeat(every, &mut self.sink(out));
    }

    /// Appends the framing's ping, which the client's WebSocket library answers.
    pub fn encode_frame_ping(self, out: &mut Vec<u8>) {
        match self.framing {
            Framing::WebSocket => ws::encode_ping(&[], out),
        }
    }

    /// Appends the answer to the framing's ping.
    pub fn encode_pong(self, payload: &[u8], out: &mut Vec<u8>) {
        match self.framing {
            Framing::WebSocket => ws::encode_pong(payload, out),
        }
    }

    /// Appends the end of the connection. Code 0 means neither code nor reason.
    pub fn encode_close(self, code: u16, reason: &str, out: &mut Vec<u8>) {
        match self.framing {
            Framing::WebSocket => ws::encode_close(code, reason, out),
        }
    }

    /// Returns the number of bytes from `at` to the end of the frame that contains `at`; 0 if a
    /// frame begins there. See [`ws::rest_of_frame`].
    pub fn rest_of_frame(self, bytes: &[u8], at: usize) -> usize {
        match self.framing {
            Framing::WebSocket => ws::rest_of_frame(bytes, at),
        }
    }

    fn sink(self, out: &mut Vec<u8>) -> Framed<'_> {
        Framed { framing: self.framing, out }
    }
}

/// A sink that appends each message to `out` as a frame.
struct Framed<'o> {
    framing: Framing,
    out: &'o mut Vec<u8>,
}

impl MessageSink for Framed<'_> {
    fn write(&mut self, kind: MessageKind, payload: &[u8]) {
        match self.framing {
            Framing::WebSocket => ws::encode_frame(kind.into(), payload, self.out),
        }
    }

    fn write_with(
        &mut self,
        kind: MessageKind,
        bytes_expected: usize,
        append: impl FnOnce(&mut Vec<u8>),
    ) {
        match self.framing {
            Framing::WebSocket => {
                let frame = OpenFrame::begin(kind.into(), bytes_expected, self.out);
                append(self.out);
                frame.finish(self.out);
            }
        }
    }
}

impl From<MessageKind> for Opcode {
    fn from(kind: MessageKind) -> Opcode {
        match kind {
            MessageKind::Text => Opcode::Text,
            MessageKind::Binary => Opcode::Binary,
        }
    }
}

impl From<Opcode> for MessageKind {
    fn from(opcode: Opcode) -> MessageKind {
        match opcode {
            Opcode::Text => MessageKind::Text,
            Opcode::Binary => MessageKind::Binary,
        }
    }
}

#[cfg(test)]
mod tests;
