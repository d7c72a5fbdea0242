//! Shards have their own descriptor tables, so a descriptor number from one thread may be a
//! client's socket in another. In this test, every number is a socket in the other tables. All
//! calls between threads are made, and no socket may receive a byte.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails"
)]
#![allow(unsafe_code, reason = "a thread without a runtime sleeps in poll")]

mod node;

use std::io::{ErrorKind, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use corecast::channel::Glob;
use corecast::mesh::{
    Address, Answer, ControlRequest, Inbox, Lane, ShardLane, ShardMail, Target, Ticket, ToControl,
    ToShard, Wake,
};
use corecast::sys::{self, EventFd};
use node::{PATIENCE, alone, runtime};

/// Pairs of sockets in each table. No other thread has as many descriptors.
const PAIRS: usize = 400;

/// Number of requests from control to each shard, one after another, so that all threads sleep and
/// are woken.
const REQUESTS: u64 = 500;

const SHARDS: usize = 2;
const CONTROL: usize = SHARDS;

/// A wake that counts its calls.
#[derive(Debug)]
struct Counted(EventFd, Arc<AtomicUsize>);

impl Wake for Counted {
    fn wake(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.signal();
    }
}

/// Shared by the threads, and created before any of them.
struct Mesh {
    shards: Vec<Address<ShardMail>>,
    control: Address<ToControl>,
    wakes: Vec<EventFd>,
    woken: Arc<AtomicUsize>,
}

impl Mesh {
    fn wake(&self, index: usize) -> Box<Counted> {
        Box::new(Counted(self.wakes[index], Arc::clone(&self.woken)))
    }

    fn shard_lanes(&self) -> Vec<ShardLane> {
        let ends = self.shards.iter().enumerate();
        ends.map(|(index, address)| ShardLane::new(address.clone(), self.wake(index))).collect()
    }

    fn control_lane(&self) -> Lane<ToControl> {
        Lane::new(self.control.clone(), self.wake(CONTROL))
    }
}

#[test]
fn no_wake_between_threads_lands_in_a_foreign_descriptor() {
    let _alone = alone();
    let (log, lines) = start_log();
    let (inboxes, shards): (Vec<_>, Vec<_>) =
        (0..SHARDS).map(|_| Inbox::with_default_size()).unzip();
    let (control_inbox, control) = Inbox::with_default_size();
    let wakes: Vec<_> = (0..=SHARDS).map(|_| EventFd::new().unwrap()).collect();
    let woken = Arc::new(AtomicUsize::new(0));
    let mesh = Arc::new(Mesh { shards, control, wakes, woken });
    // A thread signals a wake by its number, in its own table. So each thread checks its own
    // sockets at the end.
    let start = |(index, inbox)| {
        let shard = Arc::clone(&mesh);
        let play = move |own: Result<(), sys::SysError>| {
            own.expect("this host gives threads tables of their own");
            play_shard(&shard, index, &inbox);
        };
        sys::spawn_with_own_descriptors(thread::Builder::new(), &mesh.wakes, &[], play).unwrap()
    };
    let threads: Vec<_> = inboxes.into_iter().enumerate().map(start).collect();
    play_control(&mesh, &control_inbox);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let woken = mesh.woken.load(Ordering::Relaxed);
    println!("{woken} wakes");
    assert!(woken >= REQUESTS as usize, "the threads hardly slept: {woken} wakes");
    drop(log);
    let lines = lines.load(Ordering::Relaxed);
    assert!(lines >= REQUESTS as usize * SHARDS, "{lines} lines of log");
}

/// Starts a log with its own thread, as in the server. It counts lines.
fn start_log() -> (tracing_appender::non_blocking::WorkerGuard, Arc<AtomicUsize>) {
    struct Lines(Arc<AtomicUsize>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = bytes.iter().filter(|byte| **byte == b'\n').count();
            self.0.fetch_add(count, Ordering::Relaxed);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Arc::new(AtomicUsize::new(0));
    let (writer, guard) = tracing_appender::non_blocking(Lines(Arc::clone(&lines)));
    tracing_subscriber::fmt().with_ansi(false).with_writer(writer).init();
    (guard, lines)
}

/// Answers control's requests, sends a message to the other shard and logs for each of them, and
/// sleeps in between.
fn play_shard(mesh: &Mesh, index: usize, inbox: &Inbox<ShardMail>) {
    let first = mesh.wakes.iter().map(|wake| wake.number()).max().unwrap() + 1;
    let sockets = fill_table(first);
    let (mut lanes, mut control) = (mesh.shard_lanes(), mesh.control_lane());
    let wake = mesh.wakes[index];
    let other = (index + 1) % SHARDS;
    let (mut asked, mut told) = (0, 0);
    while asked < REQUESTS || told < REQUESTS {
        while let Some(batch) = inbox.take() {
            for message in batch {
                match message {
                    ShardMail::Control { ticket, request } => {
                        asked += 1;
                        tracing::info!(index, ?ticket, ?request, "asked");
                        let answer = Answer::Affected(index);
                        control.push(ToControl::Answer { ticket, answer });
                        let channel = corecast::channel::ChannelName::new("news");
                        lanes[other].push(ToShard::Gap { channel, after: told, next: told + 2 });
                    }
                    ShardMail::Shard(ToShard::Gap { .. }) => told += 1,
                    other => panic!("no thread sends {other:?}"),
                }
            }
        }
        lanes.iter_mut().for_each(ShardLane::flush);
        control.flush();
        let waiting = asked < REQUESTS || told < REQUESTS;
        if waiting && inbox.prepare_sleep() {
            sleep(wake);
        }
        inbox.woke();
    }
    assert_untouched(&sockets, "a shard's table");
}

/// Repeatedly sends requests to all shards and waits for their answers, on a tokio runtime.
fn play_control(mesh: &Mesh, inbox: &Inbox<ToControl>) {
    let runtime = runtime();
    // After tokio has created its descriptors, whose numbers could be sockets in a shard's table.
    let sockets = fill_table(0);
    let mut lanes = mesh.shard_lanes();
    runtime.block_on(async {
        let wake = mesh.wakes[CONTROL];
        let watched = wake.watched().unwrap();
        for number in 0..REQUESTS {
            for lane in &mut lanes {
                lane.push(ShardMail::Control { ticket: Ticket(number), request: request(number) });
                lane.flush();
            }
            let mut answers = 0;
            while answers < SHARDS {
                while let Some(batch) = inbox.take() {
                    answers += batch.len();
                }
                if answers < SHARDS && inbox.prepare_sleep() {
                    let readable = tokio::time::timeout(PATIENCE, watched.readable());
                    let mut guard = readable.await.expect("a wake was lost").unwrap();
                    wake.clear();
                    guard.clear_ready();
                }
                inbox.woke();
            }
        }
    });
    assert_untouched(&sockets, "control's table");
}

/// Returns every kind of request in turn.
fn request(number: u64) -> ControlRequest {
    let target = Target { user: "".into(), connection: None };
    match number % 4 {
        0 => {
            let pattern = Glob::new("").expect("a pattern");
            ControlRequest::Channels { pattern, after: "".into(), limit: 10 }
        }
        1 => ControlRequest::Disconnect {
            target,
            whitelist: Vec::new(),
            code: 3503,
            text: "force disconnect".into(),
        },
        2 => ControlRequest::Unsubscribe { target, channel: None },
        _ => ControlRequest::Drain { over: Duration::from_secs(1), last_end: Duration::ZERO },
    }
}

/// Sleeps until the eventfd is signalled.
fn sleep(wake: EventFd) {
    let mut poll = libc::pollfd { fd: wake.number(), events: libc::POLLIN, revents: 0 };
    let limit = PATIENCE.as_millis() as i32;
    // SAFETY: `poll` is one valid pollfd for the time of the call.
    let count = unsafe { libc::poll(&raw mut poll, 1, limit) };
    assert_eq!(count, 1, "a wake was lost");
    wake.clear();
}

/// Fills the calling thread's table, starting at `first`.
fn fill_table(first: i32) -> Vec<UnixStream> {
    let pairs = (0..PAIRS).map(|_| UnixStream::pair().expect("the table has room"));
    let sockets: Vec<_> = pairs.flat_map(|(one, other)| [one, other]).collect();
    for socket in &sockets {
        socket.set_nonblocking(true).unwrap();
    }
    if first > 0 {
        let numbers = sockets.iter().map(|socket| socket.as_raw_fd());
        let expected = first..first + 2 * PAIRS as i32;
        assert!(numbers.eq(expected), "a private table has no gaps and no other descriptors");
    }
    sockets
}

fn assert_untouched(sockets: &[UnixStream], whose: &str) {
    assert_eq!(touched(sockets), 0, "sockets of {whose} got bytes");
}

/// Returns the number of sockets that received bytes.
fn touched(sockets: &[UnixStream]) -> usize {
    let got = |mut socket: &UnixStream| match socket.read(&mut [0; 16]) {
        Ok(count) => count > 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    };
    sockets.iter().filter(|socket| got(socket)).count()
}

#[test]
fn a_wake_by_a_number_of_another_table_would_be_noticed() {
    let _alone = alone();
    let early = EventFd::new().unwrap();
    let first = early.number() + 1;
    let (sender, receiver) = mpsc::channel::<EventFd>();
    let shard =
        sys::spawn_with_own_descriptors(thread::Builder::new(), &[early], &[], move |own| {
            own.expect("this host gives threads tables of their own");
            let sockets = fill_table(first);
            receiver.recv().unwrap().signal();
            touched(&sockets)
        });
    let shard = shard.unwrap();
    // Created after the thread has its own table, in which this number is a socket.
    let late = EventFd::new().unwrap();
    assert!(late.number() >= first);
    sender.send(late).unwrap();
    assert_eq!(shard.join().unwrap(), 1, "the wake went to a socket");
}
