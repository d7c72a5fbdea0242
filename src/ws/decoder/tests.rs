//! Tests with whole, cut and broken frames, and the close code of each violation.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { message_bytes_max: 1000, fragments_max: 4 };
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// An event that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

fn owned(event: &Incoming<'_>) -> Owned {
    match *event {
        Incoming::Message { opcode: Opcode::Text, data } => Owned::Text(data.to_vec()),
        Incoming::Message { opcode: Opcode::Binary, data } => Owned::Binary(data.to_vec()),
        Incoming::Ping(data) => Owned::Ping(data.to_vec()),
        Incoming::Pong => Owned::Pong,
        Incoming::Close(code) => Owned::Close(code),
    }
}

/// Returns a masked frame with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        long => {
            bytes.push(0x80 | 126);
            bytes.extend((long as u16).to_be_bytes());
        }
    }
    bytes.extend(KEY);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ KEY[at % 4]));
    bytes
}

/// The result of decoding a stream: its events, the number of frames, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    events: Vec<Owned>,
    frames: u32,
    error: Option<CloseReason>,
    idle: bool,
}

/// Decodes `stream` in pieces: the lengths in `pieces`, then the rest.
fn decode(stream: &[u8], pieces: &[usize]) -> Outcome {
    let mut stream = stream.to_vec();
    let mut outcome = Outcome::default();
    let mut decoder = Decoder::new();
    let mut rest = &mut stream[..];
    for &piece_bytes in pieces.iter().chain([&usize::MAX]) {
        let (mut piece, later) = rest.split_at_mut(piece_bytes.min(rest.len()));
        rest = later;
        while !piece.is_empty() {
            let consumed = match decoder.next(piece, &LIMITS) {
                Ok(step) => {
                    assert!(step.consumed > 0, "every step makes progress");
                    outcome.frames += step.frames;
                    outcome.events.extend(step.event.as_ref().map(owned));
                    step.consumed
                }
                Err(reason) => {
                    outcome.error = Some(reason);
                    return outcome;
                }
            };
            let buffered_bytes_max = LIMITS.message_bytes_max + 256;
            assert!(decoder.buffered_bytes() <= buffered_bytes_max, "memory is bounded");
            piece = &mut piece[consumed..];
        }
    }
    outcome.idle = decoder.is_idle();
    outcome
}

fn check(name: &str, stream: &[Vec<u8>], events: &[Owned], error: Option<CloseReason>) {
    let stream = stream.concat();
    for pieces in [vec![], vec![1; stream.len()], vec![7; stream.len()]] {
        let outcome = decode(&stream, &pieces);
        assert_eq!(outcome.events, events, "{name}");
        assert_eq!(outcome.error, error, "{name}");
    }
}

#[test]
fn frames_become_messages() {
    let text = |text: &str| Owned::Text(text.into());
    check("one frame", &[frame(0x81, b"Hello")], &[text("Hello")], None);
    check("an empty message", &[frame(0x82, b"")], &[Owned::Binary(vec![])], None);
    check(
        "three fragments, one of them empty, with a ping between them (5.4)",
        &[frame(0x01, b"He"), frame(0x00, b""), frame(0x89, b"?"), frame(0x80, b"llo")],
        &[Owned::Ping(b"?".to_vec()), text("Hello")],
        None,
    );
    check(
        "a message of fragments, and one after it",
        &[frame(0x02, b"a"), frame(0x80, b"b"), frame(0x82, b"c"), frame(0x8A, b"x")],
        &[Owned::Binary(b"ab".to_vec()), Owned::Binary(b"c".to_vec()), Owned::Pong],
        None,
    );
    check(
        "a code point cut by a fragment (5.6)",
        &[frame(0x01, b"\xce"), frame(0x80, b"\xba")],
        &[text("κ")],
        None,
    );
    check(
        "an empty close, and a close with code and reason (5.5.1)",
        &[frame(0x88, b""), frame(0x88, b"\x03\xe8bye")],
        &[Owned::Close(None), Owned::Close(Some(1000))],
        None,
    );
}

