//! Counters with one writer each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::protocol::Protocol;
use crate::reason::{CloseReason, DropReason, Eviction};

/// A number that one thread writes and others read. Adding is a plain load and store: no
/// read-modify-write, no contention.
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

    /// The value, from any thread.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of durations with fixed buckets, so that nodes can be summed.
#[derive(Debug, Default)]
pub struct DurationCounters {
    buckets: [Counter; DurationCounters::BOUNDS_MICROS.len() + 1],
    sum_nanos: Counter,
}

impl DurationCounters {
    /// Upper bounds of the buckets, in microseconds; one more bucket has no bound.
    pub const BOUNDS_MICROS: [u64; 14] = [
        50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
        1_000_000, 5_000_000,
    ];

    /// Records `count` events that took `duration` each.
    pub fn record(&self, duration: Duration, count: u64) {
        let micros = duration.as_micros() as u64;
        let at = Self::BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        self.buckets[at].add(count);
        self.sum_nanos.add((duration.as_nanos() as u64).wrapping_mul(count));
    }

    /// Counts of each bucket (not cumulative), and the sum of all durations in seconds.
    pub fn snapshot(&self) -> (Vec<u64>, f64) {
        let counts = self.buckets.iter().map(Counter::value).collect();
        (counts, self.sum_nanos.value() as f64 / 1e9)
    }
}

/// Everything that the bridge counts.
#[derive(Debug, Default)]
pub struct BridgeCounters {
    /// 1 while publications can be appended and are read back.
    pub up: Counter,
    /// 1 from when this node first knew all that the streams keep: before, nobody can subscribe.
    pub joined: Counter,
    /// Publications that were appended.
    pub appended: Counter,
    /// Publications that were not, and certainly so.
    pub unavailable: Counter,
    /// Publications that may have been.
    pub unknown: Counter,
    /// Publications refused because too many waited.
    pub full: Counter,
    /// Bytes of publications that wait.
    pub pending_bytes: Counter,
    /// Publications from the API.
    pub publications_api: Counter,
    /// Publications from ingested streams.
    pub publications_ingest: Counter,
    /// Streams that this node ingests.
    pub ingest_active: Counter,
    /// Entries of ingested streams that were published.
    pub ingest_published: Counter,
    /// Those that had been published before.
    pub ingest_repeated: Counter,
    /// Those that can't be published.
    pub ingest_parked: Counter,
    /// Those that were deleted before they were done.
    pub ingest_deleted: Counter,
    /// Entries that were read.
    pub entries: Counter,
    /// Entries that no node can have written.
    pub malformed: Counter,
    /// Times that a stream had a hole.
    pub holes: Counter,
    /// Times that a stream began a new epoch.
    pub epoch_changes: Counter,
    /// Publications that found no room on their way to a shard.
    pub dropped: Counter,
    /// Milliseconds by which the reader is late: between the last entry's append and its reading,
    /// or since the oldest entry is known that it has not passed.
    pub lag_millis: Counter,
    /// Calls that read histories of single channels.
    pub history_reads: Counter,
    /// Seconds that the shortest stream reaches back.
    pub window_seconds: Counter,
    /// Events that were appended.
    pub events_written: Counter,
    /// Events that found no room on their way.
    pub events_dropped: Counter,
    /// Connections to Redis that were made.
    pub connects: Counter,
    /// Times that all connections were made anew because they led to different servers.
    pub renewals: Counter,
    /// Times that they were because a Sentinel had named another primary.
    pub switches: Counter,
    /// Nanoseconds of processor time that the thread has used.
    pub cpu_nanos: Counter,
    /// Why the node waits for Redis, or is degraded: for `/ready`.
    pub trouble: Notice,
}

/// A sentence that one thread writes and another one shows, once in a while.
#[derive(Debug, Default)]
pub struct Notice(Mutex<String>);

impl Notice {
    /// Replaces the text. An empty one means that there is nothing to say.
    pub fn set(&self, text: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept != text {
            text.clone_into(&mut kept);
        }
    }

    /// The text.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Everything that one shard counts.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Connections that are open, by protocol.
    pub connections: [Counter; Protocol::COUNT],
    /// Sockets whose request is not complete, or waits for the channels that it asked for.
    pub handshaking: Counter,
    /// Requests that became connections.
    pub handshakes_ok: Counter,
    /// Requests that were refused with a status.
    pub handshakes_refused: Counter,
    /// Requests that were not complete in time.
    pub handshakes_timeout: Counter,
    /// Sockets answered 503 because a limit was reached.
    pub handshakes_full: Counter,
    /// Upgrades of plain WebSocket whose channels could not be subscribed at present.
    pub handshakes_unavailable: Counter,
    /// Sockets answered 503 because too many of their subnet waited for `accept_rate`.
    pub handshakes_busy: Counter,
    /// Sockets that were reset while they waited.
    pub handshakes_gone: Counter,
    /// 1 while there is no room for one more connection.
    pub full: Counter,
    /// When a client was last refused because there was no room, in nanoseconds; 0 for never.
    pub refused_full_nanos: Counter,
    /// When a client was last refused because too many of its subnet waited; 0 for never.
    pub refused_busy_nanos: Counter,
    /// Ended connections, by reason.
    pub closes: [Counter; CloseReason::ALL.len()],
    /// Publications that entered through clients of this shard.
    pub publications_client: Counter,
    /// Publications that entered through the API and have their home here.
    pub publications_api: Counter,
    /// Publications handed to sockets or outboxes, once for each subscriber.
    pub deliveries: Counter,
    /// Bytes handed to the kernel.
    pub delivered_bytes: Counter,
    /// Time from entrance to the kernel.
    pub delivery: DurationCounters,
    /// Memory of outboxes.
    pub outbox_bytes: Counter,
    /// Bytes of unfinished messages and requests.
    pub inbound_bytes: Counter,
    /// Bytes of history kept here.
    pub history_bytes: Counter,
    /// Bytes of answers to publications with idempotency keys.
    pub idempotency_bytes: Counter,
    /// What the history kept and dropped before its time, by reason.
    pub evictions: [Counter; Eviction::ALL.len()],
    /// Channels that have their home here.
    pub channels_home: Counter,
    /// Those of them with subscribers.
    pub channels_in_use: Counter,
    /// Channels that clients of this shard have created.
    pub channels_created: Counter,
    /// Channels that were refused because there were too many, or too many new ones.
    pub channels_refused: Counter,
    /// Channels with subscribers here.
    pub channels_local: Counter,
    /// Subscriptions here.
    pub subscriptions: Counter,
    /// Messages not delivered, by reason.
    pub drops: [Counter; DropReason::ALL.len()],
    /// Recoveries that returned all that was missed.
    pub recoveries_ok: Counter,
    /// Recoveries that could not.
    pub recoveries_failed: Counter,
    /// Turns that took longer than 10 ms.
    pub loop_stalls: Counter,
    /// Nanoseconds in which the shard did not sleep.
    pub busy_nanos: Counter,
    /// The last turn's moment, in nanoseconds: shows whether the thread makes progress.
    pub alive_nanos: Counter,
    /// Mismatches that audits found.
    pub audit_errors: Counter,
    /// Panics while one connection's bytes were parsed.
    pub panics: Counter,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_errors: Counter,
}
