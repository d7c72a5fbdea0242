//! Bounds of how the bridge finds out whether the servers of Redis are well, and which they are.

use std::time::Duration;

/// Time between two probes of a server whether it would take a batch.
pub const BUS_PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The same while the last answer contradicts what was known before.
pub const BUS_PROBE_AGAIN: Duration = Duration::from_millis(250);

/// Answers to probes in a row that make a server count as refusing, or as well again.
pub const BUS_PROBES_TO_SWITCH: u32 = 2;

/// How long an entry that is known to be in a stream may wait for the own reader before the node
/// counts as degraded, and new subscribers wait for the reader.
pub const BUS_LAG_MAX: Duration = Duration::from_secs(2);

/// Entries that are noted for it in each stream, and the time between two of them. More would not
/// be more exact, for the oldest one decides.
pub const BUS_MARKS_MAX: usize = 64;
/// See [`BUS_MARKS_MAX`].
pub const BUS_MARK_INTERVAL: Duration = Duration::from_millis(50);

/// How long connections may lead to different servers before all are made anew. After a failover
/// they find the new server one after the other.
pub const BUS_APART_MAX: Duration = Duration::from_secs(1);

/// Least time between two occasions at which all connections are made anew; up to half as much is
/// added, so that nodes do not come together.
pub const BUS_RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// Answers for ingested streams that wait for the own reader; one more is `result unknown`, and the
/// entry is published again, which the bus recognises.
pub const BUS_UNCONFIRMED_MAX: usize = 16 * 1024;

/// How often a Sentinel is asked for the primary though it has told of nothing.
pub const SENTINEL_ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Least time between two times that one Sentinel is asked, however much it tells. What it tells
/// meanwhile is one more reason to ask. A planned failover is told in three steps and has 0.3 s.
pub const SENTINEL_ASK_PAUSE: Duration = Duration::from_millis(100);

/// Least time between two changes of the primary. An address that is named earlier is named again
/// when Sentinels are next asked.
pub const SENTINEL_SWITCH_INTERVAL: Duration = Duration::from_secs(1);

/// Sentinels that a node listens to, unless the settings name more. Those that the settings do not
/// name are learned from the others, so their number comes from outside. Source: Redis' documents,
/// which have three or five.
pub const SENTINELS_MAX: usize = 16;

/// How long an address that a Sentinel has named is dialled after none of them has said it again.
pub const SENTINEL_TRUST: Duration = Duration::from_secs(10);

/// The end of the time in which an answer must come. It begins anew if this process had no turn in
/// it: one that was stopped finds the answer as soon as it goes on.
pub const BUS_GRACE: Duration = Duration::from_millis(250);

/// Bytes of a reason that `/ready` shows.
pub const READY_REASON_BYTES_MAX: usize = 200;
