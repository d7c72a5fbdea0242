//! A shard that always has something to send keeps its other guarantees: pings are sent on time,
//! half-open handshakes are closed on time, new clients are accepted, and no client misses a
//! publication without being told. `CORECAST_SATURATED_SECONDS` is the duration for each driver; a
//! full test takes 60.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails, and the output says what was measured"
)]

mod node;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use node::peer::{CLOSE, PING, PONG, Peer, TEXT};
use node::{Node, PATIENCE, Start, alone, eventually, runtime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, LocalSet};

/// Duration for each driver if the environment does not set it.
const SECONDS: u64 = 15;

const SUBSCRIBERS: usize = 2_000;

/// Number of publications in one API batch, and the maximum number that an average subscriber has
/// not received yet. There is always one more to send, and readers that keep up need no outbox.
const BATCH: u64 = 20;
const OUTSTANDING_MAX: u64 = 100;

const PING_INTERVAL: Duration = Duration::from_secs(2);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
const CONFIG: &str = r#"
[client]
ping_interval = "2s"
pong_timeout = "1900ms"
handshake_timeout = "2s"
"#;

/// How late pings and closes may be: a tick, a chunk of the sweep, and delays of a busy machine.
const PING_SLACK: Duration = Duration::from_millis(1200);
const CUT_SLACK: Duration = Duration::from_millis(1500);
const ACCEPT_MAX: Duration = Duration::from_secs(1);

/// Time between two half-open handshakes, and between two new clients.
const PROBE_PACE: Duration = Duration::from_millis(200);

/// The share of time that the shard spends in turns. The rest is for the runtime between turns, and
/// for the publisher.
const BUSY: &str = "corecast_shard_busy_ratio";
const BUSY_MIN: f64 = 0.5;

/// A field of publications. A position without a publication lacks it.
const DATA: &[u8] = b"\"data\":";

/// The last publication's data, and the close codes of clients that read or answer too slowly.
const END: &[u8] = b"\"the end\"";
const SLOW: u16 = 3008;
const NO_PONG: u16 = 3012;

/// Delay of this test's own threads above which they lacked processor time, so that the test is
/// inconclusive: a client may have been closed rightly, or the readers may have been the
/// bottleneck.
const STARVED_MIN: Duration = Duration::from_millis(500);

#[test]
fn a_saturated_shard_keeps_its_deadlines_over_io_uring() {
    saturate("io_uring");
}

#[test]
fn a_saturated_shard_keeps_its_deadlines_over_epoll() {
    saturate("epoll");
}

fn saturate(driver: &str) {
    let _alone = alone();
    let seconds = std::env::var("CORECAST_SATURATED_SECONDS");
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("a number of seconds"));
    corecast::sys::descriptors_max();
    let node = Node::start(Start { driver, shards: 1, config: CONFIG, ..Start::default() });
    let load = Arc::new(Load::default());
    let (address, shared) = (node.clients, Arc::clone(&load));
    let readers = thread::spawn(move || runtime().block_on(receive(address, shared)));
    let opened = || load.opened.load(Ordering::Relaxed) == SUBSCRIBERS as u64;
    eventually("all are connected", || opened() || readers.is_finished());
    eventually("all are subscribed", || node.subscribers("news") == SUBSCRIBERS as u64);
    let shared = Arc::clone(&load);
    let probes = thread::spawn(move || runtime().block_on(probe(address, shared)));
    node.metric(BUSY); // The ratio covers the time since the last scrape.
    let published = publish(&node, &load, Instant::now() + Duration::from_secs(seconds));
    load.over.store(true, Ordering::Relaxed);
    let busy = node.metric(BUSY);
    node.result("publish", &serde_json::json!({"channel": "news", "data": "the end"}));
    let probed = probes.join().expect("the probes are content");
    eventually("everybody has seen the end", || readers.is_finished());
    let received = readers.join().expect("the subscribers are content");
    println!("{driver}: {published} publications to {SUBSCRIBERS}, busy {busy}");
    println!("{driver}: {received:?}, {probed:?}");
    judge(published, seconds, busy, (&received, &probed));
    assert_eq!(node.metric("corecast_audit_errors_total"), 0.0);
}

