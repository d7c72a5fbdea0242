//! Tests of the methods: the messages that they send to shards, and their use of the answers.

use super::*;
use crate::channel::{ChannelName, HistoryUse, Publication, Publisher};
use crate::mesh::ControlRequest;
use crate::reason::ClientError;

#[tokio::test]
async fn publish_sends_the_payload_to_the_home_shard_and_answers_its_position() {
    let node = node_with(settings(), obedient);
    let body = r#"{"channel":"chat:1","data":{"a":
        1},"tags":{"k":"v"},"skip_history":true,"idempotency_key":"once","unknown":1}"#;
    let expected = r#"{"result":{"offset":5,"epoch":"e"}}"#;
    assert_eq!(node.post("/api/publish", body).await, (200, expected.to_owned()));
    let seen = node.seen();
    let [(shard, ShardMail::Home(ToHome::Publish(publish)))] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(*shard, node.api.service.parts.courier.home("chat:1"));
    assert_eq!(&*publish.publication.data, br#"{"a":        1}"#, "no raw line feed");
    assert_eq!(publish.publication.accepted, now());
    assert_eq!(&*publish.publication.tags, [(Box::from("k"), Box::from("v"))]);
    assert_eq!(publish.history, HistoryUse::Skip);
    assert_eq!(publish.idempotency_key.as_deref(), Some("once"));
    let (_, without) = node.post("/api/publish", r#"{"channel":"c","data":null}"#).await;
    assert_eq!(without, r#"{"result":{}}"#, "no history, no position; null is a value");
}

#[tokio::test]
async fn a_payload_is_read_as_its_namespace_says() {
    let node = node_with(settings(), obedient);
    let table: &[(&str, &str, Option<&[u8]>)] = &[
        ("chat:1", r#""data":"x""#, Some(b"\"x\"")),
        ("chat:1", r#""b64data":"eyJhIjoxfQ==""#, Some(b"{\"a\":1}")),
        ("chat:1", r#""b64data":"eHg=""#, None),
        ("chat:1", r#""data":1,"b64data":"Mg==""#, Some(b"2")),
        ("chat:1", r#""b64data":"not base64""#, None),
        ("text:1", r#""data":"gr\u00fc\u00df""#, Some("grüß".as_bytes())),
        ("text:1", r#""data":{"a":1}"#, None),
        ("text:1", r#""b64data":"/w==""#, None),
        ("bin:1", r#""data":"/w==""#, Some(b"\xff")),
        ("bin:1", r#""b64data":"/w==""#, Some(b"\xff")),
        ("bin:1", r#""data":"?""#, None),
    ];
    for (channel, data, expected) in table {
        let (status, answer) =
            node.post("/api/publish", &format!(r#"{{"channel":"{channel}",{data}}}"#)).await;
        assert_eq!(status, 200);
        let seen = node.seen();
        let sent = seen.iter().find_map(|(_, message)| match message {
            ShardMail::Home(ToHome::Publish(publish)) => Some(&*publish.publication.data),
            _ => None,
        });
        assert_eq!(sent, *expected, "{channel} {data} {answer}");
        assert_eq!(answer.starts_with(r#"{"error":{"code":107,"#), expected.is_none());
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_an_error_with_its_code() {
    let node = node_with(settings(), obedient);
    let long_key = "k".repeat(300);
    let long = format!(r#"{{"channel":"c","data":1,"idempotency_key":"{long_key}"}}"#);
    let table = [
        ("publish", r#"{"data":1}"#, 107),
        ("publish", r#"{"channel":"c"}"#, 107),
        ("publish", r#"{"channel":"nowhere:c","data":1}"#, 102),
        ("publish", r#"{"channel":"gr\u00fcn","data":1}"#, 107),
        ("publish", r#"{"channel":"c","data":1,"version":3}"#, 108),
        ("publish", &long, 107),
        ("broadcast", r#"{"channels":[],"data":1}"#, 107),
        ("broadcast", r#"{"channels":["c"]}"#, 107),
        ("history", r#"{"channel":"c"}"#, 108),
        ("history", r#"{"channel":"chat:1","reverse":true,"since":{"offset":0}}"#, 107),
        ("history_remove", r#"{"channel":"c"}"#, 108),
        ("channels", r#"{"limit":10001}"#, 107),
        ("unsubscribe", r#"{"user":"u","channel":"nowhere:c"}"#, 102),
        ("disconnect", r#"{"user":"u","disconnect":{"code":1000}}"#, 107),
        ("presence", r#"{"channel":"c"}"#, 108),
        ("presence_stats", r#"{"channel":"c"}"#, 108),
        ("subscribe", r#"{"channel":"c","user":"u","data":1}"#, 108),
        ("subscribe", r#"{"channel":"nowhere:c","user":"u"}"#, 102),
        ("subscribe", r#"{"user":"u"}"#, 107),
        ("refresh", r#"{"user":"u"}"#, 108),
    ];
    for (method, body, code) in table {
        let (status, answer) = node.post(&format!("/api/{method}"), body).await;
        let start = format!(r#"{{"error":{{"code":{code},"message":""#);
        assert!(status == 200 && answer.starts_with(&start), "{method} {body}: {answer}");
    }
    assert!(node.seen().is_empty(), "no shard gets a message");
}

#[tokio::test]
async fn a_shards_error_is_the_answer() {
    let refusing = |_, _: &ShardMail| Some(Answer::Error(ClientError::UnrecoverablePosition));
    let node = node_with(settings(), refusing);
    let body = r#"{"channel":"chat:1","limit":5,"since":{"offset":3,"epoch":"gone"}}"#;
    let (status, answer) = node.post("/api/history", body).await;
    let expected = r#"{"error":{"code":112,"message":"unrecoverable position"}}"#;
    assert_eq!((status, answer.as_str()), (200, expected));
    let mode = [("x-api-key", "sesame"), ("x-centrifugo-error-mode", "transport")];
    let (status, answer) = node.post_with("/api/history", &mode, body).await;
    let expected = r#"{"code":112,"message":"unrecoverable position"}"#;
    assert_eq!((status, answer.as_str()), (416, expected));
    let absent = r#"{"channel":"nowhere:1"}"#;
    assert_eq!(node.post_with("/api/history", &mode, absent).await.0, 404);
}

#[tokio::test]
async fn broadcast_answers_for_each_channel_in_order() {
    let node = node_with(settings(), obedient);
    let body = r#"{"channels":["c","nowhere:c","chat:1"],"data":{}}"#;
    let (status, answer) = node.post("/api/broadcast", body).await;
    let expected = concat!(
        r#"{"result":{"responses":[{"result":{}},"#,
        r#"{"error":{"code":102,"message":"unknown channel"}},"#,
        r#"{"result":{"offset":5,"epoch":"e"}}]}}"#
    );
    assert_eq!((status, answer.as_str()), (200, expected));
    let channels: Vec<String> = (0..1000).map(|index| format!("\"c{index}\"")).collect();
    let body = format!(r#"{{"channels":[{}],"data":1}}"#, channels.join(","));
    let (_, answer) = node.post("/api/broadcast", &body).await;
    assert_eq!(answer.matches(r#"{"result":{}}"#).count(), 1000, "more than one window");
}

#[tokio::test]
async fn a_batch_answers_every_command_under_its_methods_name() {
    let node = node_with(settings(), obedient);
    for parallel in [false, true] {
        let body = format!(
            r#"{{"parallel":{parallel},"commands":[
            {{"publish":{{"channel":"chat:1","data":1}}}},{{"publish":{{"channel":5}}}},
            {{"history_remove":{{"channel":"chat:1"}}}},
            {{"batch":{{}}}},{{"nothing":{{}}}},{{}}]}}"#
        );
        let (status, answer) = node.post("/api/batch", &body).await;
        assert_eq!(status, 200);
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let replies = answer["replies"].as_array().expect("replies");
        assert_eq!(replies[0]["publish"]["offset"], 5);
        assert_eq!(replies[1]["error"]["code"], 107);
        assert_eq!(replies[2]["history_remove"], serde_json::json!({}));
        let codes = replies[3..].iter().map(|reply| reply["error"]["code"].as_u64());
        assert!(codes.eq([Some(104), Some(104), Some(104)]), "{replies:?}");
    }
}

#[tokio::test]
async fn the_old_form_takes_one_command_or_several() {
    let node = node_with(settings(), obedient);
    let publish = r#"{"method":"publish","params":{"channel":"chat:1","data":1}}"#;
    let position = r#"{"result":{"offset":5,"epoch":"e"}}"#;
    assert_eq!(node.post("/api", publish).await, (200, position.to_owned()));
    let several = format!("{publish}\n{{\"method\":\"nothing\"}}");
    let (status, answer) = node.post("/api", &several).await;
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!((status, lines[0]), (200, position));
    assert!(lines[1].starts_with(r#"{"error":{"code":104,"#), "{answer}");
    for bad in ["", "{", "[1]", "7"] {
        assert_eq!(node.post("/api", bad).await.0, 400, "{bad}");
    }
}

/// Answers with one publication in each history, which uses all fields.
fn with_history(_: ShardId, message: &ShardMail) -> Option<Answer> {
    let ShardMail::Home(ToHome::History(history)) = message else { return None };
    let channel = history.channel.clone();
    let data: &[u8] = if channel.as_str().starts_with("chat") { b"{\"a\":1}" } else { b"a\"b" };
    let publication = Publication {
        data: Box::from(data),
        offset: 9,
        publisher: Some(Box::new(Publisher { user: "".into(), client: client_id() })),
        tags: Box::new([("k".into(), "v".into())]),
        accepted: Moment::default(),
    };
    let top = Position { epoch: Epoch::new(0xe), offset: 9 };
    let publications = vec![Arc::new(publication)];
    Some(Answer::Page(Page { channel, publications, omitted: 0, top }))
}

#[tokio::test]
async fn history_writes_each_type_as_json() {
    let node = node_with(settings(), with_history);
    let table = [("chat:1", r#"{"a":1}"#), ("text:1", r#""a\"b""#), ("bin:1", r#""YSJi""#)];
    for (channel, data) in table {
        let body = format!(r#"{{"channel":"{channel}","limit":-1}}"#);
        let expected = format!(
            concat!(
                r#"{{"result":{{"publications":[{{"data":{},"offset":9,"#,
                r#""info":{{"user":"","client":"{}"}},"tags":{{"k":"v"}}}}],"#,
                r#""offset":9,"epoch":"e"}}}}"#
            ),
            data,
            client_id()
        );
        assert_eq!(node.post("/api/history", &body).await, (200, expected));
    }
    let node = node_with(settings(), obedient);
    let (_, empty) = node.post("/api/history", r#"{"channel":"chat:1"}"#).await;
    assert_eq!(empty, r#"{"result":{"publications":[],"offset":5,"epoch":"e"}}"#);
}

#[tokio::test]
async fn channels_asks_every_shard_and_merges() {
    let node = node_with(settings(), obedient);
    let (_, all) = node.post("/api/channels", r#"{"pattern":"s*","limit":2}"#).await;
    let expected = concat!(
        r#"{"result":{"channels":{"shard0":{"num_clients":2},"#,
        r#""shard1":{"num_clients":2}},"cursor":"shard1"}}"#
    );
    assert_eq!(all, expected);
    let seen = node.seen();
    assert_eq!(seen.len(), SHARDS);
    for (_, message) in seen {
        let ShardMail::Control {
            request: ControlRequest::Channels { pattern, after, limit }, ..
        } = message
        else {
            panic!("{message:?}")
        };
        assert!(pattern.matches("shard0") && !pattern.matches("other"));
        assert_eq!((&*after, limit), ("", 2));
    }
    let (_, wrong) = node.post("/api/channels", r#"{"pattern":"[z-a]"}"#).await;
    assert!(wrong.contains(r#""code":107"#) && wrong.contains("z-a"), "{wrong}");
    let (_, all) = node.post("/api/channels", "{}").await;
    assert!(all.contains("shard2") && !all.contains("cursor"), "{all}");
}

#[tokio::test]
async fn disconnect_and_unsubscribe_ask_those_who_may_have_the_connection() {
    let node = node_with(settings(), obedient);
    let client = client_id();
    let stranger = ClientId::from_raw(1);
    let table = [
        (r#"{"user":"u"}"#.to_owned(), SHARDS),
        (format!(r#"{{"client":"{client}"}}"#), 1),
        (format!(r#"{{"client":"{stranger}"}}"#), 0),
        (r#"{"client":"no id"}"#.to_owned(), 0),
        (r#"{"user":"u","session":"s"}"#.to_owned(), 0),
        (r#"{"user":""}"#.to_owned(), SHARDS),
    ];
    for (body, asked) in table {
        for method in ["disconnect", "unsubscribe"] {
            let (status, answer) = node.post(&format!("/api/{method}"), &body).await;
            assert_eq!((status, answer.as_str()), (200, r#"{"result":{}}"#));
            assert_eq!(node.seen().len(), asked, "{method} {body}");
        }
    }
    for body in ["{}", r#"{"uesr":"u"}"#, r#"{"user":null,"client":"","channel":"c"}"#] {
        for method in ["disconnect", "unsubscribe", "subscribe"] {
            let (_, answer) = node.post(&format!("/api/{method}"), body).await;
            assert!(answer.contains(r#""code":107"#), "{method} {body}: {answer}");
            assert_eq!(node.seen().len(), 0, "{method} {body}");
        }
    }
    let whitelist = format!(r#"{{"user":"u","whitelist":["{client}","{stranger}"]}}"#);
    node.post("/api/disconnect", &whitelist).await;
    for (_, message) in node.seen() {
        let ShardMail::Control { request, .. } = message else { panic!("{message:?}") };
        let ControlRequest::Disconnect { target, whitelist, code, text } = request else {
            panic!("{request:?}")
        };
        assert_eq!((&*target.user, target.connection, whitelist.len()), ("u", None, 1));
        assert_eq!((code, &*text), (3503, "force disconnect"));
    }
    node.post("/api/unsubscribe", r#"{"user":"u","channel":"chat:1"}"#).await;
    let Some((_, ShardMail::Control { request, .. })) = node.seen().pop() else { panic!("asked") };
    let ControlRequest::Unsubscribe { channel, .. } = request else { panic!("{request:?}") };
    assert_eq!(channel, Some(ChannelName::new("chat:1")));
}

#[tokio::test]
async fn subscribe_asks_those_who_may_have_the_connection() {
    let node = node_with(settings(), obedient);
    let since = r#""recover_since":{"offset":4,"epoch":"e"}"#;
    let one = format!(r#"{{"client":"{}","channel":"chat:1",{since}}}"#, client_id());
    for (body, asked) in [(r#"{"user":"","channel":"c"}"#, SHARDS), (one.as_str(), 1)] {
        let (status, answer) = node.post("/api/subscribe", body).await;
        assert_eq!((status, answer.as_str()), (200, r#"{"result":{}}"#));
        let seen = node.seen();
        assert_eq!(seen.len(), asked, "{body}");
        let Some((_, ShardMail::Control { request, .. })) = seen.into_iter().next_back() else {
            panic!("asked")
        };
        let ControlRequest::Subscribe { recover, .. } = request else { panic!("{request:?}") };
        assert_eq!(recover.map(|since| since.offset), (asked == 1).then_some(4));
    }
}

#[tokio::test]
async fn info_sums_the_shards() {
    let node = node_with(settings(), obedient);
    for counters in node.api.service.parts.status.shards() {
        counters.connections[0].add(2);
        counters.connections[1].add(1);
        counters.subscriptions.add(5);
        counters.channels_home.add(9);
        counters.channels_in_use.add(4);
    }
    let (_, answer) = node.post("/api/info", "").await;
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let info = &answer["result"]["nodes"][0];
    assert_eq!((&info["uid"], &info["name"]), (&"u1".into(), &"n1".into()));
    let numbers = ["num_clients", "num_subs", "num_channels", "num_users", "uptime"];
    let values: Vec<_> = numbers.iter().map(|key| info[key].as_u64()).collect();
    assert_eq!(values, [Some(9), Some(15), Some(12), Some(0), Some(40)]);
    assert!(info["process"]["rss"].as_u64() > Some(0));
}
