//! A test of the whole server. The shards' descriptor tables are so full that every number which
//! another thread could signal is a client's socket. All calls are made, and no client may get a
//! byte that is not part of an expected frame.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails"
)]

mod node;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use node::peer::{Frame, Peer, TEXT};
use node::{DRIVERS, Node, Start, alone, eventually, runtime};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Clients that receive, clients with Centrifugo's protocol, and clients that send nothing or only
/// part of a request.
const RECEIVERS: usize = 400;
const SPEAKERS: usize = 80;
const SILENT: usize = 200;

const CHANNELS: usize = 8;

/// Rounds of all calls of the API.
const ROUNDS: usize = 20;

/// Number of publications of each speaker.
const WORDS: usize = 5;

/// Number of descriptors in a table, besides those of clients, that may change: connections of the
/// API.
const DESCRIPTORS_SLACK: usize = 4;

/// The close code of a drain.
const SHUTDOWN: Option<u16> = Some(3001);

/// Timeouts are so long that no silent client is closed during the test.
const CONFIG: &str = r#"
[server]
drain = "5s"
[client]
handshake_timeout = "120s"
stale_timeout = "120s"
ping_interval = "120s"
[log]
level = "trace"
"#;

fn channel(index: usize) -> String {
    format!("channel{index}")
}

/// Number of received publications by channel, added up over all receivers of a channel.
type Received = Arc<[AtomicU64; CHANNELS]>;

#[test]
fn clients_get_their_frames_and_no_other_byte_whatever_is_called() {
    let _alone = alone();
    for driver in DRIVERS {
        let start = Start { driver, shards: 2, config: CONFIG, ..Start::default() };
        let mut node = Node::start(start);
        node.result("info", &json!({})); // All threads have their descriptors now.
        let before = node.tables();
        let received = Received::default();
        let (address, shared) = (node.clients, Arc::clone(&received));
        let clients = thread::spawn(move || runtime().block_on(be_clients(address, shared)));
        let each = ((RECEIVERS + SPEAKERS) / CHANNELS) as u64;
        let subscribed = || (0..CHANNELS).all(|i| node.subscribers(&channel(i)) == each);
        eventually("all are subscribed", || subscribed() || clients.is_finished());
        count_descriptors(&node, &before);
        (0..ROUNDS).for_each(|round| call_everything(&node, round));
        eventually("everybody has everything", || has_everything(&node, &received));
        count_descriptors(&node, &before);
        assert_eq!(node.metric("corecast_audit_errors_total"), 0.0);
        assert_eq!(node.metric("corecast_panics_total"), 0.0);
        node.terminate();
        assert!(node.wait().success(), "{driver}: it drains");
        eventually("all clients see the end", || clients.is_finished());
        clients.join().expect("no client got a byte too many");
    }
}

/// Checks that each client has one descriptor in a shard's table, and none elsewhere. Each shard
/// has more of them than other threads have descriptors, so that all of those numbers are in use.
fn count_descriptors(node: &Node, before: &[(String, usize)]) {
    const CLIENTS: usize = RECEIVERS + SPEAKERS + SILENT;
    let of_shards = |tables: &[(String, usize)]| -> usize {
        let shards = tables.iter().filter(|(name, _)| name.starts_with("shard-"));
        shards.map(|(_, count)| count).sum()
    };
    let of_others = |tables: &[(String, usize)]| -> usize {
        let others = tables.iter().filter(|(name, _)| !name.starts_with("shard-"));
        others.map(|(_, count)| *count).max().unwrap()
    };
    let expected = of_shards(before) + CLIENTS;
    // Connections of the API are closed shortly after their answers have been read.
    eventually("descriptors are clients", || {
        let tables = node.tables();
        of_shards(&tables).abs_diff(expected) <= DESCRIPTORS_SLACK
            && of_others(&tables) <= of_others(before) + DESCRIPTORS_SLACK
    });
    let tables = node.tables();
    let others = of_others(&tables);
    for (name, count) in &tables {
        assert!(!name.starts_with("shard-") || *count >= 2 * others, "too few: {tables:?}");
    }
}

/// Makes each call that uses several threads.
fn call_everything(node: &Node, round: usize) {
    let name = channel(round % CHANNELS);
    let data = json!({"round": round});
    let all: Vec<_> = (0..CHANNELS).map(channel).collect();
    let publish = json!({"channel": name, "data": data, "idempotency_key": format!("{round}")});
    node.result("publish", &publish);
    node.result("publish", &publish); // A repeat, which is not delivered.
    node.result("broadcast", &json!({"channels": all, "data": data}));
    let commands: Vec<_> = all
        .iter()
        .flat_map(|name| {
            let history = json!({"history": {"channel": name, "limit": 2}});
            [json!({"publish": {"channel": name, "data": data}}), history]
        })
        .collect();
    for parallel in [true, false] {
        let body = json!({"commands": commands, "parallel": parallel});
        let answer = node.call("batch", &body.to_string());
        assert_eq!(answer["replies"].as_array().map(Vec::len), Some(2 * CHANNELS), "{answer}");
    }
    node.result("history", &json!({"channel": name, "limit": 100}));
    if round % 4 == 3 {
        node.result("history_remove", &json!({"channel": name}));
    }
    node.result("channels", &json!({"pattern": "*"}));
    node.result("info", &json!({}));
    node.result("disconnect", &json!({"user": "nobody"}));
    node.result("unsubscribe", &json!({"user": "nobody", "channel": name}));
    for path in ["/metrics", "/live", "/ready", "/"] {
        node.page(path);
    }
    // A guest connects to one of the shards and leaves.
    let guest = runtime().block_on(Peer::open(node.clients, "/ws?channels=guests"));
    drop(guest.expect("it is served"));
}

