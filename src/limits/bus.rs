//! Limits of the bus and its calls to Redis, ingest streams, events, and requests between nodes.

use std::time::Duration;

/// Maximum number of concurrent calls of the bus. Publications that arrive meanwhile become the
/// next batch, so batches grow with the load and no timer is needed.
pub const BUS_CALLS_MAX: usize = 2;

/// Maximum bytes of the records in one batch, unless a single one is larger. Redis runs nothing
/// else while it appends a batch, about 50 µs for this size.
pub const BUS_BATCH_BYTES_MAX: usize = 128 * 1024;

/// Maximum number of publications in one batch.
pub const BUS_BATCH_PUBLICATIONS_MAX: usize = 512;

/// Maximum bytes of publications that wait for Redis. Further ones are refused.
pub const BUS_PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Divisor of [`BUS_PENDING_BYTES_MAX`]. Ingest stops at that part, so that clients and the API
/// still have room.
pub const BUS_INGEST_SHARE: usize = 2;

/// Maximum number of publications of one client that are on their way to the bus. The next one is
/// read when one of them has its answer.
pub const PUBLISHING_MAX: u16 = 64;

/// Timeout of a publication that waits for Redis.
pub const BUS_PUBLISH_DEADLINE: Duration = Duration::from_secs(3);

/// Delay before publications are refused immediately, not at their deadline, while Redis is
/// unreachable.
pub const BUS_PATIENCE: Duration = Duration::from_secs(1);

/// Maximum time of one call to Redis. After that its connection is closed.
pub const BUS_CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout of a blocking read that waits for new entries.
pub const BUS_BLOCK: Duration = Duration::from_secs(1);

/// Silence after which the connection of a reader is closed, because the peer may be gone.
pub const BUS_READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of entries of each stream in one read.
pub const BUS_READ_ENTRIES_MAX: usize = 256;

/// Intended bytes of one read, estimated from earlier entries. A link of 350 kB/s transfers them
/// within [`BUS_READ_TIMEOUT`].
pub const BUS_READ_BYTES: usize = 1024 * 1024;

/// Time between two checks of the ends of streams.
pub const BUS_TAIL_INTERVAL: Duration = Duration::from_secs(1);

/// Delay before entries of a stream count as lost, if `meta` shows them but they can't be read.
pub const BUS_STALL_TIMEOUT: Duration = Duration::from_secs(2);

/// First and maximum pause before another attempt to reach Redis, each plus jitter of up to the
/// same length.
pub const BUS_RETRY_MIN: Duration = Duration::from_millis(50);
/// See [`BUS_RETRY_MIN`].
pub const BUS_RETRY_MAX: Duration = Duration::from_millis(500);

/// Minimum lifetime in Redis of the offsets of a silent channel. The maximum is twice as
/// long, because channels are removed by generations. Source: Centrifugo's meta TTL.
pub const BUS_CHANNEL_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Lifetime in Redis of the counter of a silent publisher.
pub const BUS_PUBLISHER_TTL: Duration = Duration::from_secs(3600);

/// Number of entries of a stream that `append.lua` looks at for a batch that is sent again. Redis
/// does nothing else in the meantime.
pub const BUS_LOOK_ENTRIES: usize = 64;

/// Number of marks by which a script counts the bytes of a stream. The stream may exceed its limit
/// by one part.
pub const STREAM_MARKS: usize = 64;

/// Maximum number of channels whose position is requested in one call.
pub const BUS_LOCATE_CHANNELS_MAX: usize = 256;

/// Maximum number of channels of one stream whose positions are requested at the same time. Further
/// ones are refused.
pub const BUS_LOCATES_MAX: usize = 100_000;

/// Maximum number of channels whose durable histories are read in one call, and bytes after which
/// the call ends.
pub const BUS_OLDER_CHANNELS_MAX: usize = 32;
/// See [`BUS_OLDER_CHANNELS_MAX`]. Redis does nothing else during the call, about 0.3 ms.
pub const BUS_OLDER_BYTES_MAX: usize = 256 * 1024;

/// Number of entries of a durable history that `older.lua` reads at once. Pages are small, because
/// the limit in bytes may end a read early.
pub const BUS_OLDER_PAGE_ENTRIES: usize = 16;

/// Maximum number of such calls of one node per twentieth of a second, so that requests for
/// histories do not keep Redis from accepting publications.
pub const BUS_OLDER_CALLS_PER_TICK: usize = 10;

/// Maximum number of channels of one stream whose durable histories are requested at the same time.
/// Further requests are answered from memory.
pub const BUS_OLDER_WANTED_MAX: usize = 10_000;

/// Time before a durable history is requested again after a failure of Redis.
pub const BUS_OLDER_PAUSE: Duration = Duration::from_secs(1);

/// Timeout of the bus for a lookup of a channel's position.
pub const BUS_LOCATE_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of a home for an answer of the bus about a channel. Together with a tick and
/// the return to the client, this is at most 3 s. SDKs wait for 5 s.
pub const PLACE_TIMEOUT: Duration = Duration::from_millis(2_700);