fn judge(published: u64, seconds: u64, busy: f64, (received, probed): (&Received, &Probed)) {
    let (slow, mute) = (received.slow, received.mute);
    assert_eq!(
        received.whole + slow + mute,
        SUBSCRIBERS,
        "every client received everything or was told about a gap"
    );
    let late = received.readers_late.max(probed.late);
    if busy < BUSY_MIN || late >= STARVED_MIN {
        println!(
            "NOT JUDGED: others need this machine. The shard was busy {busy}, we late {late:?}"
        );
        return;
    }
    assert!(published >= seconds * BATCH / 2, "hardly anything was sent: {published}");
    let limit = PING_INTERVAL + PING_SLACK + late;
    assert!(received.ping_gap_max <= limit, "a ping came late: {received:?}");
    assert!(slow < SUBSCRIBERS / 10, "readers that keep up are cut: {received:?}");
    assert!(mute == 0, "readers that answer are cut: {received:?}");
    assert!(probed.cut > 0 && probed.accepted > 0, "{probed:?}");
    assert!(probed.cut_first >= HANDSHAKE_TIMEOUT - Duration::from_millis(200), "{probed:?}");
    assert!(probed.cut_last <= HANDSHAKE_TIMEOUT + CUT_SLACK + late, "cut late: {probed:?}");
    assert!(probed.accepted_last <= ACCEPT_MAX + late, "accepted late: {probed:?}");
}

/// State shared by the threads of one run.
#[derive(Default)]
struct Load {
    opened: AtomicU64,
    published: AtomicU64,
    /// Publications that subscribers have received or will never receive, added up over all
    /// subscribers.
    deliveries: AtomicU64,
    /// Subscribers that were closed.
    lost: AtomicU64,
    over: AtomicBool,
}

