//! Tests of the messages from and to plain WebSocket clients.

use super::*;
use crate::ids::{Epoch, Moment};
use crate::protocol::Protocol;
use crate::protocol::message::Written;

fn channel(data: DataType) -> ChannelView<'static> {
    ChannelView { name: "c\"", data, has_history: true, epoch: Epoch::new(0xE) }
}

fn publication(offset: u64, data: &[u8]) -> Arc<Publication> {
    Arc::new(Publication {
        data: data.into(),
        offset,
        publisher: None,
        tags: Box::default(),
        accepted: Moment::default(),
    })
}

fn subscribed(publications: &[Arc<Publication>], recovered: bool) -> Reply<'_> {
    Reply::Subscribed(Subscribed {
        channel: channel(DataType::Json),
        recoverable: true,
        positioned: true,
        was_recovering: true,
        recovered,
        publications,
        position: Position { epoch: Epoch::new(0xE), offset: 4 },
    })
}

fn message(kind: MessageKind, payload: &[u8]) -> (MessageKind, Vec<u8>) {
    (kind, payload.to_vec())
}

fn text(json: &str) -> (MessageKind, Vec<u8>) {
    message(MessageKind::Text, json.as_bytes())
}

fn reply(protocol: Protocol, reply: &Reply<'_>) -> Result<Written, CloseReason> {
    let mut out = Written::new();
    protocol.encode_reply(0, reply, &mut out).map(|()| out)
}

fn push(protocol: Protocol, push: &Push<'_>) -> Result<Written, CloseReason> {
    let mut out = Written::new();
    protocol.encode_push(push, &mut out).map(|()| out)
}

const GAP: Push<'static> = Push::Gap { channel: "c\"", after: 2, next: 5 };

fn unsubscribed(reason: UnsubscribeReason) -> Push<'static> {
    Push::Unsubscribed { channel: "c\"", reason }
}

#[test]
fn every_message_is_one_command() {
    for message in [&b"[1]\n[2]"[..], b""] {
        for protocol in [Protocol::Plain, Protocol::Envelope] {
            let (request, rest) = protocol.decode(MessageKind::Binary, message).unwrap();
            assert_eq!(request.id, 0);
            let channel = "".into();
            assert_eq!(request.command, Command::Publish { channel, data: message });
            assert_eq!(rest, b"");
        }
        let (request, rest) = Echo.decode(MessageKind::Text, message).unwrap();
        assert_eq!(request.command, Command::Echo { kind: MessageKind::Text, data: message });
        assert_eq!(rest, b"");
    }
}

#[test]
fn plain_publications_are_the_payloads() {
    let publications = [publication(1, b"one"), publication(2, b"")];
    for (data_type, kind) in [
        (DataType::Json, MessageKind::Text),
        (DataType::Text, MessageKind::Text),
        (DataType::Binary, MessageKind::Binary),
    ] {
        let mut out = Written::new();
        Plain.encode_publications(&channel(data_type), &publications, &mut out);
        assert_eq!(out, [message(kind, b"one"), message(kind, b"")]);
    }
}

#[test]
fn envelopes_say_where_a_publication_stands() {
    let cases: &[(DataType, &[u8], &str)] = &[
        (DataType::Json, b"[1]", "[1]"),
        (DataType::Text, b"\n", r#""\n""#),
        (DataType::Binary, b"\xff", r#""/w==""#),
    ];
    for &(data_type, data, json) in cases {
        let mut out = Written::new();
        Envelope.encode_publications(&channel(data_type), &[publication(7, data)], &mut out);
        let expected = format!(r#"{{"channel":"c\"","data":{json},"offset":7,"epoch":"e"}}"#);
        assert_eq!(out, [text(&expected)]);
    }
}

#[test]
fn a_recovery_is_the_publications_that_were_missed() {
    let missed = [publication(5, b"5")];
    assert_eq!(reply(Protocol::Plain, &subscribed(&missed, true)), Ok(vec![text("5")]));
    assert_eq!(
        reply(Protocol::Envelope, &subscribed(&missed, true)),
        Ok(vec![
            text(r#"{"channel":"c\"","epoch":"e","offset":4}"#),
            text(r#"{"channel":"c\"","data":5,"offset":5,"epoch":"e"}"#),
        ])
    );
}

#[test]
fn what_can_not_be_recovered_is_a_gap_or_a_close() {
    let refused = Err(CloseReason::InsufficientState);
    assert_eq!(reply(Protocol::Plain, &subscribed(&[], false)), refused);
    assert_eq!(
        reply(Protocol::Envelope, &subscribed(&[], false)),
        Ok(vec![
            text(r#"{"channel":"c\"","gap":{"after":0,"next":5}}"#),
            text(r#"{"channel":"c\"","epoch":"e","offset":4}"#),
        ])
    );
    assert_eq!(push(Protocol::Plain, &GAP), refused);
    assert_eq!(
        push(Protocol::Envelope, &GAP),
        Ok(vec![text(r#"{"channel":"c\"","gap":{"after":2,"next":5}}"#)])
    );
    let insufficient = unsubscribed(UnsubscribeReason::InsufficientState);
    assert_eq!(push(Protocol::Plain, &insufficient), refused);
    assert_eq!(push(Protocol::Envelope, &insufficient), Ok(vec![]));
}

#[test]
fn what_has_no_message_is_silent_or_closes() {
    let server = unsubscribed(UnsubscribeReason::Server);
    for protocol in [Protocol::Plain, Protocol::Envelope] {
        assert_eq!(reply(protocol, &Reply::Published), Ok(vec![]));
        assert_eq!(reply(protocol, &Reply::Unsubscribed), Ok(vec![]));
        assert_eq!(push(protocol, &server), Err(CloseReason::ForceDisconnect));
        for (error, reason) in [
            (ClientError::PermissionDenied, CloseReason::PermissionDenied),
            (ClientError::TooManyRequests, CloseReason::TooManyRequests),
            (ClientError::LimitExceeded, CloseReason::ChannelLimit),
            (ClientError::UnknownChannel, CloseReason::BadRequest),
        ] {
            assert_eq!(reply(protocol, &Reply::Error(error)), Err(reason));
        }
        assert!(!protocol.encode_ping(&mut Written::new()), "WebSocket's own ping serves");
    }
}

#[test]
fn an_echo_comes_back_as_it_came() {
    let echo = Reply::Echo { kind: MessageKind::Binary, data: b"\x00" };
    assert_eq!(reply(Protocol::Echo, &echo), Ok(vec![message(MessageKind::Binary, b"\x00")]));
    assert_eq!(reply(Protocol::Plain, &echo), Err(CloseReason::InternalError));
}
