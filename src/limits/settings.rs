//! Bounds of settings: what no file may ask for.

use std::time::Duration;

/// Longest message that any setting allows: what one shard may hold for one client.
pub const SETTING_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest request body that any setting allows.
pub const SETTING_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most cores that can be named: the size of the kernel's `cpu_set_t`.
pub const CPUS_MAX: usize = 1024;

/// Most streams of a bus: each may need a connection of its own.
pub const STREAMS_MAX: usize = 64;

/// Bytes that a stream of the bus must have, and may have. Every node loads all of them at its
/// start.
pub const SETTING_STREAM_BYTES_MIN: usize = 64 * 1024;

/// See [`SETTING_STREAM_BYTES_MIN`].
pub const SETTING_STREAM_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Entries that the stream of events must be able to hold: some batches.
pub const SETTING_EVENTS_MIN: usize = 1000;

/// Bytes that the stream of events must be able to hold: some batches, and this many of the longest
/// messages.
pub const SETTING_EVENTS_BYTES_MIN: usize = 1024 * 1024;

/// See [`SETTING_EVENTS_BYTES_MIN`].
pub const SETTING_EVENTS_MESSAGES_MIN: usize = 16;

/// Bytes that the stream of events may hold: what a script can count.
pub const SETTING_EVENTS_BYTES_MAX: usize = 1 << 50;

/// Longest duration that any setting allows; it must fit the ticks that connections carry.
pub const SETTING_DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// How alike two keys of settings must be, from 0 to 1, for one to be suggested for the other.
pub const KEY_LIKENESS_MIN: f64 = 0.6;
