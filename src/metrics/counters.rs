//! Counters with one writer each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::protocol::Protocol;
use crate::reason::{CloseReason, DropReason, Eviction, Refusal};

/// A number that one thread writes and others read. Adding is a plain load and store, so there is
/// no read-modify-write and no contention.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the thread that owns the counter may call it.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Subtracts `count`. Only the thread that owns the counter may call it.
    pub fn subtract(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(count), Ordering::Relaxed);
    }

    /// Replaces the value. Only the thread that owns the counter may call it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the value. Any thread may call it.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of durations with fixed buckets, so that nodes can be summed.
#[derive(Debug)]
pub struct DurationCounters {
    buckets: [Counter; DurationCounters::BOUNDS_MICROS.len() + 1],
    sum_nanos: Counter,
}

impl Default for DurationCounters {
    fn default() -> DurationCounters {
        let buckets = std::array::from_fn(|_| Counter::default());
        DurationCounters { buckets, sum_nanos: Counter::default() }
    }
}

impl DurationCounters {
    /// Upper bounds of the buckets, in microseconds. One further bucket has no bound. A bound is at
    /// most 1.5 times the one before, so a percentile is known that well.
    pub const BOUNDS_MICROS: [u64; 37] = [
        50, 75, 100, 150, 200, 250, 350, 500, 750, 1_000, 1_500, 2_000, 2_500, 3_500, 5_000, 7_500,
        10_000, 15_000, 20_000, 25_000, 35_000, 50_000, 75_000, 100_000, 150_000, 200_000, 250_000,
        350_000, 500_000, 750_000, 1_000_000, 1_500_000, 2_000_000, 2_500_000, 3_500_000,
        5_000_000, 7_500_000,
    ];

    /// Records `count` events that took `duration` each.
    pub fn record(&self, duration: Duration, count: u64) {
        let micros = duration.as_micros() as u64;
        let at = Self::BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        self.buckets[at].add(count);
        self.sum_nanos.add((duration.as_nanos() as u64).wrapping_mul(count));
    }

    /// Returns the count of each bucket, not cumulative, and the sum of all durations in seconds.
    pub fn snapshot(&self) -> (Vec<u64>, f64) {
        let counts = self.buckets.iter().map(Counter::value).collect();
        (counts, self.sum_nanos.value() as f64 / 1e9)
    }
}

/// The counters of the bridge.
#[derive(Debug, Default)]
pub struct BridgeCounters {
    /// 1 while Redis accepts publications and this node reads them back.
    pub up: Counter,
    /// 1 once this node has loaded all streams and other nodes know of it. No client can subscribe
    /// before that.
    pub joined: Counter,
    /// Publications appended to a stream.
    pub appended: Counter,
    /// Publications that were certainly not appended.
    pub unavailable: Counter,
    /// Publications that may have been appended.
    pub unknown: Counter,
    /// Publications refused because too many were waiting.
    pub full: Counter,
    /// Bytes of waiting publications.
    pub pending_bytes: Counter,
    /// Publications from the API.
    pub publications_api: Counter,
    /// Publications from ingest streams.
    pub publications_ingest: Counter,
    /// Ingest streams that this node reads.
    pub ingest_active: Counter,
    /// Entries of ingest streams that were published.
    pub ingest_published: Counter,
    /// Entries of ingest streams that had already been published.
    pub ingest_repeated: Counter,
    /// Entries of ingest streams that can't be published.
    pub ingest_parked: Counter,
    /// Entries of ingest streams that were deleted before they were published.
    pub ingest_deleted: Counter,
    /// Entries read from streams.
    pub entries: Counter,
    /// Entries in a form that no node writes.
    pub malformed: Counter,
    /// Number of holes found in streams.
    pub holes: Counter,
    /// Number of new epochs of streams.
    pub epoch_changes: Counter,
    /// Publications dropped because the queue to a shard was full.
    pub dropped: Counter,
    /// Delay of the reader in milliseconds: from the append of the last entry to its reading, or
    /// the age of the oldest entry that is known but not read.
    pub lag_millis: Counter,
    /// Calls that read the history of a single channel.
    pub history_reads: Counter,
    /// Seconds that the stream with the shortest window covers.
    pub window_seconds: Counter,
    /// Events appended to the stream of events.
    pub events_written: Counter,
    /// Events dropped because a queue was full.
    pub events_dropped: Counter,
    /// Connections made to Redis.
    pub connects: Counter,
    /// Number of times that all connections were renewed because they led to different servers.
    pub renewals: Counter,
    /// Number of times that all connections were renewed because a Sentinel named another primary.
    pub switches: Counter,
    /// CPU time of the thread, in nanoseconds.
    pub cpu_nanos: Counter,
    /// The current problem with Redis, for `/ready`. Empty if there is none.
    pub trouble: Notice,
}

