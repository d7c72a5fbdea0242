//! Parses the frames that a wire made of a codec's messages.

use corecast::protocol::MessageKind;

/// Returns the messages in `bytes`, which must be complete, unmasked and unfragmented frames.
pub(crate) fn messages(mut bytes: &[u8]) -> Vec<(MessageKind, &[u8])> {
    let mut messages = Vec::new();
    while let [first, short, rest @ ..] = bytes {
        let kind = match first {
            0x81 => MessageKind::Text,
            0x82 => MessageKind::Binary,
            other => panic!("{other:#x} begins no message"),
        };
        let (length, rest) = match short {
            0..=125 => (usize::from(*short), rest),
            126 => {
                let (length, rest) = rest.split_first_chunk().expect("a length of two bytes");
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk().expect("a length of eight bytes");
                (u64::from_be_bytes(*length) as usize, rest)
            }
            _ => panic!("a server masks nothing"),
        };
        let (payload, rest) = rest.split_at(length);
        if kind == MessageKind::Text {
            assert!(std::str::from_utf8(payload).is_ok(), "text is UTF-8");
        }
        messages.push((kind, payload));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "no frame is cut");
    messages
}
