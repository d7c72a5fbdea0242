//! Tests of the bytes that connections receive, and of the expected lengths that save moving
//! payloads.

use super::*;
use crate::channel::DataType;
use crate::ids::{Epoch, Moment};

const ECHO: Wire = Wire::websocket(Protocol::Echo);

fn publication(data: &str) -> Arc<Publication> {
    Arc::new(Publication {
        data: data.as_bytes().into(),
        offset: 42,
        publisher: None,
        tags: Box::default(),
        accepted: Moment::default(),
    })
}

/// Returns the bytes of the same publication twice.
fn published(wire: Wire, data_type: DataType, data: &str) -> Vec<u8> {
    let channel =
        ChannelView { name: "c", data: data_type, has_history: true, epoch: Epoch::new(0xE) };
    let mut out = b"before".to_vec();
    wire.encode_publications(&channel, &[publication(data), publication(data)], &mut out);
    assert!(out.starts_with(b"before"), "existing bytes stay");
    out.split_off(b"before".len())
}

/// Returns a frame with `payload`, twice.
fn frames(opcode: Opcode, payload: &str) -> Vec<u8> {
    let mut out = Vec::new();
    ws::encode_frame(opcode, payload.as_bytes(), &mut out);
    out.repeat(2)
}

#[test]
fn each_wire_has_its_own_place_in_tables() {
    let mut taken = [false; Wire::COUNT];
    for protocol in Protocol::ALL {
        let before = std::mem::replace(&mut taken[Wire::websocket(protocol).index()], true);
        assert!(!before, "{protocol:?} shares its place");
    }
    assert_eq!(taken, [true; Wire::COUNT]);
}

#[test]
fn a_short_message_is_a_frame_with_a_header_of_two_bytes() {
    let mut out = Vec::new();
    for (kind, data) in [(MessageKind::Text, &b"ab"[..]), (MessageKind::Binary, b"")] {
        assert_eq!(ECHO.encode_reply(0, &Reply::Echo { kind, data }, &mut out), Ok(()));
    }
    assert_eq!(out, b"\x81\x02ab\x82\x00");
    out.clear();
    let centrifugo = Wire::websocket(Protocol::Centrifugo);
    assert_eq!(centrifugo.encode_reply(3, &Reply::Published, &mut out), Ok(()));
    assert_eq!(out, b"\x81\x15{\"id\":3,\"publish\":{}}");
}

#[test]
fn a_message_is_one_frame_whatever_length_its_codec_expected() {
    // Escapes make a payload longer than the codec expects. The lengths are those around which a
    // header grows, with and without escapes.
    for length in (0..130).chain(32_700..32_770).chain(65_440..65_540) {
        let text = "\n".repeat(length);
        let json = "7".repeat(length);
        let envelope =
            |data: &str| format!(r#"{{"channel":"c","data":{data},"offset":42,"epoch":"e"}}"#);
        let push = |data: &str| {
            format!(r#"{{"push":{{"channel":"c","pub":{{"data":{data},"offset":42}}}}}}"#)
        };
        let escaped = format!("\"{}\"", "\\n".repeat(length));
        for (data_type, data, json) in
            [(DataType::Json, &json, &json), (DataType::Text, &text, &escaped)]
        {
            let bytes = published(Wire::websocket(Protocol::Plain), data_type, data);
            assert!(bytes == frames(Opcode::Text, data), "{length}");
            let bytes = published(Wire::websocket(Protocol::Envelope), data_type, data);
            assert!(bytes == frames(Opcode::Text, &envelope(json)), "{length}");
            let bytes = published(Wire::websocket(Protocol::Centrifugo), data_type, data);
            assert!(bytes == frames(Opcode::Text, &push(json)), "{length}");
        }
    }
}

#[test]
fn bytes_are_a_binary_message_where_the_payload_is_the_message() {
    let plain = published(Wire::websocket(Protocol::Plain), DataType::Binary, "abc");
    assert_eq!(plain, frames(Opcode::Binary, "abc"));
    let wrapped = r#"{"channel":"c","data":"YWJj","offset":42,"epoch":"e"}"#;
    let envelope = published(Wire::websocket(Protocol::Envelope), DataType::Binary, "abc");
    assert_eq!(envelope, frames(Opcode::Text, wrapped));
}

#[test]
fn a_protocol_without_a_ping_uses_that_of_the_framing() {
    let mut out = Vec::new();
    assert!(Wire::websocket(Protocol::Centrifugo).encode_ping(&mut out));
    assert_eq!(out, b"\x81\x02{}");
    out.clear();
    assert!(!ECHO.encode_ping(&mut out));
    assert_eq!(out, b"");
    ECHO.encode_frame_ping(&mut out);
    ECHO.encode_pong(b"a", &mut out);
    ECHO.encode_close(1000, "b", &mut out);
    assert_eq!(out, b"\x89\x00\x8a\x01a\x88\x03\x03\xe8b");
}

#[test]
fn the_rest_of_a_frame_ends_where_the_next_one_begins() {
    let bytes = frames(Opcode::Text, "abc");
    let rests: Vec<usize> = (0..=10).map(|at| ECHO.rest_of_frame(&bytes, at)).collect();
    assert_eq!(rests, [0, 4, 3, 2, 1, 0, 4, 3, 2, 1, 0]);
}
