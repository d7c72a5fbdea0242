//! WebSocket framing (RFC 6455 §5): bytes to events, messages to frames. Pure.
//!
//! Invariants: nothing is kept for a connection between its messages, nothing is allocated for
//! bytes that have only been announced, and no frame from a peer can cause a panic.

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

/// What a message is. RFC 6455 §5.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8 text.
    Text,
    /// Bytes.
    #[default]
    Binary,
}

/// Bounds of what a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest message, in bytes, all its fragments together.
    pub message_bytes_max: usize,
    /// Most frames of one message, empty ones too.
    pub fragments_max: u32,
}

/// What the next bytes of a connection mean. Borrows the input or the decoder.
#[derive(Debug, PartialEq)]
pub enum Incoming<'a> {
    /// A complete message.
    Message {
        /// What it is.
        opcode: Opcode,
        /// Its bytes, unmasked, and valid UTF-8 if it is text.
        data: &'a [u8],
    },
    /// A ping, to be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close frame. Its code is one that a peer may send, or absent.
    Close(Option<u16>),
}

/// One step of decoding.
#[derive(Debug, PartialEq)]
pub struct Step<'a> {
    /// Bytes taken from the front of the input.
    pub consumed: usize,
    /// Frames that ended within those bytes, for rate limits: continuations make no event.
    pub frames: u32,
    /// What they mean; absent if they end before anything is complete.
    pub event: Option<Incoming<'a>>,
}
