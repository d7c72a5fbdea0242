//! From the messages of a protocol to the bytes of a connection. Pure.
//!
//! Codecs write messages, and a [`Framing`] makes bytes of them. A [`Wire`] names one of each, so
//! two connections with the same wire are sent the same bytes. Whatever is encoded once for many
//! connections is therefore kept by wire (`shard::delivery::channels`). To add a framing, or a
//! compression of messages, extend this file.

use std::sync::Arc;
use std::time::Duration;

use crate::channel::{ChannelView, Publication};
use crate::handshake::Endpoint;
use crate::protocol::{Codec, MessageKind, MessageSink, Protocol, Push, Reply, write_heartbeat};
use crate::reason::CloseReason;
use crate::ws::{self, Opcode, OpenFrame};

/// How messages are told apart in the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Each message is a WebSocket frame.
    WebSocket,
}

impl Framing {
    const COUNT: usize = 1;
}

/// What a connection is sent: the messages of a protocol in a framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The protocol of the messages, in both directions.
    pub protocol: Protocol,
    framing: Framing,
}

impl Wire {
    /// Number of wires, for tables with a place for each.
    pub const COUNT: usize = Protocol::COUNT * Framing::COUNT;

    /// The messages of `protocol` in WebSocket frames.
    pub const fn websocket(protocol: Protocol) -> Wire {
        Wire { protocol, framing: Framing::WebSocket }
    }

    /// The wire of the clients of an endpoint.
    pub fn of(endpoint: &Endpoint) -> Wire {
        Wire::websocket(match endpoint {
            Endpoint::Centrifugo { .. } => Protocol::Centrifugo,
            Endpoint::Plain(Ok(request)) if request.envelope => Protocol::Envelope,
            Endpoint::Plain(_) => Protocol::Plain,
            Endpoint::Echo => Protocol::Echo,
        })
    }

    /// The place of this wire in a table.
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
        // A buffer that grows to 600 KB by doubling copies as much, and needs the memory twice.
        out.reserve(reply.publications().iter().map(|one| one.cost_bytes()).sum());
        self.protocol.encode_reply(id, reply, &mut self.sink(out))
    }

    /// Appends an event that nobody asked for to `out`.
    ///
    /// # Errors
    /// See [`Codec::encode_push`].
    pub fn encode_push(self, push: &Push<'_>, out: &mut Vec<u8>) -> Result<(), CloseReason> {
        self.protocol.encode_push(push, &mut self.sink(out))
    }

    /// Appends `publications` to `out`: the bytes that every subscriber with this wire gets.
    pub fn encode_publications(
        self,
        channel: &ChannelView<'_>,
        publications: &[Arc<Publication>],
        out: &mut Vec<u8>,
    ) {
        self.protocol.encode_publications(channel, publications, &mut self.sink(out));
    }

    /// Appends the protocol's own ping, which the client answers with a command. Returns false if
    /// the protocol has none.
    pub fn encode_ping(self, out: &mut Vec<u8>) -> bool {
        self.protocol.encode_ping(&mut self.sink(out))
    }

    /// Appends a message that shows a page that the connection lives: browsers hide pings. The next
    /// one comes after `every` at the latest.
    pub fn encode_heartbeat(self, every: Duration, out: &mut Vec<u8>) {
        write_heartbeat(every, &mut self.sink(out));
    }

    /// Appends the framing's ping, which the client's library answers by itself.
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

    /// Appends the end of the connection and the reason for it. Code 0 says neither.
    pub fn encode_close(self, code: u16, reason: &str, out: &mut Vec<u8>) {
        match self.framing {
            Framing::WebSocket => ws::encode_close(code, reason, out),
        }
    }

    /// Bytes from `at` on to the end of the frame of which `at` lies inside; 0 where a frame
    /// begins. See [`ws::rest_of_frame`].
    pub fn rest_of_frame(self, bytes: &[u8], at: usize) -> usize {
        match self.framing {
            Framing::WebSocket => ws::rest_of_frame(bytes, at),
        }
    }

    fn sink(self, out: &mut Vec<u8>) -> Framed<'_> {
        Framed { framing: self.framing, out }
    }
}

/// Appends each message to `out` in its frame.
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