/// A text that one thread writes and another one occasionally reads.
#[derive(Debug, Default)]
pub struct Notice(Mutex<String>);

impl Notice {
    /// Replaces the text. An empty text means that there is no notice.
    pub fn set(&self, text: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept != text {
            text.clone_into(&mut kept);
        }
    }

    /// Returns the text.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ShardCounters {
    /// Counts a request or a socket that does not become a connection.
    pub fn refuse(&self, reason: Refusal) {
        self.refusals[reason as usize].add(1);
    }
}

/// The counters of one shard.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Open connections, by protocol.
    pub connections: [Counter; Protocol::COUNT],
    /// Sockets whose request is incomplete, or waits for its channels.
    pub handshaking: Counter,
    /// Requests that became connections.
    pub handshakes_ok: Counter,
    /// Requests and sockets that did not become connections, by reason.
    pub refusals: [Counter; Refusal::ALL.len()],
    /// 1 while the shard can't accept another connection.
    pub full: Counter,
    /// Time of the last refusal because the shard was full, in nanoseconds; 0 means never.
    pub refused_full_nanos: Counter,
    /// Time of the last refusal because too many of a subnet waited, in nanoseconds; 0 means never.
    pub refused_busy_nanos: Counter,
    /// Closed connections, by reason.
    pub closes: [Counter; CloseReason::ALL.len()],
    /// Publications from clients of this shard.
    pub publications_client: Counter,
    /// Publications from the API whose home is this shard.
    pub publications_api: Counter,
    /// Publications handed to sockets or outboxes, counted once for each subscriber.
    pub deliveries: Counter,
    /// Bytes handed to the kernel.
    pub delivered_bytes: Counter,
    /// Time from acceptance of a publication to its write into a socket.
    pub delivery: DurationCounters,
    /// Bytes in outboxes.
    pub outbox_bytes: Counter,
    /// Bytes of unfinished messages and requests.
    pub inbound_bytes: Counter,
    /// Bytes of histories on this shard.
    pub history_bytes: Counter,
    /// Bytes of kept results of publications with idempotency keys.
    pub idempotency_bytes: Counter,
    /// Entries that histories dropped early, by reason.
    pub evictions: [Counter; Eviction::ALL.len()],
    /// Channels whose home is this shard.
    pub channels_home: Counter,
    /// Channels whose home is this shard and that have subscribers.
    pub channels_in_use: Counter,
    /// Channels created by clients of this shard.
    pub channels_created: Counter,
    /// New channels refused because of their total number or rate.
    pub channels_refused: Counter,
    /// Channels with subscribers on this shard.
    pub channels_local: Counter,
    /// Subscriptions of connections on this shard.
    pub subscriptions: Counter,
    /// Undelivered messages, by reason.
    pub drops: [Counter; DropReason::ALL.len()],
    /// Recoveries that returned all missed publications.
    pub recoveries_ok: Counter,
    /// Recoveries that could not return all missed publications.
    pub recoveries_failed: Counter,
    /// Turns that took longer than 10 ms.
    pub loop_stalls: Counter,
    /// Time during which the shard did not sleep, in nanoseconds.
    pub busy_nanos: Counter,
    /// Time of the last turn, in nanoseconds. It shows whether the thread makes progress.
    pub alive_nanos: Counter,
    /// Inconsistencies found by audits.
    pub audit_errors: Counter,
    /// Panics while one connection's bytes were parsed.
    pub panics: Counter,
    /// Accepts that failed because descriptors or memory were used up.
    pub accept_errors: Counter,
}