/// Maximum number of entries of an ingest stream that are in progress, and of their publications.
/// One round trip to Redis appends this number, so more would not be faster.
pub const INGEST_ENTRIES_MAX: usize = 1024;
/// See [`INGEST_ENTRIES_MAX`]. One broadcast may have more publications.
pub const INGEST_PUBLICATIONS_MAX: usize = 1024;

/// Maximum bytes of the entries of an ingest stream that are in progress. One more page may exceed
/// it.
pub const INGEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Maximum number of entries in one read of an ingest stream, and its intended bytes. The bytes are
/// estimated from earlier entries.
pub const INGEST_PAGE_ENTRIES_MAX: usize = 128;
/// See [`INGEST_PAGE_ENTRIES_MAX`].
pub const INGEST_PAGE_BYTES: usize = 1024 * 1024;

/// Lifetime of a lease of an ingest stream that is not renewed, and so the time until another
/// node takes over.
pub const INGEST_LEASE: Duration = Duration::from_secs(5);

/// Time between two renewals of a lease. Two may fail.
pub const INGEST_RENEW_INTERVAL: Duration = Duration::from_millis(1500);

/// Time between two checks whether a lease is free.
pub const INGEST_LEASE_LOOK: Duration = Duration::from_millis(500);

/// Number of attempts for an entry that the bus refuses, and the pause between two. Such an entry
/// delays later ones for that long.
pub const INGEST_TRIES_MAX: usize = 5;
/// See [`INGEST_TRIES_MAX`]. It is also the pause before entries are sent again that Redis did not
/// accept.
pub const INGEST_RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Number of entries that are set aside for each ingest stream. Redis may keep some more.
pub const INGEST_DEAD_MAX: usize = 10_000;

/// Maximum number of channels whose positions one shard requests per tenth of a second after a hole
/// in a stream, so that clients do not all return at the same time.
pub const LOCATES_PER_TICK: usize = 500;

/// Maximum number of subscribers that one shard tells about a gap per tenth of a second, so that
/// they do not all resubscribe at the same time.
pub const GAPS_TOLD_PER_TICK: usize = 500;

/// Lifetime of a node's lease after its last renewal.
pub const NODE_LEASE: Duration = Duration::from_secs(10);

/// Interval at which a node renews its lease.
pub const NODE_RENEWAL: Duration = Duration::from_secs(3);

/// Lifetime of a node's description after its last renewal. It is read as long as the node counts
/// as alive, which is longer than its lease holds.
pub const NODE_DESCRIPTION: Duration = Duration::from_secs(60);

/// Number of checks in a row in which a lease must have expired before its node counts as lost. A
/// forward step of Redis' clock ends all leases, but living nodes renew theirs before the third
/// check.
pub const NODE_LOOKS: u32 = 3;

/// Grace period for other nodes to renew their leases after Redis was unreachable, before they
/// count as lost. They reconnect after their own pauses and timeouts.
pub const NODE_GRACE: Duration = Duration::from_secs(20);

/// Time to wait for replies of other nodes.
pub const CLUSTER_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of requests of all nodes, or of replies to one node, that Redis keeps, and their
/// lifetime. They are useful only for [`CLUSTER_TIMEOUT`]; the rest is for nodes that read late.
pub const CLUSTER_ENTRIES_MAX: usize = 1000;
/// See [`CLUSTER_ENTRIES_MAX`].
pub const CLUSTER_ENTRIES_TTL: Duration = Duration::from_secs(10);

/// Bytes that Redis keeps of them if they have equal lengths, and a few times this number if they
/// become shorter. The longest contain the body of a request, or the names of
/// `API_CHANNELS_PAGE_MAX` channels.
pub const CLUSTER_STREAM_BYTES: usize = 32 * 1024 * 1024;

/// Maximum number of requests of other nodes that one node carries out at the same time. Further
/// ones get no reply.
pub const CLUSTER_CALLS_MAX: usize = 256;

/// Maximum bytes of events that wait for Redis. Further events are only counted.
pub const EVENTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Maximum number of events in one batch, and of their bytes unless a single one is larger. Redis
/// runs nothing else while it appends a batch.
pub const EVENTS_BATCH_MAX: usize = 256;
/// See [`EVENTS_BATCH_MAX`].
pub const EVENTS_BATCH_BYTES_MAX: usize = 256 * 1024;

/// Timeout of a stopping server for its last events to be written.
pub const EVENTS_STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of entries in one read of requests between nodes.
pub const CLUSTER_READ_ENTRIES_MAX: usize = 64;

/// Interval at which a node measures how far back the streams reach.
pub const BUS_WINDOW_INTERVAL: Duration = Duration::from_secs(10);

/// Minimum time between two log lines of the bridge about the same problem.
pub const COMPLAINT_INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of questions to a Sentinel whose replies contradict each other during a change.
pub const SENTINEL_TRIES_MAX: usize = 3;

/// Maximum number of commands that wait in the library for one connection to Redis. At most a few
/// are in progress.
pub const REDIS_COMMANDS_MAX: usize = 1024;

/// Maximum number in an id. Above it, scripts in Redis can't distinguish numbers.
pub const REDIS_NUMBER_MAX: u64 = 1 << 53;

/// Maximum epoch that a node begins. Epochs are milliseconds since 1970 times 1024, so this lasts
/// until 2109.
pub const BUS_EPOCH_MAX: u64 = 1 << 52;
