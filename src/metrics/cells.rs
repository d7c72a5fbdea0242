//! Counters with one writer each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::protocol::Protocol;
use crate::reason::{CloseReason, DropReason, Eviction};

/// A number that one thread writes and others read. Adding is a plain load and store: no
/// read-modify-write, no contention.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds `count`. Only the thread that owns the cell may call it.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Subtracts `count`. Only the thread that owns the cell may call it.
    pub fn subtract(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(count), Ordering::Relaxed);
    }

    /// Replaces the value. Only the thread that owns the cell may call it.
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
pub struct DurationCells {
    buckets: [Cell; DurationCells::BOUNDS_MICROS.len() + 1],
    sum_nanos: Cell,
}

impl DurationCells {
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
        let counts = self.buckets.iter().map(Cell::value).collect();
        (counts, self.sum_nanos.value() as f64 / 1e9)
    }
}

/// Everything that the bridge counts.
#[derive(Debug, Default)]
pub struct BridgeCells {
    /// 1 while publications can be appended and are read back.
    pub up: Cell,
    /// 1 from when this node first knew all that the streams keep: before, nobody can subscribe.
    pub joined: Cell,
    /// Publications that were appended.
    pub appended: Cell,
    /// Publications that were not, and certainly so.
    pub unavailable: Cell,
    /// Publications that may have been.
    pub unknown: Cell,
    /// Publications refused because too many waited.
    pub full: Cell,
    /// Bytes of publications that wait.
    pub pending_bytes: Cell,
    /// Publications from the API.
    pub publications_api: Cell,
    /// Publications from ingested streams.
    pub publications_ingest: Cell,
    /// Streams that this node ingests.
    pub ingest_active: Cell,
    /// Entries of ingested streams that were published.
    pub ingest_published: Cell,
    /// Those that had been published before.
    pub ingest_repeated: Cell,
    /// Those that can't be published.
    pub ingest_parked: Cell,
    /// Those that were deleted before they were done.
    pub ingest_deleted: Cell,
    /// Entries that were read.
    pub entries: Cell,
    /// Entries that no node can have written.
    pub malformed: Cell,
    /// Times that a stream had a hole.
    pub holes: Cell,
    /// Times that a stream began a new epoch.
    pub epoch_changes: Cell,
    /// Publications that found no room on their way to a shard.
    pub dropped: Cell,
    /// Milliseconds by which the reader is late: between the last entry's append and its reading,
    /// or since the oldest entry is known that it has not passed.
    pub lag_millis: Cell,
    /// Calls that read histories of single channels.
    pub history_reads: Cell,
    /// Seconds that the shortest stream reaches back.
    pub window_seconds: Cell,
    /// Events that were appended.
    pub events_written: Cell,
    /// Events that found no room on their way.
    pub events_dropped: Cell,
    /// Connections to Redis that were made.
    pub connects: Cell,
    /// Times that all connections were made anew because they led to different servers.
    pub renewals: Cell,
    /// Times that they were because a Sentinel had named another primary.
    pub switches: Cell,
    /// Nanoseconds of processor time that the thread has used.
    pub cpu_nanos: Cell,
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
pub struct ShardCells {
    /// Connections that are open, by protocol.
    pub connections: [Cell; Protocol::COUNT],
    /// Sockets whose request is not complete, or waits for the channels that it asked for.
    pub handshaking: Cell,
    /// Requests that became connections.
    pub handshakes_ok: Cell,
    /// Requests that were refused with a status.
    pub handshakes_refused: Cell,
    /// Requests that were not complete in time.
    pub handshakes_timeout: Cell,
    /// Sockets answered 503 because a limit was reached.
    pub handshakes_full: Cell,
    /// Upgrades of plain WebSocket whose channels could not be subscribed at present.
    pub handshakes_unavailable: Cell,
    /// Sockets answered 503 because too many of their subnet waited for `accept_rate`.
    pub handshakes_busy: Cell,
    /// Sockets that were reset while they waited.
    pub handshakes_gone: Cell,
    /// 1 while there is no room for one more connection.
    pub full: Cell,
    /// When a client was last refused because there was no room, in nanoseconds; 0 for never.
    pub refused_full_nanos: Cell,
    /// When a client was last refused because too many of its subnet waited; 0 for never.
    pub refused_busy_nanos: Cell,
    /// Ended connections, by reason.
    pub closes: [Cell; CloseReason::ALL.len()],
    /// Publications that entered through clients of this shard.
    pub publications_client: Cell,
    /// Publications that entered through the API and have their home here.
    pub publications_api: Cell,
    /// Publications handed to sockets or outboxes, once for each subscriber.
    pub deliveries: Cell,
    /// Bytes handed to the kernel.
    pub delivered_bytes: Cell,
    /// Time from entrance to the kernel.
    pub delivery: DurationCells,
    /// Memory of outboxes.
    pub outbox_bytes: Cell,
    /// Bytes of unfinished messages and requests.
    pub inbound_bytes: Cell,
    /// Bytes of history kept here.
    pub history_bytes: Cell,
    /// Bytes of answers to publications with idempotency keys.
    pub idempotency_bytes: Cell,
    /// What the history kept and dropped before its time, by reason.
    pub evictions: [Cell; Eviction::ALL.len()],
    /// Channels that have their home here.
    pub channels_home: Cell,
    /// Those of them with subscribers.
    pub channels_in_use: Cell,
    /// Channels that clients of this shard have created.
    pub channels_created: Cell,
    /// Channels that were refused because there were too many, or too many new ones.
    pub channels_refused: Cell,
    /// Channels with subscribers here.
    pub channels_local: Cell,
    /// Subscriptions here.
    pub subscriptions: Cell,
    /// Messages not delivered, by reason.
    pub drops: [Cell; DropReason::ALL.len()],
    /// Recoveries that returned all that was missed.
    pub recoveries_ok: Cell,
    /// Recoveries that could not.
    pub recoveries_failed: Cell,
    /// Turns that took longer than 10 ms.
    pub loop_stalls: Cell,
    /// Nanoseconds in which the shard did not sleep.
    pub busy_nanos: Cell,
    /// The last turn's moment, in nanoseconds: shows whether the thread makes progress.
    pub alive_nanos: Cell,
    /// Mismatches that audits found.
    pub audit_errors: Cell,
    /// Panics while one connection's bytes were parsed.
    pub panics: Cell,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_errors: Cell,
}
