//! Canned output: the answer to an upgrade, and frames.

use corecast::limits::GATHER_BYTES_MAX;

/// The answer to a client with the key of RFC 6455's example (§1.3), which the generator uses.
pub(crate) const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const END: &[u8] = b"\r\n\r\n";

/// The state of the search for the blank line that ends a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    seen: u8,
}

impl Head {
    /// Handles more bytes. Returns whether the head is complete.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            self.seen = match byte {
                _ if byte == END[usize::from(self.seen)] => self.seen + 1,
                b'\r' => 1,
                _ => 0,
            };
            if usize::from(self.seen) == END.len() {
                *self = Self::default();
                return true;
            }
        }
        false
    }
}

/// The same text frame, repeated for one write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    frame_bytes: usize,
}

impl Frames {
    /// Creates frames with `bytes` of payload each. A write has one frame, or with `coalesce` as
    /// many as Corecast would gather for one socket.
    pub(crate) fn new(bytes: usize, coalesce: bool) -> Self {
        let frame = frame(bytes);
        let count = if coalesce { (GATHER_BYTES_MAX / frame.len()).max(1) } else { 1 };
        Self { bytes: frame.repeat(count), frame_bytes: frame.len() }
    }

    /// Returns the maximum number of frames in one write.
    pub(crate) fn count_max(&self) -> usize {
        self.bytes.len() / self.frame_bytes
    }

    /// Returns the bytes of `count` frames.
    pub(crate) fn bytes(&self, count: usize) -> &[u8] {
        &self.bytes[..count * self.frame_bytes]
    }
}

/// Returns a text frame with `bytes` of payload.
fn frame(bytes: usize) -> Vec<u8> {
    const FIN_TEXT: u8 = 0x81;
    let mut frame = vec![FIN_TEXT];
    if let Ok(short @ 0..=125) = u8::try_from(bytes) {
        frame.push(short);
    } else if let Ok(length) = u16::try_from(bytes) {
        frame.push(126);
        frame.extend(length.to_be_bytes());
    } else {
        frame.push(127);
        frame.extend((bytes as u64).to_be_bytes());
    }
    frame.resize(frame.len() + bytes, b'x');
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_the_first_blank_line_wherever_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n";
        for cut in 0..head.len() {
            let mut seen = Head::default();
            assert!(!seen.take(&head[..cut]), "cut at {cut}");
            assert!(seen.take(&head[cut..]), "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_has_the_shortest_header() {
        for (bytes, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            assert_eq!(frame(bytes).len(), header + bytes);
        }
    }

    #[test]
    fn a_write_carries_as_many_frames_as_corecast_gathers() {
        assert_eq!(Frames::new(64, false).count_max(), 1);
        let frames = Frames::new(64, true);
        assert_eq!(frames.count_max(), GATHER_BYTES_MAX / 66);
        assert_eq!(frames.bytes(16), frame(64).repeat(16));
        assert_eq!(Frames::new(GATHER_BYTES_MAX, true).count_max(), 1);
    }
}
