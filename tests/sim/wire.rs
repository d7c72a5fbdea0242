//! WebSocket for simulated clients. It does not use the server's codec, so that an error in that
//! codec can't hide itself.

use super::random::Random;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Returns the request that opens a connection.
pub fn request_head(target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// Returns one masked frame. RFC 6455 §5.2.
pub fn write_frame(opcode: u8, fin: bool, payload: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = vec![opcode | if fin { 0x80 } else { 0 }];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let key = (random.number() as u32).to_be_bytes();
    out.extend_from_slice(&key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// Returns a message in one frame or several, and the number of pings between them.
pub fn write_message(opcode: u8, payload: &[u8], random: &mut Random) -> (Vec<u8>, usize) {
    if payload.len() < 2 || !random.chance(20) {
        return (write_frame(opcode, true, payload, random), 0);
    }
    let cut = random.between(1, payload.len() - 1);
    let mut out = write_frame(opcode, false, &payload[..cut], random);
    let pings = usize::from(random.chance(30));
    if pings > 0 {
        out.extend(write_frame(PING, true, b"between", random));
    }
    out.extend(write_frame(0, true, &payload[cut..], random));
    (out, pings)
}

/// An item sent by the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// An HTTP status.
    Status(u16),
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The code of a close frame, or 0 if it has none, and its text.
    Close(u16, String),
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Item::Text(text) => write!(f, "{}", String::from_utf8_lossy(text)),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Bytes from the server that are parsed into items.
#[derive(Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    upgraded: bool,
    /// An HTTP response ends the connection. Its body is one line of text.
    refused: bool,
    closed: bool,
}

impl Incoming {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether the input ends between two items.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the next item, if it is complete.
    ///
    /// # Panics
    /// If the server sent something invalid.
    pub fn next_item(&mut self) -> Option<Item> {
        if self.refused {
            self.bytes.clear();
        }
        if self.upgraded { self.next_frame() } else { self.next_head() }
    }

    fn next_head(&mut self) -> Option<Item> {
        let end = self.bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(self.bytes.drain(..end + 4).collect()).expect("text");
        let status: u16 = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {head:?}"));
        self.upgraded = status == 101;
        if self.upgraded {
            let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
            assert!(head.contains(accept), "the accept key is right: {head:?}");
        }
        self.refused = !self.upgraded;
        Some(Item::Status(status))
    }

    fn next_frame(&mut self) -> Option<Item> {
        assert!(!self.closed || self.bytes.is_empty(), "nothing follows a close frame");
        let [first, second, ..] = *self.bytes.as_slice() else { return None };
        assert_eq!(first & 0x70, 0, "reserved bits are 0");
        assert_eq!(first & 0x80, 0x80, "the server does not fragment");
        assert_eq!(second & 0x80, 0, "the server does not mask");
        let (length, header) = match second {
            126 => {
                let length = self.bytes.get(2..4)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                assert!(length > 125, "a length is written in the fewest bytes");
                (length, 4)
            }
            127 => {
                let length = self.bytes.get(2..10)?.try_into().expect("8 bytes");
                let length = u64::from_be_bytes(length) as usize;
                assert!(length > 0xFFFF, "a length is written in the fewest bytes");
                (length, 10)
            }
            length => (usize::from(length), 2),
        };
        if self.bytes.len() < header + length {
            return None;
        }
        let payload: Vec<u8> = self.bytes.drain(..header + length).skip(header).collect();
        let opcode = first & 0x0F;
        assert!(opcode < 8 || length <= 125, "a control frame is short");
        Some(match opcode {
            TEXT => Item::Text(payload),
            BINARY => Item::Binary(payload),
            PING => Item::Ping(payload),
            PONG => Item::Pong(payload),
            CLOSE => self.close(&payload),
            other => panic!("no server sends opcode {other}"),
        })
    }

    fn close(&mut self, payload: &[u8]) -> Item {
        self.closed = true;
        let Some((code, text)) = payload.split_first_chunk() else {
            assert!(payload.is_empty(), "a close frame has a whole code or none");
            return Item::Close(0, String::new());
        };
        let text = String::from_utf8(text.to_vec()).expect("the text of a close is UTF-8");
        Item::Close(u16::from_be_bytes(*code), text)
    }
}
