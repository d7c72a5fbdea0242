//! Parses headers of client frames. They are checked byte by byte, so that an invalid header costs
//! no memory. RFC 6455 §5.2.

use crate::limits::CONTROL_PAYLOAD_BYTES_MAX;
use crate::reason::CloseReason;
use crate::ws::{Limits, Opcode};

/// Maximum length of a header: two bytes, a length of eight bytes and a key of four bytes.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first frame of a message.
    First(Opcode),
    /// A further frame of the message.
    Continuation,
    /// A close frame.
    Close,
    /// A ping.
    Ping,
    /// A pong.
    Pong,
}

impl Kind {
    /// Whether the frame contains a part of a message.
    pub(super) const fn is_data(self) -> bool {
        matches!(self, Kind::First(_) | Kind::Continuation)
    }
}

/// A valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The type of the frame.
    pub(super) kind: Kind,
    /// Whether this is the last frame of its message.
    pub(super) fin: bool,
    /// Length of the payload.
    pub(super) payload_bytes: usize,
    pub(super) key: [u8; 4],
}

/// The part of a message before this header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// Number of payload bytes of the earlier frames.
    pub(super) bytes: usize,
    /// Number of earlier frames; 0 between messages.
    pub(super) fragments: u32,
}

/// Parses the header at the front of `bytes`, and returns it with its length. `None` while it is
/// incomplete. An incomplete header is checked as well, always in the order of its bytes, so that
/// the result does not depend on where it is cut.
///
/// # Errors
/// `ProtocolError` or `MessageTooBig`, if the peer violates the protocol or a limit.
pub(super) fn parse(
    bytes: &[u8],
    unfinished: Unfinished,
    limits: &Limits,
) -> Result<Option<(Header, usize)>, CloseReason> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let fin = first & 0x80 != 0;
    let kind = parse_kind(first, unfinished, limits)?;
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    // RFC 6455 §5.1: the server MUST close upon receiving a frame that is not masked.
    if second & 0x80 == 0 {
        return Err(CloseReason::ProtocolError);
    }
    let Some((length, length_bytes)) = parse_length(second & 0x7F, &bytes[2..], kind)? else {
        return Ok(None);
    };
    let payload_bytes = usize::try_from(length).unwrap_or(usize::MAX);
    let message_bytes = payload_bytes.saturating_add(unfinished.bytes);
    if kind.is_data() && message_bytes > limits.message_bytes_max {
        return Err(CloseReason::MessageTooBig);
    }
    let after_length = &bytes[2 + length_bytes..];
    Ok(after_length.first_chunk().map(|&key| {
        let header = Header { kind, fin, payload_bytes, key };
        (header, 2 + length_bytes + key.len())
    }))
}

fn parse_kind(first: u8, unfinished: Unfinished, limits: &Limits) -> Result<Kind, CloseReason> {
    // RFC 6455 §5.2: RSV1-3 MUST be 0 unless an extension is negotiated, and we negotiate none.
    if first & 0x70 != 0 {
        return Err(CloseReason::ProtocolError);
    }
    let kind = match first & 0x0F {
        0x0 => Kind::Continuation,
        0x1 => Kind::First(Opcode::Text),
        0x2 => Kind::First(Opcode::Binary),
        0x8 => Kind::Close,
        0x9 => Kind::Ping,
        0xA => Kind::Pong,
        // RFC 6455 §5.2: on an unknown opcode the receiver MUST fail the connection.
        _ => return Err(CloseReason::ProtocolError),
    };
    let between_messages = unfinished.fragments == 0;
    let in_place = match kind {
        // RFC 6455 §5.4: fragments of one message MUST NOT be interleaved with another's.
        Kind::First(_) => between_messages,
        Kind::Continuation => !between_messages,
        // RFC 6455 §5.5: control frames MUST NOT be fragmented.
        Kind::Close | Kind::Ping | Kind::Pong => first & 0x80 != 0,
    };
    if !in_place {
        return Err(CloseReason::ProtocolError);
    }
    // Empty fragments count as well, because they cost work but no bytes.
    if kind.is_data() && unfinished.fragments >= limits.fragments_max {
        return Err(CloseReason::MessageTooBig);
    }
    Ok(kind)
}

