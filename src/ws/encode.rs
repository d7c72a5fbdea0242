//! Encodes frames of the server. They are never masked (RFC 6455 §5.1) and never fragmented.

use crate::limits::{CLOSE_REASON_BYTES_MAX, CONTROL_PAYLOAD_BYTES_MAX};
use crate::ws::Opcode;

/// Maximum length of an unmasked header: two bytes and a length of eight bytes.
const HEADER_BYTES_MAX: usize = 10;

const FIN: u8 = 0x80;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// An encoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    bytes_used: u8,
}

impl FrameHeader {
    /// Returns the 2 to 10 bytes of the header.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.bytes_used)]
    }
}

/// Encodes the header of a message of `payload_bytes` bytes in one frame.
pub fn frame_header(opcode: Opcode, payload_bytes: usize) -> FrameHeader {
    let mut bytes = [0; HEADER_BYTES_MAX];
    bytes[0] = FIN
        | match opcode {
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
        };
    // RFC 6455 §5.2: the minimal number of bytes MUST be used to encode the length.
    let bytes_used = match payload_bytes {
        0..=125 => {
            bytes[1] = payload_bytes as u8;
            2
        }
        126..=0xFFFF => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        }
    };
    FrameHeader { bytes, bytes_used }
}

/// Returns the number of bytes from `at` to the end of the frame that contains `at`; 0 if a frame
/// begins there. `bytes` must be complete frames of this module. They may begin with an HTTP
/// response, which counts as one frame together with everything after it.
pub fn rest_of_frame(bytes: &[u8], at: usize) -> usize {
    let mut begin = 0;
    while begin < at {
        let Some(length) = frame_bytes(&bytes[begin..]) else { return bytes.len() - at };
        begin += length;
    }
    begin - at
}

/// Returns the length of the frame at the front of `bytes`. `None` if that is not a frame.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    if first & FIN == 0 {
        return None;
    }
    Some(match second {
        126 => 4 + usize::from(u16::from_be_bytes(*rest.first_chunk()?)),
        127 => 10 + u64::from_be_bytes(*rest.first_chunk()?) as usize,
        length => 2 + usize::from(length),
    })
}

/// Appends a message in one frame.
pub fn encode_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let header = frame_header(opcode, payload.len());
    out.reserve(header.as_bytes().len() + payload.len());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(payload);
}

/// Appends a ping. `payload` is cut to 125 bytes, the maximum of a control frame.
pub fn encode_ping(payload: &[u8], out: &mut Vec<u8>) {
    encode_control(PING, payload, out);
}

/// Appends a pong. RFC 6455 §5.5.3: it has the payload of the ping, so at most 125 bytes.
pub fn encode_pong(payload: &[u8], out: &mut Vec<u8>) {
    encode_control(PONG, payload, out);
}

/// Appends a close frame. Code 0 means neither code nor reason. A reason that is too long is cut
/// between two characters.
pub fn encode_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    if code == 0 {
        return encode_control(CLOSE, &[], out);
    }
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    let mut payload = [0; CONTROL_PAYLOAD_BYTES_MAX];
    let payload_bytes = 2 + reason.len();
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..payload_bytes].copy_from_slice(reason.as_bytes());
    encode_control(CLOSE, &payload[..payload_bytes], out);
}

fn encode_control(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    // RFC 6455 §5.5: control frames MUST have a payload of 125 bytes or less.
    let payload = &payload[..payload.len().min(CONTROL_PAYLOAD_BYTES_MAX)];
    out.extend_from_slice(&[FIN | opcode, payload.len() as u8]);
    out.extend_from_slice(payload);
}

/// A frame whose payload is written directly into the output. All bytes that are appended to `out`
/// between [`OpenFrame::begin`] and [`OpenFrame::finish`] are its payload.
#[must_use = "the header is written by `finish`"]
#[derive(Debug)]
pub struct OpenFrame {
    opcode: Opcode,
    /// Position of the header in `out`.
    start: usize,
    /// Number of bytes reserved for the header.
    header_bytes: usize,
}

impl OpenFrame {
    /// Reserves room for the header of a payload of about `payload_bytes` bytes. If the real
    /// payload needs a header of another length, `finish` moves the payload.
    pub fn begin(opcode: Opcode, payload_bytes: usize, out: &mut Vec<u8>) -> OpenFrame {
        let start = out.len();
        let header_bytes = frame_header(opcode, payload_bytes).as_bytes().len();
        out.reserve(header_bytes + payload_bytes);
        out.resize(start + header_bytes, 0);
        OpenFrame { opcode, start, header_bytes }
    }

    /// Writes the header in front of the payload.
    pub fn finish(self, out: &mut Vec<u8>) {
        let end = out.len();
        let payload_start = self.start + self.header_bytes;
        assert!(payload_start <= end, "the bytes that begin() wrote must still exist");
        let header = frame_header(self.opcode, end - payload_start);
        let header = header.as_bytes();
        let payload_start_wanted = self.start + header.len();
        if payload_start_wanted != payload_start {
            let end_wanted = end - payload_start + payload_start_wanted;
            out.resize(end.max(end_wanted), 0);
            out.copy_within(payload_start..end, payload_start_wanted);
            out.truncate(end_wanted);
        }
        out[self.start..payload_start_wanted].copy_from_slice(header);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_encoded_in_the_fewest_bytes() {
        let cases: &[(usize, &[u8])] = &[
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xFF, 0xFF]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for &(payload_bytes, header) in cases {
            assert_eq!(frame_header(Opcode::Text, payload_bytes).as_bytes(), header);
        }
        assert_eq!(frame_header(Opcode::Binary, 1).as_bytes(), [0x82, 1]);
    }

    #[test]
    fn a_control_frame_never_exceeds_125_bytes() {
        let mut out = Vec::new();
        encode_ping(&[7; 200], &mut out);
        assert_eq!(out[..2], [0x89, 125]);
        assert_eq!(out.len(), 127);
        out.clear();
        encode_pong(b"abc", &mut out);
        assert_eq!(out, b"\x8a\x03abc");
        out.clear();
        encode_close(3008, "slow", &mut out);
        assert_eq!(out, b"\x88\x06\x0b\xc0slow");
        out.clear();
        encode_close(0, "ignored", &mut out);
        assert_eq!(out, b"\x88\x00");
        out.clear();
        encode_close(4000, &"ü".repeat(100), &mut out);
        assert_eq!(out[1], 124, "123 bytes would end within a character");
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }

    #[test]
    fn a_frame_written_in_place_equals_one_encoded_at_once() {
        let lengths = [0, 1, 125, 126, 127, 65_535, 65_536];
        for payload_bytes in lengths {
            for expected_bytes in lengths {
                let payload = vec![b'x'; payload_bytes];
                let mut out = b"before".to_vec();
                let frame = OpenFrame::begin(Opcode::Text, expected_bytes, &mut out);
                out.extend_from_slice(&payload);
                frame.finish(&mut out);
                let mut wanted = b"before".to_vec();
                encode_frame(Opcode::Text, &payload, &mut wanted);
                assert!(out == wanted, "{payload_bytes} bytes where {expected_bytes} are expected");
            }
        }
    }
}
