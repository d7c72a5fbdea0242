//! The server closes 10,000 connections at once. Each peer gets the reason and the end of the
//! stream, and the kernel gets back all resources. Closing a socket that a poll still watches would
//! break both.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails, and the output says what was not checked"
)]

mod node;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use node::peer::{CLOSE, Peer};
use node::{Node, PATIENCE, Start, alone, eventually, runtime};
use tokio::sync::Semaphore;

const PEERS: usize = 10_000;

/// Maximum number of concurrent handshakes.
const OPENING_MAX: usize = 64;

/// Number of objects that may be left without being a leak, because other processes use the machine
/// as well.
const SLACK: usize = PEERS / 5;

/// Number of attempts in which the slabs must be right once. A leak spoils all of them; other
/// processes, which open or close thousands of sockets at the same time, do not.
const ATTEMPTS: usize = 4;

/// Number of descriptors in a shard's table, besides those of clients, that may change.
const DESCRIPTORS_SLACK: usize = 4;

/// Slabs of objects that the kernel allocates for a connection. The first ones are freed with the
/// socket. Requests of a ring are freed with the ring.
const SLABS_FREED: [&str; 3] = ["TCP", "sock_inode_cache", "eventpoll_epi"];
const SLABS_KEPT: [&str; 1] = ["io_kiocb"];

#[test]
fn ten_thousand_closed_peers_see_why_and_the_end_over_io_uring() {
    closes_all("io_uring");
}

#[test]
fn ten_thousand_closed_peers_see_why_and_the_end_over_epoll() {
    closes_all("epoll");
}

fn closes_all(driver: &str) {
    let _alone = alone();
    assert!(corecast::sys::descriptors_max() > PEERS + 256, "raise the limit: ulimit -n 12000");
    let node = Node::start(Start { driver, shards: 1, ..Start::default() });
    if slabs().is_none() {
        println!("slabs are not checked: /proc/slabinfo can't be read, which needs root");
    }
    let mut wrong = Vec::new();
    while let Err(error) = two_waves(&node) {
        println!("{driver}: {error}");
        wrong.push(error);
        assert!(wrong.len() < ATTEMPTS, "{wrong:#?}");
    }
}

/// # Errors
/// What is wrong with the slabs.
fn two_waves(node: &Node) -> Result<(), String> {
    let before = slabs();
    let first = wave(node)?;
    slabs_return(&before, &SLABS_FREED)?;
    // A ring keeps the requests of completed polls, and reuses them before it allocates new ones.
    let after_one = slabs();
    let second = wave(node)?;
    slabs_return(&before, &SLABS_FREED)?;
    slabs_return(&after_one, &SLABS_KEPT)?;
    println!("slabs before {before:?}, then {after_one:?}, then {:?}", slabs());
    println!("{first:?} and {second:?} until the shard had its descriptors back");
    Ok(())
}

/// Opens all connections and lets the server close them. Returns the time until the shard had all
/// descriptors back.
///
/// # Errors
/// The slabs do not show the connections.
fn wave(node: &Node) -> Result<Duration, String> {
    let (slabs_before, before) = (slabs(), node.shard_descriptors());
    let runtime = runtime();
    let peers = runtime.block_on(open_all(node.clients));
    eventually("everybody is subscribed", || node.subscribers("closing") == PEERS as u64);
    assert!(node.shard_descriptors() >= before + PEERS, "each has a descriptor");
    let shown = match (slabs_before, slabs()) {
        (Some(before), Some(during)) if during["TCP"] < before["TCP"] + PEERS => {
            Err(format!("the sockets are not in the slabs: {before:?}, {during:?}"))
        }
        _ => Ok(()),
    };

    node.result("disconnect", &serde_json::json!({"user": ""}));
    let began = Instant::now();
    let quiet = runtime.block_on(see_the_end(peers));
    // Peers that don't answer are given up after a while, although their ends stay open.
    eventually("the shard has its descriptors back", || {
        node.shard_descriptors() <= before + DESCRIPTORS_SLACK
    });
    assert_eq!(quiet.len(), PEERS / 2, "they were there all the time");
    assert_eq!(node.metric("corecast_connections"), 0.0);
    assert_eq!(node.metric("corecast_audit_errors_total"), 0.0);
    shown.map(|()| began.elapsed())
}

/// Opens all connections, a limited number at a time.
async fn open_all(address: SocketAddr) -> Vec<Peer> {
    let opening = Arc::new(Semaphore::new(OPENING_MAX));
    let local = tokio::task::LocalSet::new();
    let open = || {
        let opening = Arc::clone(&opening);
        local.spawn_local(async move {
            let _permit = opening.acquire().await.unwrap();
            Peer::open(address, "/ws?channels=closing").await.expect("it is served")
        })
    };
    let tasks: Vec<_> = (0..PEERS).map(|_| open()).collect();
    local
        .run_until(async move {
            let mut peers = Vec::with_capacity(PEERS);
            for task in tasks {
                peers.push(task.await.expect("it opens"));
            }
            peers
        })
        .await
}

/// Checks that every peer gets a close frame with 3503, then the end of the stream, and nothing
/// else. Half of the peers then close their side. The others are returned, open and silent.
async fn see_the_end(peers: Vec<Peer>) -> Vec<Peer> {
    let mut quiet = Vec::new();
    for (index, mut peer) in peers.into_iter().enumerate() {
        let seen = tokio::time::timeout(PATIENCE, async {
            let frame = peer.frame().await.expect("no reset before the close frame");
            let code = frame.as_ref().and_then(node::peer::Frame::close_code);
            assert_eq!(code, Some(3503), "peer {index} got {frame:?}");
            assert_eq!(peer.frame().await.expect("no reset before the end"), None);
        });
        seen.await.unwrap_or_else(|_| panic!("peer {index} waits for a close or the end"));
        if index % 2 == 0 {
            peer.send(CLOSE, &3503u16.to_be_bytes()).await.expect("the server still reads");
        } else {
            quiet.push(peer);
        }
    }
    quiet
}

type Slabs = BTreeMap<&'static str, usize>;

/// Returns the number of active objects in these slabs, or `None` without root.
fn slabs() -> Option<Slabs> {
    let text = std::fs::read_to_string("/proc/slabinfo").ok()?;
    let count = |name: &str| {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    // A slab that has another name in this kernel is not checked.
    let names = SLABS_FREED.into_iter().chain(SLABS_KEPT);
    let found: Slabs = names.filter_map(|name| Some((name, count(name)?))).collect();
    found.contains_key("TCP").then_some(found)
}

/// Waits until no slab of `names` has many more objects than `before`.
///
/// # Errors
/// One of them still has.
fn slabs_return(before: &Option<Slabs>, names: &[&str]) -> Result<(), String> {
    let Some(before) = before else { return Ok(()) };
    let mut last = Slabs::new();
    let limit = Instant::now() + PATIENCE;
    let is_back = |last: &Slabs| {
        let of = |slabs: &Slabs, name| slabs.get(name).copied().unwrap_or_default();
        names.iter().all(|name| of(last, name) <= of(before, name) + SLACK)
    };
    while last.is_empty() || !is_back(&last) {
        if Instant::now() >= limit {
            return Err(format!("{names:?} are not back: {before:?}, {last:?}"));
        }
        last = slabs().expect("they could be read before");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