#[test]
fn closes_with_1007_when_text_is_not_utf8() {
    let wrong = Some(CloseReason::InvalidUtf8);
    check("in one frame (8.1)", &[frame(0x81, b"a\xff")], &[], wrong);
    check("cut at its end (8.1)", &[frame(0x81, b"a\xce")], &[], wrong);
    check("across fragments", &[frame(0x01, b"\xce"), frame(0x80, b"a")], &[], wrong);
    check("in a close reason (5.5.1)", &[frame(0x88, b"\x03\xe8\xff")], &[], wrong);
    check("binary need not be", &[frame(0x82, b"\xff")], &[Owned::Binary(vec![0xFF])], None);
}

#[test]
fn closes_with_1007_before_the_frame_is_complete() {
    let whole = frame(0x81, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited");
    // 6 bytes of header, 11 bytes of valid text, and 2 bytes after which no continuation is valid.
    assert_eq!(decode(&whole[..6 + 12], &[6 + 5]).error, None);
    assert_eq!(decode(&whole[..6 + 13], &[6 + 5]).error, Some(CloseReason::InvalidUtf8));
    assert_eq!(decode(&whole[..6 + 13], &[]).error, Some(CloseReason::InvalidUtf8));
}

#[test]
fn closes_with_1009_when_a_message_exceeds_the_limit() {
    let wrong = Some(CloseReason::MessageTooBig);
    let header_only = |bytes: u16| {
        let mut header = frame(0x82, &vec![0; usize::from(bytes)]);
        header.truncate(4);
        header
    };
    check("one frame, on its length alone", &[header_only(1001)], &[], wrong);
    check("as long as allowed", &[header_only(1000)], &[], None);
    check("fragments together", &[frame(0x02, &[0; 999]), frame(0x80, &[0; 2])], &[], wrong);
    let empty = |count| [vec![frame(0x02, b"")], vec![frame(0x00, b""); count]].concat();
    check("fragments without end, though empty", &empty(4), &[], wrong);
    check("as many fragments as allowed", &empty(3), &[], None);
}

#[test]
fn closes_with_1002_when_a_close_frame_is_malformed() {
    let wrong = Some(CloseReason::ProtocolError);
    check("one byte (5.5.1)", &[frame(0x88, b"\x03")], &[], wrong);
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        let stream = [frame(0x88, &code.to_be_bytes())];
        check(&format!("code {code} (7.4)"), &stream, &[], wrong);
    }
    for code in [1000u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        let stream = [frame(0x88, &code.to_be_bytes())];
        check(&format!("code {code} (7.4)"), &stream, &[Owned::Close(Some(code))], None);
    }
}

#[test]
fn a_whole_frame_costs_no_memory() {
    let mut decoder = Decoder::new();
    let mut stream = [frame(0x81, &[b'a'; 500]), frame(0x89, b"ping")].concat();
    let mut at = 0;
    for _ in 0..2 {
        let step = decoder.next(&mut stream[at..], &LIMITS).unwrap();
        at += step.consumed;
        assert!(step.event.is_some());
    }
    assert_eq!(at, stream.len());
    assert!(decoder.is_idle());
    assert_eq!(decoder.buffered_bytes(), 0);
}

#[test]
fn memory_grows_with_what_has_come_not_with_what_is_announced() {
    let mut decoder = Decoder::new();
    let mut stream = frame(0x82, &[7; 1000]);
    let step = decoder.next(&mut stream[..8 + 10], &LIMITS).unwrap();
    assert_eq!(step, Step { consumed: 18, frames: 0, event: None });
    assert_eq!(decoder.buffered_bytes(), 10);
    assert!(!decoder.is_idle());
    let step = decoder.next(&mut stream[18..], &LIMITS).unwrap();
    assert_eq!(step.event, Some(Incoming::Message { opcode: Opcode::Binary, data: &[7; 1000] }));
    assert!(decoder.is_idle(), "a returned message is not unfinished");
    assert_eq!(decoder.buffered_bytes(), 1000);
}

/// Streams that are often valid: frames of all types, with occasional noise.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        0x81u8, 0x81, 0x82, 0x01, 0x02, 0x00, 0x00, 0x80, 0x80, 0x89, 0x8A, 0x88, 0xC1, 0x83,
    ]);
    let payload = prop_oneof![
        4 => "\\PC{0,30}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(Just(b'x'), 0..600),
    ];
    let piece = prop_oneof![
        9 => (first, payload).prop_map(|(first, payload)| frame(first, &payload)),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut(
        stream in streams(),
        pieces in prop::collection::vec(0usize..50, 0..60),
    ) {
        prop_assert_eq!(decode(&stream, &pieces), decode(&stream, &[]));
    }
}