impl Load {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Keeps many publications outstanding for some time. Returns their number.
fn publish(node: &Node, load: &Load, until: Instant) -> u64 {
    let (mut published, mut due) = (0, 0);
    while Instant::now() < until {
        let received = load.deliveries.load(Ordering::Relaxed);
        let left = SUBSCRIBERS as u64 - load.lost.load(Ordering::Relaxed);
        if due >= received + OUTSTANDING_MAX * left {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let command = |number| serde_json::json!({"publish": {"channel": "news", "data": number}});
        let commands: Vec<_> = (0..BATCH).map(|number| command(published + number)).collect();
        let body = serde_json::json!({"commands": commands, "parallel": true});
        let answer = node.call("batch", &body.to_string());
        let replies = answer["replies"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let done = replies.iter().filter(|reply| reply.get("publish").is_some()).count();
        assert_eq!(done as u64, BATCH, "{answer}");
        published += BATCH;
        due += BATCH * left;
        load.published.store(published, Ordering::Relaxed);
    }
    published
}

/// The observations of all subscribers.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    /// Subscribers that received every publication.
    whole: usize,
    /// Subscribers that were closed with 3008 because they were too slow.
    slow: usize,
    /// Subscribers that were closed with 3012 because of missing pongs.
    mute: usize,
    /// Number of pings of all subscribers, and the longest time between two pings.
    pings: usize,
    ping_gap_max: Duration,
    /// Maximum delay of a timer among the readers, which need processor time, too.
    readers_late: Duration,
}

/// Runs all subscribers until each has seen the end, or was closed.
async fn receive(address: SocketAddr, load: Arc<Load>) -> Received {
    let seen = Rc::new(RefCell::new(Received::default()));
    let tasks = LocalSet::new();
    for _ in 0..SUBSCRIBERS {
        let peer = Peer::open(address, "/ws?channels=news&envelope=json").await;
        let peer = peer.expect("it is served");
        tasks.spawn_local(subscribe(peer, Arc::clone(&load), Rc::clone(&seen)));
        load.opened.fetch_add(1, Ordering::Relaxed);
    }
    let late = lateness(tasks).await;
    let seen = *seen.borrow();
    Received { readers_late: late, ..seen }
}

/// Waits for `all`. Returns the maximum delay of a timer that runs beside it.
async fn lateness(all: impl Future<Output = ()>) -> Duration {
    let (mut all, mut most) = (std::pin::pin!(all), Duration::ZERO);
    loop {
        let due = tokio::time::Instant::now() + Duration::from_millis(50);
        let ended = tokio::time::timeout_at(due, all.as_mut()).await.is_ok();
        most = most.max(due.elapsed());
        if ended {
            return most;
        }
    }
}

/// Runs one subscriber. It answers pings, and checks that nothing is skipped, repeated or late.
async fn subscribe(mut peer: Peer, load: Arc<Load>, seen: Rc<RefCell<Received>>) {
    let (mut last, mut pinged) = (0, Instant::now());
    loop {
        let (mut pings, mut count, mut ended, mut closed) = (0, 0, false, None);
        let went_on = peer.frames(|opcode, payload| match opcode {
            TEXT => {
                let offset = offset(payload);
                if last == 0 && !payload.windows(DATA.len()).any(|part| part == DATA) {
                    assert_eq!(offset, 0, "where the channel begins: {}", payload.escape_ascii());
                    return;
                }
                assert_eq!(offset, last + 1, "skipped or repeated: {}", payload.escape_ascii());
                last = offset;
                count += 1;
                ended = payload.windows(END.len()).any(|part| part == END);
            }
            PING => pings += 1,
            CLOSE => closed = payload.first_chunk().map(|code| u16::from_be_bytes(*code)),
            other => panic!("a frame of kind {other}"),
        });
        let went_on = went_on.await.expect("no reset");
        load.deliveries.fetch_add(count, Ordering::Relaxed);
        if pings > 0 {
            let mut seen = seen.borrow_mut();
            seen.ping_gap_max = seen.ping_gap_max.max(pinged.elapsed());
            seen.pings += pings;
            pinged = Instant::now();
        }
        if let Some(code) = closed {
            assert!([SLOW, NO_PONG].contains(&code), "{code} after offset {last}");
            let mut seen = seen.borrow_mut();
            *if code == SLOW { &mut seen.slow } else { &mut seen.mute } += 1;
            let missed = load.published.load(Ordering::Relaxed).saturating_sub(last);
            load.deliveries.fetch_add(missed, Ordering::Relaxed);
            load.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        assert!(went_on, "the stream ended without a close frame after offset {last}");
        if pings > 0 {
            // If the peer is closed, the close frame comes next.
            peer.send(PONG, &[]).await.ok();
        }
        if ended {
            let mut seen = seen.borrow_mut();
            seen.ping_gap_max = seen.ping_gap_max.max(pinged.elapsed());
            seen.whole += 1;
            return;
        }
    }
}

/// Returns the offset in an envelope, which follows the data.
fn offset(payload: &[u8]) -> u64 {
    const FIELD: &[u8] = b"\"offset\":";
    let at = payload.windows(FIELD.len()).rposition(|part| part == FIELD);
    let digits = &payload[at.expect("an envelope has an offset") + FIELD.len()..];
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// The observations of clients that connected meanwhile.
#[derive(Clone, Copy, Debug)]
struct Probed {
    /// Half-open handshakes that were closed, and the shortest and longest lifetime of one.
    cut: usize,
    cut_first: Duration,
    cut_last: Duration,
    /// New clients that were accepted, and the longest wait of one.
    accepted: usize,
    accepted_last: Duration,
    /// Maximum delay of a timer among the probes.
    late: Duration,
}

async fn probe(address: SocketAddr, load: Arc<Load>) -> Probed {
    let tasks = LocalSet::new();
    let (mut half_open, mut newcomers) = (Vec::new(), Vec::new());
    let pace = async {
        while !load.is_over() {
            half_open.push(tasks.spawn_local(cut(address)));
            newcomers.push(tasks.spawn_local(accepted(address)));
            tokio::time::sleep(PROBE_PACE).await;
        }
    };
    let late = lateness(tasks.run_until(pace)).await;
    let late = late.max(lateness(tasks).await);
    let lives = finished(half_open).await;
    let waits = finished(newcomers).await;
    Probed {
        cut: lives.len(),
        cut_first: lives.iter().min().copied().unwrap_or_default(),
        cut_last: lives.iter().max().copied().unwrap_or_default(),
        accepted: waits.len(),
        accepted_last: waits.iter().max().copied().unwrap_or_default(),
        late,
    }
}

async fn finished(tasks: Vec<JoinHandle<Duration>>) -> Vec<Duration> {
    let mut times = Vec::new();
    for task in tasks {
        times.push(task.await.expect("the probe is content"));
    }
    times
}

/// Returns the lifetime of a connection whose request never becomes complete.
async fn cut(address: SocketAddr) -> Duration {
    let mut stream = TcpStream::connect(address).await.expect("there is room in the queue");
    let began = Instant::now();
    stream.write_all(b"GET /ws HTTP/1.1\r\nHo").await.expect("it is open");
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let read = tokio::time::timeout(PATIENCE, reading).await.expect("it is cut at last");
    read.expect("it ends without a reset");
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
    began.elapsed()
}

/// Returns the time until a new client's upgrade.
async fn accepted(address: SocketAddr) -> Duration {
    let began = Instant::now();
    let peer = Peer::open(address, "/ws?channels=quiet").await.expect("it is served");
    let took = began.elapsed();
    drop(peer);
    took
}
