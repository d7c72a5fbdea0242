//! Paths from bytes to values and back.

use corecast::channel::{ChannelView, DataType, Publication};
use corecast::handshake::{self, Progress, Rules};
use corecast::ids::{Epoch, Moment};
use corecast::origins::Origins;
use corecast::protocol::{Codec, MessageKind, Protocol};
use corecast::wire::Wire;
use corecast::ws::{Decoder, Limits};
use std::hint::black_box;
use std::sync::Arc;

/// Number of repetitions of each path.
const TIMES: usize = 1_000;

/// Messages of a Centrifugo client, as SDKs send them.
pub(crate) const CONNECT: &[u8] = br#"{"id":1,"connect":{"name":"js"}}"#;
pub(crate) const SUBSCRIBE: &[u8] = br#"{"id":2,"subscribe":{"channel":"bench"}}"#;
pub(crate) const PUBLISH: &[u8] =
    br#"{"id":3,"publish":{"channel":"bench","data":{"text":"Hello"}}}"#;

/// The upgrade request of a browser.
pub(crate) const UPGRADE: &[u8] = b"GET /connection/websocket HTTP/1.1\r\n\
    Host: localhost:8000\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0\r\n\
    Upgrade: websocket\r\n\
    Origin: http://localhost:8000\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

/// Returns a payload of 64 bytes, like that of the load generator.
pub(crate) fn payload() -> Box<[u8]> {
    let mut data = vec![b'x'; 64];
    (data[0], data[63]) = (b'"', b'"');
    data.into()
}

/// Returns `message` as a client's frame. The key is ASCII, so that data masked twice is still
/// text.
pub(crate) fn masked(message: &[u8]) -> Vec<u8> {
    const FIN_TEXT: u8 = 0x81;
    const MASKED: u8 = 0x80;
    const KEY: [u8; 4] = *b"0123";
    let mut frame = vec![FIN_TEXT];
    match message.len() {
        short @ 0..=125 => frame.push(MASKED | short as u8),
        length => {
            frame.push(MASKED | 126);
            frame.extend(u16::try_from(length).expect("a short message").to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame.extend(message.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Frames of one length in a row.
pub(crate) struct FrameInput(Vec<u8>);

impl FrameInput {
    fn new(bytes: usize) -> FrameInput {
        FrameInput(masked(&vec![b'a'; bytes]).repeat(TIMES))
    }

    /// Decodes all of them. Decoding unmasks in place, so the next run sees other bytes.
    pub(crate) fn decode(&mut self) -> usize {
        let limits = Limits { message_bytes_max: 64 * 1024, fragments_max: 32 };
        let mut decoder = Decoder::new();
        let (mut at, mut messages) = (0, 0);
        while at < self.0.len() {
            let step = decoder.next(&mut self.0[at..], &limits).expect("a valid frame");
            at += step.consumed;
            messages += usize::from(black_box(step.event).is_some());
        }
        assert_eq!(messages, TIMES, "every frame is a message");
        messages
    }
}

/// Inputs of the pure paths.
pub(crate) struct Inputs {
    pub(crate) frame_64: FrameInput,
    pub(crate) frame_1024: FrameInput,
    rules: Rules,
    publications: [Arc<Publication>; 1],
    out: Vec<u8>,
}

impl Inputs {
    pub(crate) fn new() -> Inputs {
        let publication = Publication {
            data: payload(),
            offset: 1_000,
            publisher: None,
            tags: Box::default(),
            accepted: Moment::default(),
        };
        Inputs {
            frame_64: FrameInput::new(64),
            frame_1024: FrameInput::new(1024),
            rules: Rules { origins: Origins::of_list(vec!["*".to_owned()]), ..Rules::default() },
            publications: [Arc::new(publication)],
            out: Vec::with_capacity(1024),
        }
    }

    /// Parses a request and writes the answer.
    pub(crate) fn upgrade(&mut self) -> usize {
        for _ in 0..TIMES {
            let progress = handshake::read(black_box(UPGRADE), &self.rules);
            assert!(matches!(black_box(progress), Progress::Upgrade(_)), "it is one");
        }
        TIMES
    }

    /// Decodes a Centrifugo client's message.
    pub(crate) fn decode(&mut self, message: &[u8]) -> usize {
        for _ in 0..TIMES {
            let decoded = Protocol::Centrifugo.decode(MessageKind::Text, black_box(message));
            assert!(black_box(decoded).is_ok(), "it can be understood");
        }
        TIMES
    }

    /// Encodes the frame that every subscriber of a protocol gets.
    pub(crate) fn encode(&mut self, protocol: Protocol) -> usize {
        let wire = Wire::websocket(protocol);
        let channel = ChannelView {
            name: "bench",
            data: DataType::Json,
            has_history: true,
            epoch: Epoch::new(1),
        };
        for _ in 0..TIMES {
            self.out.clear();
            let publications = black_box(&self.publications);
            wire.encode_publications(&channel, publications, &mut self.out);
            assert!(!black_box(&self.out).is_empty(), "it has a frame");
        }
        TIMES
    }
}
