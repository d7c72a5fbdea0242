//! Tests of the bytes that Centrifugo's clients receive.

use super::*;
use std::time::Duration;

use crate::channel::DataType;
use crate::ids::{ClientId, Epoch, Moment};
use crate::protocol::Codec;
use crate::protocol::centrifugo::Centrifugo;
use crate::protocol::message::Written;
use crate::reason::UnsubscribeReason;

fn channel(data: DataType) -> ChannelView<'static> {
    ChannelView { name: "chat:1", data, has_history: true, epoch: Epoch::new(0xE) }
}

fn publication(offset: u64, data: &str) -> Arc<Publication> {
    Arc::new(Publication {
        data: data.as_bytes().into(),
        offset,
        publisher: None,
        tags: Box::default(),
        accepted: Moment::default(),
    })
}

/// The messages in `written`, which must be text.
fn texts(written: Written) -> Vec<String> {
    let text = |(kind, payload)| {
        assert_eq!(kind, MessageKind::Text);
        String::from_utf8(payload).unwrap()
    };
    written.into_iter().map(text).collect()
}

#[track_caller]
fn check(reply: &Reply<'_>, json: &str) {
    let mut out = Written::new();
    assert_eq!(Centrifugo.encode_reply(3, reply, &mut out), Ok(()));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(texts(out), [json.replace("VERSION", version)]);
}

fn subscribed(publications: &[Arc<Publication>]) -> Subscribed<'_> {
    Subscribed {
        channel: channel(DataType::Json),
        recoverable: false,
        positioned: false,
        was_recovering: false,
        recovered: false,
        publications,
        position: Position { epoch: Epoch::new(0xE), offset: 41 },
    }
}

