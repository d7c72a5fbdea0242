//! A client with one socket. All bytes it gets must be frames that a server may send.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// One frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Returns the code of a close frame.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk::<2>()?;
        (self.opcode == CLOSE).then(|| u16::from_be_bytes(*code))
    }
}

/// A client with an open connection.
pub struct Peer {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Peer {
    /// Connects and upgrades.
    pub async fn open(address: SocketAddr, path: &str) -> io::Result<Peer> {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                assert!(bytes.starts_with(b"HTTP/1.1 101 "), "{}", bytes.escape_ascii());
                bytes.drain(..end + 4);
                return Ok(Peer { stream, bytes });
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                let refused = format!("no upgrade: {}", bytes.escape_ascii());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, refused));
            }
        }
    }

    /// Returns the next frame, or `None` at the end of the stream, which must not be inside a
    /// frame.
    pub async fn frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(length) = whole_frame(&self.bytes) {
                let frame = self.bytes.drain(..length).collect::<Vec<u8>>();
                let (opcode, front) = (frame[0] & 15, header_bytes(frame[1]));
                return Ok(Some(Frame { opcode, payload: frame[front..].to_vec() }));
            }
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                assert!(self.bytes.is_empty(), "cut off in {}", self.bytes.escape_ascii());
                return Ok(None);
            }
        }
    }

    /// Calls `each` with opcode and payload of every complete frame after one read. Returns whether
    /// the stream is still open.
    pub async fn frames(&mut self, mut each: impl FnMut(u8, &[u8])) -> io::Result<bool> {
        let open = self.stream.read_buf(&mut self.bytes).await? > 0;
        let mut at = 0;
        while let Some(length) = whole_frame(&self.bytes[at..]) {
            let frame = &self.bytes[at..at + length];
            each(frame[0] & 15, &frame[header_bytes(frame[1])..]);
            at += length;
        }
        self.bytes.drain(..at);
        assert!(open || self.bytes.is_empty(), "cut off in {}", self.bytes.escape_ascii());
        Ok(open)
    }

    /// Sends a short message, masked with zeroes.
    pub async fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        assert!(payload.len() < 126, "a short message");
        let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await
    }
}

/// Returns the length of the frame at the start of `bytes`, if it is complete. RFC 6455 §5.2.
fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let known = [TEXT, CLOSE, PING, PONG].contains(&(first & 15));
    assert!(first & 0xf0 == 0x80 && known, "no frame: {}", bytes.escape_ascii());
    assert!(second & 0x80 == 0, "a server does not mask: {}", bytes.escape_ascii());
    let front = header_bytes(second);
    let payload = match front {
        2 => usize::from(second),
        4 => usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        _ => u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
    };
    assert!(payload <= 16 << 20, "no frame of ours: {}", bytes[..front].escape_ascii());
    (bytes.len() >= front + payload).then_some(front + payload)
}

fn header_bytes(second: u8) -> usize {
    match second & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}
