//! A message of Centrifugo's protocol. Every command is decoded, and its answers must be JSON that
//! an SDK can read.

use std::sync::Arc;

use corecast::channel::{ChannelView, DataType, Publication, check_payload};
use corecast::ids::{Epoch, Moment, Position};
use corecast::protocol::{
    Codec, Command, MessageKind, Protocol, Push, Reply, Subscribe, Subscribed,
};
use corecast::reason::{ClientError, CloseReason, UnsubscribeReason};
use corecast::wire::Wire;
use serde_json::value::RawValue;

use crate::written;

const WIRE: Wire = Wire::websocket(Protocol::Centrifugo);

/// Checks `message`, which is a single message.
pub(crate) fn check(message: &[u8]) {
    let mut rest = message;
    loop {
        let (request, later) = match WIRE.protocol.decode(MessageKind::Text, rest) {
            Ok(decoded) => decoded,
            Err(reason) => return assert_eq!(reason, CloseReason::BadRequest),
        };
        assert!(later.len() < rest.len() && rest.ends_with(later), "every command takes bytes");
        rest = later;
        match &request.command {
            Command::Subscribe(subscribe) => check_subscribe(request.id, subscribe),
            Command::Publish { channel, data } => check_publish(request.id, channel, data),
            Command::Unsubscribe { channel } => check_unsubscribe(request.id, channel),
            Command::History(history) => assert!(!history.channel.is_empty()),
            Command::Echo { .. } => panic!("the protocol has no echo"),
            Command::Connect(_) | Command::Unavailable | Command::Send { .. } | Command::Pong => {}
        }
        for &error in ClientError::ALL {
            let json = reply(request.id, &Reply::Error(error));
            assert!(json.contains(&format!("\"code\":{}", error.details().code)), "{json}");
        }
        if rest.is_empty() {
            return;
        }
    }
}

fn view(channel: &str, data: DataType) -> ChannelView<'_> {
    ChannelView { name: channel, data, has_history: true, epoch: Epoch::new(1) }
}

fn check_subscribe(id: u32, subscribe: &Subscribe<'_>) {
    assert!(!subscribe.channel.is_empty(), "an empty channel is refused");
    let name = subscribe.channel.as_bytes();
    let publication = Arc::new(publication(name.into()));
    reply(
        id,
        &Reply::Subscribed(Subscribed {
            channel: view(&subscribe.channel, DataType::Text),
            recoverable: subscribe.recoverable,
            positioned: subscribe.positioned,
            was_recovering: subscribe.recover.is_some(),
            recovered: subscribe.recover.is_some(),
            publications: &[publication],
            position: Position { epoch: Epoch::new(1), offset: 6 },
        }),
    );
}

fn check_unsubscribe(id: u32, channel: &str) {
    assert!(!channel.is_empty(), "an empty channel is refused");
    reply(id, &Reply::Unsubscribed);
    let mut out = Vec::new();
    let reason = UnsubscribeReason::InsufficientState;
    let push = Push::Unsubscribed { channel, reason };
    assert_eq!(WIRE.encode_push(&push, &mut out), Ok(()));
    only_object(&out);
}

#[derive(serde::Deserialize)]
struct Outer<'m> {
    #[serde(borrow)]
    push: Inner<'m>,
}

#[derive(serde::Deserialize)]
struct Inner<'m> {
    channel: String,
    #[serde(borrow, rename = "pub")]
    publication: Written<'m>,
}

#[derive(serde::Deserialize)]
struct Written<'m> {
    #[serde(borrow)]
    data: &'m RawValue,
    offset: u64,
}

/// A payload from a client's JSON must be written as JSON that means the same.
fn check_meaning(data_type: DataType, data: &[u8]) {
    let Ok(payload) = WIRE.protocol.payload(data_type, data) else {
        return assert_ne!(data_type, DataType::Json, "JSON means itself");
    };
    let Ok(payload) = check_payload(data_type, &payload) else { return };
    let mut out = Vec::new();
    let publication = Arc::new(publication(payload.clone()));
    WIRE.encode_publications(&view("c", data_type), &[publication], &mut out);
    let json = only_object(&out);
    let Outer { push } = serde_json::from_str(&json).expect("a push of a publication");
    let written = push.publication.data.get().as_bytes();
    let again = WIRE.protocol.payload(data_type, written).expect("what we write we can read");
    assert_eq!(*again, *payload);
}

/// A published payload must be delivered unchanged, whatever its type.
fn check_publish(id: u32, channel: &str, data: &[u8]) {
    assert!(!channel.is_empty(), "an empty channel is refused");
    reply(id, &Reply::Published);
    for data_type in [DataType::Json, DataType::Text, DataType::Binary] {
        check_meaning(data_type, data);
        let Ok(payload) = check_payload(data_type, data) else {
            assert_eq!(data_type, DataType::Json, "JSON may be too deep, text is always text");
            continue;
        };
        let publication = Arc::new(publication(payload.clone()));
        let mut out = Vec::new();
        WIRE.encode_publications(&view(channel, data_type), &[publication], &mut out);
        let json = only_object(&out);
        let Outer { push } = serde_json::from_str(&json).expect("a push of a publication");
        assert_eq!(push.channel, channel);
        assert_eq!(push.publication.offset, 7);
        let written = push.publication.data.get();
        match data_type {
            DataType::Json => assert_eq!(written.as_bytes(), &*payload),
            DataType::Text => {
                let text: String = serde_json::from_str(written).expect("text is a string");
                assert_eq!(text.as_bytes(), &*payload);
            }
            DataType::Binary => assert!(written.starts_with('"')),
        }
    }
}

fn publication(data: Box<[u8]>) -> Publication {
    Publication {
        data,
        offset: 7,
        publisher: None,
        tags: Box::default(),
        accepted: Moment::default(),
    }
}

fn reply(id: u32, reply: &Reply<'_>) -> String {
    let mut out = Vec::new();
    assert_eq!(WIRE.encode_reply(id, reply, &mut out), Ok(()));
    only_object(&out)
}

/// Returns the only message in `bytes`, which must be one line with one JSON object.
fn only_object(bytes: &[u8]) -> String {
    let messages = written::messages(bytes);
    let [(MessageKind::Text, text)] = messages[..] else {
        panic!("{messages:?}: one text expected")
    };
    assert!(!text.contains(&b'\n'), "a line feed would begin another message");
    assert_eq!(text.first(), Some(&b'{'));
    serde_json::from_slice::<&RawValue>(text).expect("valid JSON");
    String::from_utf8(text.to_vec()).expect("valid text")
}
