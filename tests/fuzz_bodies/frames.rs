//! A client's bytes, cut anywhere. The decoder must return the same for pieces as for the whole,
//! must stay within its limit of memory, and must agree with another implementation.

use std::io::{self, Cursor, Read, Write};

use corecast::reason::CloseReason;
use corecast::ws::{Decoder, Incoming, Limits, Opcode};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

const LIMITS: Limits = Limits { message_bytes_max: 4096, fragments_max: 8 };

/// Bytes that a decoder may hold besides a message: twice the size of a control frame.
const CONTROL_BUFFER_BYTES_MAX: usize = 256;

/// The first byte is the number of cuts, the next ones are the lengths of the pieces, and the rest
/// is the stream.
pub(crate) fn check(data: &[u8]) {
    let Some((&cuts, rest)) = data.split_first() else { return };
    let (pieces, stream) = rest.split_at(rest.len().min(usize::from(cuts % 32)));
    let whole = decode(stream, &[]);
    assert_eq!(decode(stream, pieces), whole, "a cut changes nothing");
    assert_eq!(decode(stream, &vec![1; stream.len()]), whole, "nor do cuts everywhere");
    check_against_other(stream, &whole);
}

#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// The result of a stream.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    events: Vec<Owned>,
    frames: u32,
    error: Option<CloseReason>,
    idle: bool,
}

/// Decodes `stream` as a shard does, in these pieces and then the rest, until an error or a close.
fn decode(stream: &[u8], pieces: &[u8]) -> Outcome {
    let mut stream = stream.to_vec();
    let mut outcome = Outcome::default();
    let mut decoder = Decoder::new();
    let mut rest = &mut stream[..];
    let pieces = pieces.iter().map(|&bytes| usize::from(bytes)).chain([usize::MAX]);
    for piece_bytes in pieces {
        let (mut piece, later) = rest.split_at_mut(piece_bytes.min(rest.len()));
        rest = later;
        while !piece.is_empty() {
            let before_bytes = piece.len();
            match decode_step(&mut decoder, piece, &mut outcome) {
                None => return outcome,
                Some(consumed) => piece = &mut piece[consumed..],
            }
            assert!(piece.len() < before_bytes, "every step makes progress");
            if decoder.is_idle() {
                // A shard keeps no decoder for an idle connection.
                decoder = Decoder::new();
            }
        }
    }
    outcome.idle = decoder.is_idle();
    outcome
}

fn decode_step(decoder: &mut Decoder, piece: &mut [u8], outcome: &mut Outcome) -> Option<usize> {
    let step = match decoder.next(piece, &LIMITS) {
        Ok(step) => step,
        Err(reason) => {
            outcome.error = Some(reason);
            return None;
        }
    };
    outcome.frames += step.frames;
    let consumed = step.consumed;
    let event = step.event.as_ref().map(owned);
    let buffered_bytes_max = LIMITS.message_bytes_max + CONTROL_BUFFER_BYTES_MAX;
    assert!(decoder.buffered_bytes() <= buffered_bytes_max, "memory is bounded");
    let closed = matches!(event, Some(Owned::Close(_)));
    outcome.events.extend(event);
    (!closed).then_some(consumed)
}

fn owned(event: &Incoming<'_>) -> Owned {
    match *event {
        Incoming::Message { opcode: Opcode::Text, data } => {
            assert!(std::str::from_utf8(data).is_ok(), "text is UTF-8");
            Owned::Text(data.to_vec())
        }
        Incoming::Message { opcode: Opcode::Binary, data } => Owned::Binary(data.to_vec()),
        Incoming::Ping(data) => Owned::Ping(data.to_vec()),
        Incoming::Pong => Owned::Pong,
        Incoming::Close(code) => Owned::Close(code),
    }
}

/// Tungstenite must return the same events. It detects errors later and does not limit fragments,
/// so it may continue after an error of ours, but must not return fewer events.
fn check_against_other(stream: &[u8], ours: &Outcome) {
    let (events, failed) = decode_other(stream);
    let mut expected = ours.events.clone();
    if let Some(Owned::Close(code @ Some(1014))) = expected.last_mut() {
        // It does not know this code from IANA's registry, and reports 1002 instead.
        *code = Some(1002);
    }
    assert!(events.starts_with(&expected), "{events:?} begin with {expected:?}");
    if ours.error.is_none() {
        assert_eq!(events, expected, "valid input gives no other result");
        assert!(!failed, "accepted input is valid for other parsers");
    }
}

/// A peer that has sent everything but has not closed.
struct Waiting(Cursor<Vec<u8>>);

impl Read for Waiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            bytes => Ok(bytes),
        }
    }
}

impl Write for Waiting {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn decode_other(stream: &[u8]) -> (Vec<Owned>, bool) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(LIMITS.message_bytes_max))
        .max_frame_size(Some(LIMITS.message_bytes_max));
    let peer = Waiting(Cursor::new(stream.to_vec()));
    let mut socket = WebSocket::from_raw_socket(peer, Role::Server, Some(config));
    let mut events = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => events.push(Owned::Text(text.as_bytes().to_vec())),
            Ok(Message::Binary(data)) => events.push(Owned::Binary(data.to_vec())),
            Ok(Message::Ping(data)) => events.push(Owned::Ping(data.to_vec())),
            Ok(Message::Pong(_)) => events.push(Owned::Pong),
            Ok(Message::Close(frame)) => {
                events.push(Owned::Close(frame.map(|frame| frame.code.into())));
                return (events, false);
            }
            Ok(Message::Frame(_)) => unreachable!("never handed out by read()"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (events, false);
            }
            Err(_) => return (events, true),
        }
    }
}
