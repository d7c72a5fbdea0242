//! WebSocket frames: parses those of a server and writes those of a client.

use std::fmt;

/// Maximum payload accepted from a server, in bytes. SDKs drop a connection above 1 MiB, so a
/// longer frame is a fault of the server and not load.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// Masking key of every frame. It need not be secret here. It is not zero, so that the server has
/// to unmask.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// A complete frame at the start of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: Opcode,
    pub(crate) payload: &'a [u8],
    /// Bytes of the frame, including its header. The next frame begins there.
    pub(crate) used: usize,
}

/// A frame that a server must not send, or that this client does not support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A reserved bit is set, although no extension was requested. RFC 6455 §5.2.
    ReservedBits,
    /// A server masked its frame. RFC 6455 §5.1.
    Masked,
    /// The opcode is undefined. RFC 6455 §5.2.
    Opcode(u8),
    /// The message is fragmented. That is allowed, but a broadcast server has no reason for it, and
    /// counting would have to reassemble messages.
    Fragmented,
    /// The payload is longer than [`PAYLOAD_BYTES_MAX`].
    TooLong(u64),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits => f.write_str("a frame with reserved bits"),
            Self::Masked => f.write_str("a masked frame"),
            Self::Opcode(code) => write!(f, "a frame with opcode {code}"),
            Self::Fragmented => f.write_str("a fragmented message"),
            Self::TooLong(bytes) => write!(f, "a frame of {bytes} bytes"),
        }
    }
}

/// Returns the first frame in `bytes`, or `None` while it is incomplete.
pub(crate) fn next(bytes: &[u8]) -> Result<Option<Frame<'_>>, Violation> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & RESERVED != 0 {
        return Err(Violation::ReservedBits);
    }
    if second & MASKED != 0 {
        return Err(Violation::Masked);
    }
    let opcode = match first & 0x0f {
        _ if first & FIN == 0 => return Err(Violation::Fragmented),
        0 => return Err(Violation::Fragmented),
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        other => return Err(Violation::Opcode(other)),
    };
    let Some((header, announced)) = next_length(second, bytes) else { return Ok(None) };
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > PAYLOAD_BYTES_MAX {
        return Err(Violation::TooLong(announced));
    }
    let used = header + length;
    Ok(bytes.get(header..used).map(|payload| Frame { opcode, payload, used }))
}

/// Returns the lengths of header and payload, once the header is complete.
fn next_length(second: u8, bytes: &[u8]) -> Option<(usize, u64)> {
    match second {
        126 => {
            let field = bytes.get(2..4)?.try_into().ok()?;
            Some((4, u64::from(u16::from_be_bytes(field))))
        }
        127 => {
            let field = bytes.get(2..10)?.try_into().ok()?;
            Some((10, u64::from_be_bytes(field)))
        }
        short => Some((2, u64::from(short))),
    }
}

/// Returns one masked client frame with the whole `payload`.
pub(crate) fn encode(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let code = match opcode {
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    let mut bytes = Vec::with_capacity(payload.len() + 14);
    bytes.push(FIN | code);
    if let Ok(short @ 0..=125) = u8::try_from(payload.len()) {
        bytes.push(MASKED | short);
    } else if let Ok(length) = u16::try_from(payload.len()) {
        bytes.push(MASKED | 126);
        bytes.extend(length.to_be_bytes());
    } else {
        bytes.push(MASKED | 127);
        bytes.extend((payload.len() as u64).to_be_bytes());
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Formats code and reason of a close frame's payload.
pub(crate) fn close_text(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("close {code} {}", String::from_utf8_lossy(reason))
        }
        _ => "close without a code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = encode(Opcode::Text, payload);
        let header = bytes.len() - payload.len() - MASK.len();
        bytes.truncate(header);
        bytes[0] = first;
        bytes[1] &= !MASKED;
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn every_cut_of_a_frame_is_incomplete_and_the_whole_is_not() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let bytes = server_frame(0x81, &payload);
            for cut in (0..bytes.len()).filter(|cut| *cut < 16 || cut % 997 == 0) {
                assert_eq!(next(&bytes[..cut]), Ok(None), "{length} bytes cut at {cut}");
            }
            let frame = next(&bytes).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.payload.len()), (Opcode::Text, length));
            assert_eq!(frame.used, bytes.len());
        }
    }

    #[test]
    fn bytes_after_a_frame_are_left_for_the_next() {
        let mut bytes = server_frame(0x82, b"one");
        let first = bytes.len();
        bytes.extend(server_frame(0x8a, b""));
        assert_eq!(next(&bytes).unwrap().unwrap().used, first);
        let second = next(&bytes[first..]).unwrap().unwrap();
        assert_eq!((second.opcode, second.payload), (Opcode::Pong, &b""[..]));
    }

    #[test]
    fn what_no_server_may_send_is_a_violation() {
        let table: [(&[u8], Violation); 6] = [
            (&[0xc1, 0], Violation::ReservedBits),
            (&[0x81, 0x80], Violation::Masked),
            (&[0x83, 0], Violation::Opcode(3)),
            (&[0x01, 0], Violation::Fragmented),
            (&[0x80, 0], Violation::Fragmented),
            (&[0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0], Violation::TooLong(1 << 40)),
        ];
        for (bytes, violation) in table {
            assert_eq!(next(bytes), Err(violation), "{bytes:?}");
        }
    }

    #[test]
    fn a_client_frame_is_masked_and_its_length_is_in_the_shortest_form() {
        for (length, header) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let bytes = encode(Opcode::Text, &vec![b'a'; length]);
            assert_eq!(bytes.len(), header + length);
            assert_eq!(bytes[1] & MASKED, MASKED);
            for (at, byte) in bytes[header..].iter().enumerate() {
                assert_eq!(byte ^ MASK[at % 4], b'a');
            }
        }
    }

    #[test]
    fn a_close_is_told_with_code_and_reason() {
        assert_eq!(close_text(b"\x0b\xb9shutdown"), "close 3001 shutdown");
        assert_eq!(close_text(b""), "close without a code");
    }
}