#[test]
fn a_connect_reply_says_how_the_connection_is_kept_alive() {
    let client = ClientId::from_raw(1);
    let front = r#"{"id":3,"connect":{"client":"00000000-0000-8000-8000-000000000001","#;
    let cases = [
        (None, false, r#""version":"VERSION"}}"#),
        (Some(Duration::from_secs(25)), true, r#""version":"VERSION","ping":25,"pong":true}}"#),
        (Some(Duration::from_millis(1)), false, r#""version":"VERSION","ping":1}}"#),
    ];
    for (ping, pong, rest) in cases {
        let reply = Reply::Connected(Connected { client, ping, pong, subs: &[] });
        check(&reply, &format!("{front}{rest}"));
    }
    let missed = [publication(42, "{}")];
    let recovered = Subscribed {
        recoverable: true,
        recovered: true,
        was_recovering: true,
        positioned: true,
        ..subscribed(&missed)
    };
    let other =
        Subscribed { channel: ChannelView { name: "b", ..recovered.channel }, ..subscribed(&[]) };
    let subs = &[recovered, other];
    let rest = concat!(
        r#""version":"VERSION","subs":{"chat:1":{"recoverable":true,"positioned":true,"#,
        r#""epoch":"e","offset":41,"publications":[{"data":{},"offset":42}],"recovered":true,"#,
        r#""was_recovering":true},"b":{}}}}"#
    );
    let reply = Reply::Connected(Connected { client, ping: None, pong: false, subs });
    check(&reply, &format!("{front}{rest}"));
}

#[test]
fn a_result_object_is_written_even_if_it_is_empty() {
    check(&Reply::Published, r#"{"id":3,"publish":{}}"#);
    check(&Reply::Unsubscribed, r#"{"id":3,"unsubscribe":{}}"#);
    check(&Reply::Subscribed(subscribed(&[])), r#"{"id":3,"subscribe":{}}"#);
    let top = Position { epoch: Epoch::new(0xE), offset: 0 };
    check(
        &Reply::History { channel: channel(DataType::Json), publications: &[], top },
        r#"{"id":3,"history":{"publications":[],"epoch":"e","offset":0}}"#,
    );
}

#[test]
fn a_subscribe_reply_carries_the_position_and_what_was_missed() {
    let positioned = Subscribed { positioned: true, ..subscribed(&[]) };
    check(
        &Reply::Subscribed(positioned),
        r#"{"id":3,"subscribe":{"positioned":true,"epoch":"e","offset":41}}"#,
    );
    let at_start = Position { epoch: Epoch::new(0xE), offset: 0 };
    check(
        &Reply::Subscribed(Subscribed { position: at_start, ..positioned }),
        r#"{"id":3,"subscribe":{"positioned":true,"epoch":"e"}}"#,
    );
    let unrecovered = Subscribed { was_recovering: true, ..subscribed(&[]) };
    check(&Reply::Subscribed(unrecovered), r#"{"id":3,"subscribe":{"was_recovering":true}}"#);
    let missed = [publication(42, "{}"), publication(43, "[1]")];
    check(
        &Reply::Subscribed(Subscribed {
            recoverable: true,
            recovered: true,
            was_recovering: true,
            positioned: true,
            ..subscribed(&missed)
        }),
        concat!(
            r#"{"id":3,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":41,"#,
            r#""publications":[{"data":{},"offset":42},{"data":[1],"offset":43}],"#,
            r#""recovered":true,"was_recovering":true}}"#
        ),
    );
}

#[test]
fn a_subscription_by_the_application_says_where_it_begins_before_what_was_missed() {
    let missed = [publication(42, "{}")];
    let push = |subscribed| {
        let mut out = Written::new();
        assert_eq!(Centrifugo.encode_push(&Push::Subscribed(subscribed), &mut out), Ok(()));
        texts(out)
    };
    let name = channel(DataType::Json).name;
    let front = format!(r#"{{"push":{{"channel":"{name}","#);
    assert_eq!(push(subscribed(&[])), [format!(r#"{front}"subscribe":{{}}}}}}"#)]);
    let recoverable = Subscribed { recoverable: true, positioned: true, ..subscribed(&missed) };
    let fields = r#""recoverable":true,"positioned":true,"epoch":"e","offset":41"#;
    let expected = [
        format!(r#"{front}"subscribe":{{{fields}}}}}}}"#),
        format!(r#"{front}"pub":{{"data":{{}},"offset":42}}}}}}"#),
    ];
    assert_eq!(push(recoverable), expected);
}

#[test]
fn an_error_says_whether_to_try_again() {
    check(
        &Reply::Error(ClientError::PermissionDenied),
        r#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#,
    );
    check(
        &Reply::Error(ClientError::TooManyRequests),
        r#"{"id":3,"error":{"code":111,"message":"too many requests","temporary":true}}"#,
    );
    let echo = Reply::Echo { kind: MessageKind::Text, data: b"" };
    let mut out = Written::new();
    assert_eq!(Centrifugo.encode_reply(1, &echo, &mut out), Err(CloseReason::InternalError));
    assert_eq!(out, []);
}

#[test]
fn a_publication_is_one_message_whatever_its_type() {
    let cases = [
        (DataType::Json, r#"{"t":"hi"}"#.to_owned(), r#"{"t":"hi"}"#.to_owned()),
        (DataType::Text, "a\n\"".to_owned(), r#""a\n\"""#.to_owned()),
        (DataType::Binary, "abc".to_owned(), r#""YWJj""#.to_owned()),
    ];
    for (data_type, data, json) in cases {
        let mut out = Written::new();
        let publications = [publication(42, &data), publication(43, &data)];
        Centrifugo.encode_publications(&channel(data_type), &publications, &mut out);
        let expected = [42, 43].map(|offset| {
            let publication = format!(r#"{{"data":{json},"offset":{offset}}}"#);
            format!(r#"{{"push":{{"channel":"chat:1","pub":{publication}}}}}"#)
        });
        assert_eq!(texts(out), expected);
    }
}

#[test]
fn the_first_publication_of_an_epoch_names_it() {
    let written = |channel: &ChannelView<'_>| {
        let mut out = Written::new();
        Centrifugo.encode_publications(channel, &[publication(1, "{}")], &mut out);
        texts(out).concat()
    };
    let kept = channel(DataType::Json);
    let front = r#"{"push":{"channel":"chat:1","pub":{"data":{}"#;
    assert_eq!(written(&kept), format!(r#"{front},"offset":1,"epoch":"e"}}}}}}"#));
    let bare = ChannelView { has_history: false, ..kept };
    assert_eq!(written(&bare), format!("{front}}}}}}}"));
}

#[test]
fn a_subscription_that_ends_says_why() {
    let cases = [
        (UnsubscribeReason::Server, r#"{"code":2000,"reason":"server unsubscribe"}"#),
        (UnsubscribeReason::InsufficientState, r#"{"code":2500,"reason":"insufficient state"}"#),
    ];
    for (reason, json) in cases {
        let mut out = Written::new();
        let push = Push::Unsubscribed { channel: "a\"b", reason };
        assert_eq!(Centrifugo.encode_push(&push, &mut out), Ok(()));
        let expected = format!(r#"{{"push":{{"channel":"a\"b","unsubscribe":{json}}}}}"#);
        assert_eq!(texts(out), [expected]);
    }
    let gap = Push::Gap { channel: "c", after: 1, next: 3 };
    let mut out = Written::new();
    assert_eq!(Centrifugo.encode_push(&gap, &mut out), Err(CloseReason::InsufficientState));
}

#[test]
fn a_ping_is_an_empty_object() {
    let mut out = Written::new();
    assert!(Centrifugo.encode_ping(&mut out));
    assert_eq!(texts(out), ["{}"]);
}
