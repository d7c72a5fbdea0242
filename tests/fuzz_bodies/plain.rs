//! A message of a client without a protocol. It is published, delivered, and wrapped in JSON.

use std::sync::Arc;

use corecast::channel::{ChannelView, DataType, Publication, check_payload};
use corecast::ids::{Epoch, Moment};
use corecast::protocol::{Codec, Command, MessageKind, Protocol, Push, Reply};
use corecast::reason::ClientError;
use corecast::wire::Wire;

use crate::written;

/// The first byte determines the payload's type and the length of the channel's name. The name
/// follows, and the rest is the message.
pub(crate) fn check(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let (name, message) = rest.split_at(rest.len().min(usize::from(choice >> 2)));
    let name = String::from_utf8_lossy(name);
    let (data_type, kind) = match choice & 3 {
        0 => (DataType::Text, MessageKind::Text),
        1 => (DataType::Binary, MessageKind::Binary),
        _ => (DataType::Json, MessageKind::Text),
    };
    // The frame decoder refuses other text.
    if kind == MessageKind::Binary || std::str::from_utf8(message).is_ok() {
        check_commands(kind, message);
    }
    check_errors(&name);
    let Ok(payload) = check_payload(data_type, message) else { return };
    let channel =
        ChannelView { name: &name, data: data_type, has_history: true, epoch: Epoch::new(1) };
    let publication = Publication {
        data: payload.clone(),
        offset: 7,
        publisher: None,
        tags: Box::default(),
        accepted: Moment::default(),
    };
    let publications = [Arc::new(publication)];
    let mut out = Vec::new();
    Wire::websocket(Protocol::Plain).encode_publications(&channel, &publications, &mut out);
    assert_eq!(written::messages(&out), [(kind, &*payload)]);
    let mut out = Vec::new();
    Wire::websocket(Protocol::Envelope).encode_publications(&channel, &publications, &mut out);
    check_envelope(&out, &name);
}

fn check_commands(kind: MessageKind, message: &[u8]) {
    for protocol in [Protocol::Plain, Protocol::Envelope] {
        let decoded = protocol.decode(kind, message);
        let (request, rest) = decoded.expect("any message may be published");
        assert!(matches!(request.command, Command::Publish { data, .. } if data == message));
        assert!(rest.is_empty());
    }
    let echo = Wire::websocket(Protocol::Echo);
    let decoded = echo.protocol.decode(kind, message);
    let (request, _) = decoded.expect("any message comes back");
    let Command::Echo { kind, data } = request.command else { panic!("not an echo") };
    let mut out = Vec::new();
    assert_eq!(echo.encode_reply(0, &Reply::Echo { kind, data }, &mut out), Ok(()));
    assert_eq!(written::messages(&out), [(kind, message)]);
}

fn check_errors(name: &str) {
    for protocol in [Protocol::Plain, Protocol::Envelope, Protocol::Echo] {
        for &error in ClientError::ALL {
            let mut out = Vec::new();
            let reply = Reply::Error(error);
            let closed = Wire::websocket(protocol).encode_reply(0, &reply, &mut out);
            assert!(closed.is_err() && out.is_empty(), "an error has no message");
        }
    }
    let mut out = Vec::new();
    let gap = Push::Gap { channel: name, after: 1, next: u64::MAX };
    assert_eq!(Wire::websocket(Protocol::Envelope).encode_push(&gap, &mut out), Ok(()));
    check_envelope(&out, name);
}

#[derive(serde::Deserialize)]
struct Wrapped {
    channel: String,
}

fn check_envelope(bytes: &[u8], name: &str) {
    let messages = written::messages(bytes);
    let [(MessageKind::Text, text)] = messages[..] else {
        panic!("{messages:?}: one text expected")
    };
    let wrapped: Wrapped = serde_json::from_slice(text).expect("an envelope is JSON");
    assert_eq!(wrapped.channel, name);
}
