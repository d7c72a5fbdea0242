//! Forced panics. A panic while a client's bytes are parsed ends only that connection. A panic
//! anywhere else in a shard ends the process, because a shard with inconsistent state must not
//! continue.
#![cfg(feature = "sabotage")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails"
)]

mod node;

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use node::peer::{Frame, Peer, TEXT};
use node::{DRIVERS, Node, PATIENCE, Start, eventually, runtime};

const SIGABRT: i32 = 6;
const BYSTANDERS: u64 = 20;
const ROUNDS: u64 = 5;

#[test]
fn a_panic_in_a_turn_ends_the_process_with_its_message() {
    for driver in DRIVERS {
        let start = Start { driver, shards: 2, fault: "panic_in_turn", ..Start::default() };
        let (mut command, _) = start.command();
        let child = command.spawn().expect("the binary starts");
        let output = runtime().block_on(async {
            let waiting = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
            tokio::time::timeout(PATIENCE, waiting).await.expect("the process ends").unwrap()
        });
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{driver}: {:?} {log}", output.status);
        assert!(log.contains("sabotage: a turn panics"), "{driver}: {log}");
        assert!(log.contains("thread 'shard-"), "the message names the thread: {log}");
    }
}

#[test]
fn a_panic_while_bytes_are_parsed_ends_that_connection_alone() {
    for driver in DRIVERS {
        let start = Start { driver, shards: 1, fault: "panic_in_parse", ..Start::default() };
        let node = Node::start(start);
        runtime().block_on(one_falls(&node));
        eventually("the panic is counted", || node.metric("corecast_panics_total") >= 1.0);
        assert_eq!(node.metric("corecast_panics_total"), 1.0, "{driver}");
        assert!(node.log().contains("sabotage: parsing panics"), "{}", node.log());
    }
}

/// Silent bystanders receive publications before and after another peer's frame makes the parser
/// panic.
async fn one_falls(node: &Node) {
    let mut bystanders = Vec::new();
    for _ in 0..BYSTANDERS {
        bystanders.push(Peer::open(node.clients, "/ws?channels=news").await.expect("served"));
    }
    eventually("all are subscribed", || node.subscribers("news") == BYSTANDERS);
    publish_and_receive(node, &mut bystanders, "before").await;

    let mut fallen = Peer::open(node.clients, "/ws?channels=other").await.expect("served");
    fallen.send(TEXT, br#"{"what":"ever"}"#).await.expect("it is open");
    let frame = within(fallen.frame()).await.expect("no reset before the close frame");
    assert_eq!(frame.as_ref().and_then(Frame::close_code), Some(3004), "{frame:?}");
    assert_eq!(within(fallen.frame()).await.expect("no reset before the end"), None);

    publish_and_receive(node, &mut bystanders, "after").await;
    let late = Peer::open(node.clients, "/ws?channels=news").await.expect("served");
    eventually("a late one is served, too", || node.subscribers("news") == BYSTANDERS + 1);
    drop(late);
    eventually("it has gone again", || node.subscribers("news") == BYSTANDERS);
    assert_eq!(node.subscribers("other"), 0, "the closed connection has no subscription left");
    let connections = || node.metric("corecast_connections") == BYSTANDERS as f64;
    eventually("the bystanders are still there, and nobody else", connections);
}

async fn publish_and_receive(node: &Node, peers: &mut [Peer], word: &str) {
    for round in 0..ROUNDS {
        let data = format!("{word} {round}");
        node.result("publish", &serde_json::json!({"channel": "news", "data": data}));
        let payload = format!("\"{data}\"").into_bytes();
        for peer in &mut *peers {
            let frame = within(peer.frame()).await.expect("it is open");
            assert_eq!(frame, Some(Frame { opcode: TEXT, payload: payload.clone() }));
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    let limit: Duration = PATIENCE;
    tokio::time::timeout(limit, future).await.expect("it comes")
}
