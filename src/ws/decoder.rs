//! The receiving side of a connection: turns bytes, in pieces of any size, into events.

use crate::reason::CloseReason;
use crate::ws::header::{self, HEADER_BYTES_MAX, Header, Kind, Unfinished};
use crate::ws::utf8::Validator;
use crate::ws::{Incoming, Limits, Opcode, Step, mask};

/// Decodes the frames of one client. A frame that is complete in the input is unmasked in place and
/// never copied. Only incomplete parts are stored, in buffers that grow with the received bytes and
/// never with the announced length.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The first bytes of an incomplete header.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: u8,
    /// The frame whose payload is incomplete.
    frame: Option<Frame>,
    /// The type of the message. It has no meaning between messages.
    opcode: Opcode,
    /// Number of frames of the message whose headers have arrived; 0 between messages.
    fragments: u32,
    text: Validator,
    /// Payload of the message so far. Between messages it is the last message.
    message: Vec<u8>,
    /// Payload of an incomplete control frame, which may be between the frames of a message.
    control: Vec<u8>,
}

/// A frame whose header is complete.
#[derive(Clone, Copy, Debug)]
struct Frame {
    header: Header,
    /// Number of received payload bytes.
    received_bytes: usize,
}

impl Frame {
    fn is_complete(&self) -> bool {
        self.received_bytes == self.header.payload_bytes
    }

    /// Whether the message is complete.
    fn ends_message(&self) -> bool {
        self.is_complete() && self.header.fin
    }
}

impl Decoder {
    /// Creates a decoder for a new connection, without allocation.
    pub const fn new() -> Decoder {
        Decoder {
            header: [0; HEADER_BYTES_MAX],
            header_bytes: 0,
            frame: None,
            opcode: Opcode::Binary,
            fragments: 0,
            text: Validator::new(),
            message: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Consumes bytes at the front of `input`, at most to the end of one frame, and returns their
    /// meaning. The caller repeats this with the remaining input until none is left. A payload in
    /// `input` is unmasked in place.
    ///
    /// # Errors
    /// The reason with which to close: `ProtocolError`, `MessageTooBig` or `InvalidUtf8`, as soon
    /// as the bytes prove a violation. The decoder must not be used afterwards.
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &Limits,
    ) -> Result<Step<'a>, CloseReason> {
        let mut consumed = 0;
        if self.frame.is_none() {
            consumed = self.next_header(input, limits)?;
        }
        let Some(frame) = &mut self.frame else {
            return Ok(Step { consumed, frames: 0, event: None });
        };
        let payload = &mut input[consumed..];
        let missing_bytes = frame.header.payload_bytes - frame.received_bytes;
        let piece_bytes = payload.len().min(missing_bytes);
        let piece = &mut payload[..piece_bytes];
        mask::apply(piece, frame.header.key, frame.received_bytes);
        frame.received_bytes += piece_bytes;
        consumed += piece_bytes;
        let frame = *frame;
        if frame.is_complete() {
            self.frame = None;
        }
        let event = match frame.header.kind {
            Kind::First(_) | Kind::Continuation => self.next_data(piece, &frame, limits)?,
            Kind::Close | Kind::Ping | Kind::Pong => self.next_control(piece, &frame)?,
        };
        Ok(Step { consumed, frames: u32::from(frame.is_complete()), event })
    }

    /// Whether the connection is between messages and no byte of the next one has arrived. Then the
    /// decoder may be dropped, and a new one can continue.
    pub const fn is_idle(&self) -> bool {
        self.header_bytes == 0 && self.frame.is_none() && self.fragments == 0
    }

    /// Returns the number of allocated bytes.
    pub const fn buffered_bytes(&self) -> usize {
        self.message.capacity() + self.control.capacity()
    }

    /// Consumes a header, or the available part of it. Returns the number of consumed bytes.
    fn next_header(&mut self, input: &[u8], limits: &Limits) -> Result<usize, CloseReason> {
        let held_bytes = usize::from(self.header_bytes);
        let unfinished = Unfinished {
            bytes: if self.fragments == 0 { 0 } else { self.message.len() },
            fragments: self.fragments,
        };
        if held_bytes == 0
            && let Some((header, header_bytes)) = header::parse(input, unfinished, limits)?
        {
            self.next_header_complete(header);
            return Ok(header_bytes);
        }
        let piece_bytes = input.len().min(HEADER_BYTES_MAX - held_bytes);
        let known_bytes = held_bytes + piece_bytes;
        self.header[held_bytes..known_bytes].copy_from_slice(&input[..piece_bytes]);
        let known = &self.header[..known_bytes];
        if let Some((header, header_bytes)) = header::parse(known, unfinished, limits)? {
            self.header_bytes = 0;
            self.next_header_complete(header);
            return Ok(header_bytes - held_bytes);
        }
        self.header_bytes = known_bytes as u8;
        Ok(piece_bytes)
    }

