//! Limits for the checks of Redis servers: their health and identity.

use std::time::Duration;

/// Time between two probes of a server, which check whether it would accept a batch.
pub const BUS_PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two probes while the last result contradicts the known state.
pub const BUS_PROBE_AGAIN: Duration = Duration::from_millis(250);

/// Number of equal results in a row after which a server counts as refusing, or as healthy again.
pub const BUS_PROBES_TO_SWITCH: u32 = 2;

/// Maximum age of a known entry of a stream that this node's reader has not read. After that the
/// node counts as degraded, and new subscribers wait for the reader.
pub const BUS_LAG_MAX: Duration = Duration::from_secs(2);

/// Number of known unread entries that are recorded for each stream, and the time between two of
/// them. More would not help, because only the oldest one matters.
pub const BUS_MARKS_MAX: usize = 64;
/// See [`BUS_MARKS_MAX`].
pub const BUS_MARK_INTERVAL: Duration = Duration::from_millis(50);

/// Delay before all connections are renewed because they lead to different servers. After a
/// failover they find the new server one after another.
pub const BUS_APART_MAX: Duration = Duration::from_secs(1);

/// Minimum time between two renewals of all connections. Up to half of it is added as jitter, so
/// that nodes do not renew at the same time.
pub const BUS_RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of answers for ingest streams that wait for this node's reader. Beyond it, an
/// answer is `result unknown` and the entry is published again, which the bus recognizes.
pub const BUS_UNCONFIRMED_MAX: usize = 16 * 1024;

/// Interval at which the primary is requested from a Sentinel even if it has reported no change.
pub const SENTINEL_ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum time between two questions to one Sentinel, even if it reports more changes. The next
/// question covers these as well. A planned failover is reported in three steps, so the node knows
/// the result within 0.3 s of the first one.
pub const SENTINEL_ASK_PAUSE: Duration = Duration::from_millis(100);

/// Minimum time between two changes of the primary. An address that arrives earlier is not lost,
/// because the next question to a Sentinel returns it again.
pub const SENTINEL_SWITCH_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of Sentinels to which a node listens, unless the settings name more. Others are
/// learned from known Sentinels, so their number comes from outside. Source: the documentation of
/// Redis, which has three or five.
pub const SENTINELS_MAX: usize = 16;

/// Lifetime of an address from a Sentinel that no Sentinel confirms.
pub const SENTINEL_TRUST: Duration = Duration::from_secs(10);

/// Last part of the timeout of an answer. It starts again if this process was not
/// running during it, because a process that was stopped finds the answer when it continues.
pub const BUS_GRACE: Duration = Duration::from_millis(250);

/// Maximum bytes of a reason in `/ready`.
pub const READY_REASON_BYTES_MAX: usize = 200;