/// Returns the length of the payload, and the number of bytes after the second byte that encode it.
fn parse_length(short: u8, bytes: &[u8], kind: Kind) -> Result<Option<(u64, usize)>, CloseReason> {
    // RFC 6455 §5.5: control frames MUST have a payload of 125 bytes or less.
    if !kind.is_data() && usize::from(short) > CONTROL_PAYLOAD_BYTES_MAX {
        return Err(CloseReason::ProtocolError);
    }
    let (length, length_bytes, least) = match short {
        126 => match bytes.first_chunk() {
            Some(&length) => (u64::from(u16::from_be_bytes(length)), 2, 126),
            None => return Ok(None),
        },
        127 => match bytes.first_chunk() {
            Some(&length) => (u64::from_be_bytes(length), 8, 1 << 16),
            None => return Ok(None),
        },
        _ => (u64::from(short), 0, 0),
    };
    // RFC 6455 §5.2: the minimal number of bytes MUST be used to encode the length, and the most
    // significant bit of a length of 64 bits MUST be 0.
    if length < least || length >> 63 != 0 {
        return Err(CloseReason::ProtocolError);
    }
    Ok(Some((length, length_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { message_bytes_max: 70_000, fragments_max: 3 };
    const BETWEEN: Unfinished = Unfinished { bytes: 0, fragments: 0 };
    const WITHIN: Unfinished = Unfinished { bytes: 69_990, fragments: 1 };

    fn verdict(bytes: &[u8], unfinished: Unfinished) -> Result<bool, CloseReason> {
        parse(bytes, unfinished, &LIMITS).map(|header| header.is_some())
    }

    #[test]
    fn a_header_is_refused_at_its_first_wrong_byte() {
        use CloseReason::{MessageTooBig, ProtocolError};
        let cases: &[(&str, &[u8], Unfinished, CloseReason)] = &[
            ("RSV1 is set (5.2)", &[0xC1], BETWEEN, ProtocolError),
            ("RSV2 is set (5.2)", &[0xA1], BETWEEN, ProtocolError),
            ("RSV3 is set (5.2)", &[0x99], BETWEEN, ProtocolError),
            ("opcode 3 is reserved (5.2)", &[0x83], BETWEEN, ProtocolError),
            ("opcode 15 is reserved (5.2)", &[0x8F], BETWEEN, ProtocolError),
            ("a ping is fragmented (5.5)", &[0x09], BETWEEN, ProtocolError),
            ("nothing is to be continued (5.4)", &[0x80], BETWEEN, ProtocolError),
            ("a message begins within another (5.4)", &[0x81], WITHIN, ProtocolError),
            ("the frame is not masked (5.1)", &[0x81, 0x05], BETWEEN, ProtocolError),
            ("a close of 126 bytes (5.5)", &[0x88, 0xFE], BETWEEN, ProtocolError),
            ("125 in two bytes (5.2)", &[0x82, 0xFE, 0, 125], BETWEEN, ProtocolError),
            (
                "65535 in eight bytes (5.2)",
                &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
                BETWEEN,
                ProtocolError,
            ),
            (
                "the top bit of a length (5.2)",
                &[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0],
                BETWEEN,
                ProtocolError,
            ),
            (
                "2^63 - 1 bytes are announced",
                &[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
                BETWEEN,
                MessageTooBig,
            ),
            ("the fragments' sum is too long", &[0x80, 0x8B], WITHIN, MessageTooBig),
            (
                "one fragment too many",
                &[0x80],
                Unfinished { bytes: 0, fragments: 3 },
                MessageTooBig,
            ),
        ];
        for &(name, bytes, unfinished, reason) in cases {
            assert_eq!(verdict(bytes, unfinished), Err(reason), "{name}");
            let cut = &bytes[..bytes.len() - 1];
            assert_eq!(verdict(cut, unfinished), Ok(false), "{name}: not before its last byte");
        }
    }

    #[test]
    fn a_header_within_the_limits_is_read_to_its_end() {
        let header = |kind, payload_bytes| Header { kind, fin: true, payload_bytes, key: [9; 4] };
        let cases: &[(&[u8], Unfinished, Header)] = &[
            (&[0x81, 0x80], BETWEEN, header(Kind::First(Opcode::Text), 0)),
            (&[0x82, 0xFE, 0, 126], BETWEEN, header(Kind::First(Opcode::Binary), 126)),
            (
                &[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0x11, 0x70],
                BETWEEN,
                header(Kind::First(Opcode::Binary), 70_000),
            ),
            (&[0x80, 0x8A], WITHIN, header(Kind::Continuation, 10)),
            (&[0x88, 0xFD], WITHIN, header(Kind::Close, 125)),
            (&[0x89, 0x80], WITHIN, header(Kind::Ping, 0)),
            (&[0x8A, 0x80], BETWEEN, header(Kind::Pong, 0)),
        ];
        for &(bytes, unfinished, header) in cases {
            let mut bytes = bytes.to_vec();
            bytes.extend([9; 4]);
            let header_bytes = bytes.len();
            for cut in 0..header_bytes {
                assert_eq!(verdict(&bytes[..cut], unfinished), Ok(false), "{header:?} cut");
            }
            bytes.push(0);
            let read = parse(&bytes, unfinished, &LIMITS);
            assert_eq!(read, Ok(Some((header, header_bytes))));
        }
    }
}
