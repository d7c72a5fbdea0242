//! Tests with valid and invalid messages of Centrifugo's clients.

use super::*;
use crate::ids::Epoch;

#[track_caller]
fn check(json: &str, id: u32, command: Command<'_>) {
    assert_eq!(first_request(json.as_bytes()), Ok((Request { id, command }, &b""[..])), "{json}");
}

#[track_caller]
fn check_refused(json: &str) {
    assert_eq!(first_request(json.as_bytes()), Err(CloseReason::BadRequest), "{json}");
}

fn wish(channel: &str) -> Subscribe<'_> {
    Subscribe {
        channel: channel.into(),
        recover: None,
        positioned: false,
        recoverable: false,
        reject_unrecovered: false,
        refused: None,
    }
}

fn connect() -> Command<'static> {
    Command::Connect(Connect::default())
}

#[test]
fn a_connect_presents_a_token_and_names_the_subscriptions_that_it_had() {
    let token = Connect { has_token: true, ..Connect::default() };
    check(r#"{"id":1,"connect":{"token":"JWT","subs":null}}"#, 1, Command::Connect(token));
    let since = Since { epoch: SinceEpoch::Exactly(Epoch::new(0xE)), offset: 7 };
    let resumed = vec![
        Resumed { channel: "a\"b".into(), recover: None },
        Resumed { channel: "c".into(), recover: Some(since) },
        Resumed { channel: "d".into(), recover: None },
    ];
    let json = concat!(
        r#"{"id":1,"connect":{"subs":{"d":null,"a\"b":{},"#,
        r#""c":{"recover":true,"offset":7,"epoch":"e"}}}}"#
    );
    check(json, 1, Command::Connect(Connect { has_token: false, resumed }));
}

#[test]
fn commands_are_read_as_sdks_write_them() {
    check(r#"{"id":1,"connect":{"token":"","data":{},"name":"js"}}"#, 1, connect());
    check(r#" { "connect" : { } , "id" : 1 } "#, 1, connect());
    check(
        r#"{"id":2,"subscribe":{"channel":"chat:1","flag":1}}"#,
        2,
        Command::Subscribe(wish("chat:1")),
    );
    check(
        r#"{"id":3,"unsubscribe":{"channel":"chat:1"}}"#,
        3,
        Command::Unsubscribe { channel: "chat:1".into() },
    );
    check(
        r#"{"id":4,"publish":{"channel":"a\"b","data":{"t": [1]}}}"#,
        4,
        Command::Publish { channel: "a\"b".into(), data: br#"{"t": [1]}"# },
    );
    check(
        r#"{"id":4,"publish":{"channel":"c","data":null}}"#,
        4,
        Command::Publish { channel: "c".into(), data: b"null" },
    );
    check(
        r#"{"id":4,"publish":{"channel":"c"}}"#,
        4,
        Command::Publish { channel: "c".into(), data: b"" },
    );
    let page = HistoryPage { limit: 0, since: None, reverse: false };
    check(
        r#"{"id":5,"history":{"channel":"c"}}"#,
        5,
        Command::History(HistoryQuery { channel: "c".into(), page }),
    );
    let since = Some(Since { epoch: SinceEpoch::Exactly(Epoch::new(0xE)), offset: 7 });
    let page = HistoryPage { limit: -1, since, reverse: true };
    check(
        concat!(
            r#"{"id":5,"history":{"channel":"c","limit":-1,"#,
            r#""since":{"offset":7,"epoch":"e"},"reverse":true}}"#
        ),
        5,
        Command::History(HistoryQuery { channel: "c".into(), page }),
    );
}

#[test]
fn a_subscription_says_how_it_wants_to_recover() {
    let since = |epoch, offset| Some(Since { epoch, offset });
    let cases = [
        (
            r#""recover":true,"offset":41,"epoch":"ab""#,
            Subscribe { recover: since(SinceEpoch::Exactly(Epoch::new(0xAB)), 41), ..wish("c") },
        ),
        (r#""recover":true"#, Subscribe { recover: since(SinceEpoch::Any, 0), ..wish("c") }),
        (
            r#""recover":true,"epoch":"_","offset":0"#,
            Subscribe { recover: since(SinceEpoch::Unknown, 0), ..wish("c") },
        ),
        (r#""recover":false,"offset":41,"epoch":"ab""#, wish("c")),
        (r#""positioned":true"#, Subscribe { positioned: true, ..wish("c") }),
        (r#""recoverable":true"#, Subscribe { recoverable: true, ..wish("c") }),
        (r#""flag":3"#, Subscribe { reject_unrecovered: true, ..wish("c") }),
        (r#""delta":"fossil""#, wish("c")),
        (r#""delta":"","tf":null,"type":0,"data":null,"token":null"#, wish("c")),
        (
            r#""type":1,"tf":{}"#,
            Subscribe { refused: Some(ClientError::PermissionDenied), ..wish("c") },
        ),
        (
            r#""token":"JWT""#,
            Subscribe { refused: Some(ClientError::PermissionDenied), ..wish("c") },
        ),
        (r#""tf":{"key":"k"}"#, Subscribe { refused: Some(ClientError::BadRequest), ..wish("c") }),
    ];
    for (fields, expected) in cases {
        let json = format!(r#"{{"id":2,"subscribe":{{"channel":"c",{fields}}}}}"#);
        check(&json, 2, Command::Subscribe(expected));
    }
}

#[test]
fn what_expects_no_answer_is_a_pong_or_a_send() {
    check("{}", 0, Command::Pong);
    check(r#"{"id":0}"#, 0, Command::Pong);
    check(r#"{"id":null}"#, 0, Command::Pong);
    check(r#"{"connect":{}}"#, 0, Command::Pong);
    check(r#"{"subscribe":5,"send":null}"#, 0, Command::Pong);
    check(r#"{"send":{"data":{}}}"#, 0, Command::Send { data: b"{}" });
}

#[test]
fn of_several_bodies_the_first_in_order_counts() {
    check(r#"{"id":1,"subscribe":{"channel":"c"},"connect":{}}"#, 1, connect());
    check(
        r#"{"id":1,"connect":null,"publish":{},"subscribe":{"channel":"c"}}"#,
        1,
        Command::Subscribe(wish("c")),
    );
    check(r#"{"id":1,"refresh":{},"send":{}}"#, 1, Command::Send { data: b"" });
}

#[test]
fn methods_that_this_server_lacks_are_unavailable() {
    for body in [
        r#""presence":{"channel":"c"}"#,
        r#""presence_stats":{"channel":"c"}"#,
        r#""rpc":{"method":"m","data":{}}"#,
        r#""refresh":{"token":"t"}"#,
        r#""sub_refresh":{"token":"t"}"#,
        r#""publish":{"channel":"c","type":1,"key":"k","removed":true}"#,
    ] {
        check(&format!(r#"{{"id":9,{body}}}"#), 9, Command::Unavailable);
    }
}

#[test]
fn closes_with_3501_when_a_command_makes_no_sense() {
    for body in [
        r#""ping":{}"#,
        r#""unknown":{}"#,
        r#""subscribe":{}"#,
        r#""subscribe":{"channel":""}"#,
        r#""subscribe":{"channel":null}"#,
        r#""subscribe":{"channel":7}"#,
        r#""subscribe":["c"]"#,
        r#""subscribe":{"channel":"c","delta":"xdelta"}"#,
        r#""subscribe":{"channel":"c","offset":-1}"#,
        r#""subscribe":{"channel":"c","offset":1e99}"#,
        r#""subscribe":{"channel":"c","recover":1}"#,
        r#""unsubscribe":{"channel":""}"#,
        r#""publish":{"channel":"","data":1}"#,
        r#""presence":{}"#,
        r#""presence_stats":{"channel":""}"#,
        r#""history":{"channel":""}"#,
        r#""history":{"channel":"c","since":[1,"e"]}"#,
        r#""connect":5"#,
        r#""connect":[]"#,
        r#""connect":{"token":7}"#,
        r#""connect":{"subs":["c"]}"#,
        r#""connect":{"subs":{"c":[true]}}"#,
        r#""connect":{"subs":{"":{}}}"#,
    ] {
        check_refused(&format!(r#"{{"id":1,{body}}}"#));
    }
    check_refused(r#"{"id":1}"#);
}

#[test]
fn closes_with_3501_when_a_line_is_not_a_json_object() {
    for line in [
        "",
        " ",
        "\n",
        "\n{}",
        "null",
        "7",
        "[]",
        r#"[1,{}]"#,
        "{",
        "{}{}",
        "{}x",
        r#"{"id":-1}"#,
        r#"{"id":4294967296}"#,
        r#"{"id":1.5}"#,
        r#"{"id":"1"}"#,
        r#"{"id":1,"id":2}"#,
        "{\"id\":1,\"connect\":{\"data\":\"\u{1}\"}}",
    ] {
        check_refused(line);
    }
    assert_eq!(first_request(b"{\"x\":\"\xff\"}"), Err(CloseReason::BadRequest));
}

#[test]
fn the_lines_of_a_message_are_handed_out_one_by_one() {
    let message = b"{\"id\":1,\"connect\":{}}\r\n{}\n{\"send\":{}}\n";
    let (first, rest) = first_request(message).unwrap();
    assert_eq!(first.command, connect());
    let (second, rest) = first_request(rest).unwrap();
    assert_eq!(second.command, Command::Pong);
    let (third, rest) = first_request(rest).unwrap();
    assert_eq!(third.command, Command::Send { data: b"" });
    assert_eq!(rest, b"", "a line feed at the end begins no line");
}

#[test]
fn hostile_nesting_costs_no_stack() {
    let deep = "[".repeat(200_000);
    check_refused(&deep);
    check_refused(&format!(r#"{{"id":1,"connect":{{"data":{deep}"#));
    let closed = format!("{deep}{}", "]".repeat(200_000));
    check(&format!(r#"{{"x":{closed}}}"#), 0, Command::Pong);
    let json = format!(r#"{{"id":1,"publish":{{"channel":"c","data":{closed}}}}}"#);
    let data = closed.as_bytes();
    check(&json, 1, Command::Publish { channel: "c".into(), data });
}