    fn next_header_complete(&mut self, header: Header) {
        match header.kind {
            Kind::First(opcode) => {
                self.opcode = opcode;
                self.fragments = 1;
                self.text = Validator::new();
                self.message.clear();
            }
            Kind::Continuation => self.fragments += 1,
            Kind::Close | Kind::Ping | Kind::Pong => self.control.clear(),
        }
        self.frame = Some(Frame { header, received_bytes: 0 });
    }

    fn next_data<'a>(
        &'a mut self,
        piece: &'a [u8],
        frame: &Frame,
        limits: &Limits,
    ) -> Result<Option<Incoming<'a>>, CloseReason> {
        // RFC 6455 §8.1: an endpoint MUST fail the connection on text that is not UTF-8.
        if self.opcode == Opcode::Text {
            self.text.feed(piece)?;
            if frame.ends_message() && !self.text.is_complete() {
                return Err(CloseReason::InvalidUtf8);
            }
        }
        let opcode = self.opcode;
        if !frame.ends_message() {
            self.next_data_keep(piece, frame, limits);
            return Ok(None);
        }
        self.fragments = 0;
        if self.message.is_empty() {
            return Ok(Some(Incoming::Message { opcode, data: piece }));
        }
        self.next_data_keep(piece, frame, limits);
        Ok(Some(Incoming::Message { opcode, data: &self.message }))
    }

    /// Stores a piece of a message. The buffer doubles, but not beyond the size that the message
    /// can still reach: the limit, or the end of its last frame.
    fn next_data_keep(&mut self, piece: &[u8], frame: &Frame, limits: &Limits) {
        let needed_bytes = self.message.len() + piece.len();
        let capacity = self.message.capacity();
        if needed_bytes > capacity {
            let missing_bytes = frame.header.payload_bytes - frame.received_bytes;
            let most_bytes = if frame.header.fin {
                needed_bytes + missing_bytes
            } else {
                limits.message_bytes_max.max(needed_bytes)
            };
            let wanted_bytes = needed_bytes.max(capacity * 2).min(most_bytes);
            self.message.reserve_exact(wanted_bytes - self.message.len());
        }
        self.message.extend_from_slice(piece);
    }

    fn next_control<'a>(
        &'a mut self,
        piece: &'a [u8],
        frame: &Frame,
    ) -> Result<Option<Incoming<'a>>, CloseReason> {
        let cut = !frame.is_complete() || !self.control.is_empty();
        if cut {
            self.control.extend_from_slice(piece);
        }
        if !frame.is_complete() {
            return Ok(None);
        }
        let payload = if cut { &self.control } else { piece };
        Ok(Some(match frame.header.kind {
            Kind::Close => Incoming::Close(close_code(payload)?),
            Kind::Ping => Incoming::Ping(payload),
            _ => Incoming::Pong,
        }))
    }
}

/// Returns the code in the payload of a close frame. `None` if the payload is empty.
fn close_code(payload: &[u8]) -> Result<Option<u16>, CloseReason> {
    if payload.is_empty() {
        return Ok(None);
    }
    // RFC 6455 §5.5.1: if there is a body, its first two bytes MUST be the code.
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return Err(CloseReason::ProtocolError);
    };
    let code = u16::from_be_bytes(code);
    if !is_peer_code(code) {
        return Err(CloseReason::ProtocolError);
    }
    // RFC 6455 §5.5.1: the reason is UTF-8.
    simdutf8::basic::from_utf8(reason).map_err(|_| CloseReason::InvalidUtf8)?;
    Ok(Some(code))
}

/// Whether a peer may send this code. RFC 6455 §7.4: 1005, 1006 and 1015 MUST NOT be sent; 1004 and
/// unregistered codes have no meaning; codes from 3000 on belong to applications. 1012 to 1014 are
/// in IANA's registry.
fn is_peer_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests;
