//! WebSocket framing (RFC 6455 §5): turns bytes into events, and messages into frames. Pure.
//!
//! Invariants: a connection needs no state between its messages, no memory is allocated for bytes
//! that are only announced, and no frame from a peer can cause a panic.

mod decoder;
mod header;
mod mask;
mod utf8;
mod encode;

pub use decoder::Decoder;
pub use encode::{
    FrameHeader, OpenFrame, encode_close, encode_frame, encode_ping, encode_pong, frame_header,
    rest_of_frame,
};

/// The type of a message. RFC 6455 §5.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8 text.
    Text,
    /// Bytes.
    #[default]
    Binary,
}

/// Limits for messages of a client.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum size of a message in bytes, with all its fragments.
    pub message_bytes_max: usize,
    /// Maximum number of frames of one message, including empty ones.
    pub fragments_max: u32,
}

/// The meaning of the next bytes of a connection. Borrows the input or the decoder.
#[derive(Debug, PartialEq)]
pub enum Incoming<'a> {
    /// A complete message.
    Message {
        /// The type of the message.
        opcode: Opcode,
        /// The unmasked bytes, which are valid UTF-8 if the message is text.
        data: &'a [u8],
    },
    /// A ping. The response is a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close frame with an allowed code, or with none.
    Close(Option<u16>),
}

/// One step of decoding.
#[derive(Debug, PartialEq)]
pub struct Step<'a> {
    /// Number of bytes consumed at the front of the input.
    pub consumed: usize,
    /// Number of frames that ended in these bytes. Rate limits need it, because continuations cause
    /// no event.
    pub frames: u32,
    /// The event, or `None` if nothing is complete yet.
    pub event: Option<Incoming<'a>>,
}
