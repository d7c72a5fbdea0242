//! The memory of a plain WebSocket whose upgrade waits for its channels. While Redis is away,
//! 10,000 of them connect, and each may use at most 1 KB of this process.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed check panics, and it reports"
)]

use std::collections::VecDeque;
use std::sync::Arc;

use corecast::ids::{Moment, ShardId};
use corecast::kernel::{ConnectionKey, Ready, Received, Release, Socket, Sockets, Write, Wrote};
use corecast::mesh::{HomeMap, Inbox, Lane, Outbound, ShardLane, Wake};
use corecast::metrics::ShardCounters;
use corecast::proxies::Peer;
use corecast::readiness::{Phase, Readiness};
use corecast::secret::NodeSecret;
use corecast::settings::Settings;
use corecast::shard::{Identity, Options, OutboxLeases, Parts, Pools, Shard};
use corecast::subnets::{Subnet, Subnets};

const WAITERS: usize = 10_000;
const BYTES_MAX: usize = 1024;

/// Additional memory of a channel that has only one client.
const CHANNEL_BYTES_MAX: usize = 250;

/// Clients that send one request each and then wait. Nothing may be sent to them.
#[derive(Default)]
struct Silent {
    news: VecDeque<ConnectionKey>,
    /// Whether each has a channel of its own.
    alone: bool,
    seconds: u64,
}

impl Sockets for Silent {
    fn watch(&mut self, _socket: Socket, key: ConnectionKey) {
        self.news.push_back(key);
    }

    fn peer(&self, _socket: Socket) -> Option<Peer> {
        None
    }

    fn receive(&mut self, socket: Socket, buffer: &mut [u8]) -> Received {
        let channel = if self.alone { socket.number() } else { 0 };
        let head = format!(
            "GET /ws?channels=room{channel:06}&envelope=json HTTP/1.1\r\nHost: h\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        buffer[..head.len()].copy_from_slice(head.as_bytes());
        Received::Bytes(head.len())
    }

    fn send(&mut self, writes: &[Write<'_>], _results: &mut Vec<Wrote>) {
        assert!(writes.is_empty(), "no upgrade is answered before its channels");
    }

    fn has_sent_all(&self, _socket: Socket) -> bool {
        true
    }

    fn finish(&mut self, _socket: Socket) {}

    fn release(&mut self, _socket: Socket, _token: ConnectionKey, _how: Release) {}

    fn close(&mut self, _socket: Socket) {}

    fn poll(&mut self, ready: &mut Vec<Ready>) {
        ready.extend(self.news.drain(..).map(|key| Ready {
            key,
            readable: true,
            writable: false,
            hangup: false,
            ended: false,
        }));
    }

    fn take_tick(&mut self) -> bool {
        false
    }

    fn now(&self) -> Moment {
        Moment::from_nanos(self.seconds * 1_000_000_000)
    }

    fn is_open(&self, _socket: Socket) -> bool {
        true
    }
}

#[derive(Debug)]
struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// Returns a single shard, whose bus has not yet reported that its channels are known.
fn shard(alone: bool) -> (Shard<Silent>, Arc<ShardCounters>) {
    let (inbox, address) = Inbox::new(16);
    let shards = vec![ShardLane::new(address, Box::new(NoWake))];
    let control = Lane::new(Inbox::new(16).1, Box::new(NoWake));
    let bridge = Lane::new(Inbox::new(16).1, Box::new(NoWake));
    let mut settings = Settings::default();
    settings.redis.url = "redis://silent".to_owned();
    settings.auth.insecure = true;
    let settings = Arc::new(settings);
    let counters: Arc<ShardCounters> = Arc::default();
    let readiness = Arc::new(Readiness::new(Vec::new(), None, usize::MAX));
    readiness.set_phase(Phase::Serving);
    let shard = Shard::new(
        inbox,
        Parts {
            id: ShardId::new(0),
            options: Options::new(&settings, 1),
            sockets: Silent { alone, ..Silent::default() },
            outbound: Outbound::new(shards, control, Some(bridge)),
            pools: Pools::new(&settings, 1),
            home_map: HomeMap::new(&NodeSecret::new([1; 16]), 1),
            identity: Identity::new(&NodeSecret::new([1; 16])),
            counters: Arc::clone(&counters),
            subnets: Arc::new(Subnets::new(16)),
            readiness,
            outboxes: OutboxLeases::new(usize::MAX, 1),
            seed: 1,
        },
    );
    (shard, counters)
}

/// Returns the anonymous memory of this process.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    let kilobytes: usize = kilobytes.expect("a number of kB");
    kilobytes * 1024
}

/// Returns the memory per client, and the shard on which the clients wait. The shard is kept alive,
/// so that its memory is not reused.
fn bytes_each(alone: bool) -> (usize, Shard<Silent>) {
    let (mut shard, counters) = shard(alone);
    while shard.turn() {}
    let before = resident_bytes();
    for number in 0..WAITERS {
        assert!(shard.on_accept(Socket::new(number as i32), Subnet::EXEMPT), "there is room");
        while shard.turn() {}
    }
    assert_eq!(counters.handshaking.value(), WAITERS as u64, "all wait");
    assert_eq!(counters.handshakes_ok.value(), 0);
    (resident_bytes().saturating_sub(before) / WAITERS, shard)
}

#[test]
fn an_upgrade_that_waits_costs_at_most_a_kilobyte() {
    let (shared, _first) = bytes_each(false);
    let (alone, _second) = bytes_each(true);
    println!("{shared} B in a channel of all, {alone} B each in a channel of its own");
    assert!(shared > 100, "{shared} B: nothing was measured");
    assert!(shared <= BYTES_MAX, "{shared} B in a channel of all");
    assert!(alone <= BYTES_MAX + CHANNEL_BYTES_MAX, "{alone} B in a channel of its own");
}