fn has_everything(node: &Node, received: &Received) -> bool {
    (0..CHANNELS).all(|index| {
        let history = node.result("history", &json!({"channel": channel(index)}));
        let due = history["offset"].as_u64().expect("an offset") * (RECEIVERS / CHANNELS) as u64;
        let has = received[index].load(Ordering::Relaxed);
        assert!(has <= due, "unknown publications: {has} of {due}");
        due > 0 && has == due
    })
}

/// Runs all clients, and waits until each has seen its end.
async fn be_clients(address: SocketAddr, received: Received) {
    let tasks = LocalSet::new();
    let mut clients = Vec::new();
    for number in 0..RECEIVERS {
        clients.push(tasks.spawn_local(receive(address, number, Arc::clone(&received))));
    }
    for number in 0..SPEAKERS {
        clients.push(tasks.spawn_local(speak(address, number)));
    }
    for number in 0..SILENT {
        let words: &[u8] = if number % 2 == 0 { b"" } else { b"GET /ws HTTP/1.1\r\nHost: " };
        clients.push(tasks.spawn_local(keep_silent(address, words)));
    }
    tasks.await;
    for client in clients {
        client.await.expect("a client is content");
    }
}

/// Runs a client of one channel, which must get every publication once and in order, and then the
/// end.
async fn receive(address: SocketAddr, number: usize, received: Received) {
    let index = number % CHANNELS;
    let path = format!("/ws?channels={}&envelope=json", channel(index));
    let mut peer = Peer::open(address, &path).await.expect("it is served");
    let begin = message(&mut peer).await.expect("where the channel begins");
    let begin: Value = serde_json::from_str(&begin).expect("one JSON value");
    assert_eq!((&begin["channel"], &begin["offset"]), (&json!(channel(index)), &json!(0)));
    let mut last = 0;
    while let Some(value) = message(&mut peer).await {
        let value: Value = serde_json::from_str(&value).expect("one JSON value");
        assert_eq!(value["channel"], channel(index), "{value}");
        assert_eq!(value["offset"], last + 1, "{value}");
        last += 1;
        received[index].fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs a client with Centrifugo's protocol. It subscribes to one channel, and publishes to another
/// one a few times when it has received something.
async fn speak(address: SocketAddr, number: usize) {
    let (mine, other) = (channel(number % CHANNELS), channel((number + 1) % CHANNELS));
    let mut peer = Peer::open(address, "/connection/websocket").await.expect("it is served");
    peer.send(TEXT, br#"{"id":1,"connect":{}}"#).await.unwrap();
    peer.send(TEXT, json!({"id": 2, "subscribe": {"channel": mine}}).to_string().as_bytes())
        .await
        .unwrap();
    let publish = json!({"id": 3, "publish": {"channel": other, "data": number}}).to_string();
    let (mut words, mut replies) = (0, 0);
    while let Some(text) = message(&mut peer).await {
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).expect("one JSON value in a line");
            assert!(value.get("error").is_none(), "{value}");
            if value.get("id").is_some() {
                replies += 1;
            } else {
                let channel = &value["push"]["channel"];
                assert!(value == json!({}) || *channel == json!(mine), "{value}");
                if words < WORDS {
                    words += 1;
                    peer.send(TEXT, publish.as_bytes()).await.unwrap();
                }
            }
        }
    }
    assert_eq!(replies, 2 + WORDS, "each request has one reply");
}

/// Returns the next text message, or `None` after a close frame for a shutdown. The stream must end
/// after that frame.
async fn message(peer: &mut Peer) -> Option<String> {
    let frame = peer.frame().await.expect("no reset").expect("a close frame before the end");
    if frame.opcode == TEXT {
        return Some(String::from_utf8(frame.payload).expect("UTF-8"));
    }
    assert_eq!(frame.close_code(), SHUTDOWN, "{frame:?}");
    let after: Option<Frame> = peer.frame().await.expect("no reset after the close frame");
    assert_eq!(after, None);
    None
}

/// Sends `words`, which are not a complete request, and checks that only the end of the stream
/// follows.
async fn keep_silent(address: SocketAddr, words: &[u8]) {
    let mut stream = TcpStream::connect(address).await.expect("there is room in the queue");
    stream.write_all(words).await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.expect("no reset");
    assert!(heard.is_empty(), "silence was broken: {}", heard.escape_ascii());
}
