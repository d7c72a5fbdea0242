//! Bounds of what joins nodes: the bus and its calls to Redis, ingested streams, events, requests
//! between nodes.

use std::time::Duration;

/// Calls of the bus that are under way at once. What comes meanwhile gathers to the next batch, so
/// that batches grow with the load and no timer is needed.
pub const BUS_CALLS_MAX: usize = 2;

/// Bytes of the records in one batch, unless a single one has more. Redis runs nothing else while
/// it appends one: about 50 µs for this much.
pub const BUS_BATCH_BYTES_MAX: usize = 128 * 1024;

/// Publications in one batch.
pub const BUS_BATCH_PUBLICATIONS_MAX: usize = 512;

/// Bytes of publications that wait for Redis; one more is refused.
pub const BUS_PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Publications of one client that are on their way to the bus at once; the next one is read when
/// one of them has been answered.
pub const PUBLISHING_MAX: u16 = 64;

/// How long a publication may wait for Redis before its publisher is told that it failed.
pub const BUS_PUBLISH_DEADLINE: Duration = Duration::from_secs(3);

/// How long Redis may be away before publications are refused at once, not at their deadline.
pub const BUS_PATIENCE: Duration = Duration::from_secs(1);

/// How long one call to Redis may take before its connection is given up.
pub const BUS_CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long Redis lets a reader wait for news.
pub const BUS_BLOCK: Duration = Duration::from_secs(1);

/// Silence after which a reader's connection is given up: a peer that is gone without a word.
pub const BUS_READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Entries of each stream in one read.
pub const BUS_READ_ENTRIES_MAX: usize = 256;

/// Bytes that one read is to bring, as far as entries are like those before: a link of 350 kB/s
/// carries them within [`BUS_READ_TIMEOUT`].
pub const BUS_READ_BYTES: usize = 1024 * 1024;

/// Time between two looks at where streams end.
pub const BUS_TAIL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a stream may be ahead of what can be read of it before that is taken for lost.
pub const BUS_STALL_TIMEOUT: Duration = Duration::from_secs(2);

/// First and last pause before Redis is tried again, each with as much jitter.
pub const BUS_RETRY_MIN: Duration = Duration::from_millis(50);
/// See [`BUS_RETRY_MIN`].
pub const BUS_RETRY_MAX: Duration = Duration::from_millis(500);

/// How long Redis keeps the offsets of a channel that is silent at least; at most twice as long,
/// for channels are forgotten by generations. Source: Centrifugo's meta TTL.
pub const BUS_CHANNEL_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long Redis knows a publisher that is silent.
pub const BUS_PUBLISHER_TTL: Duration = Duration::from_secs(3600);

/// Channels whose place is asked for in one call.
pub const BUS_LOCATE_CHANNELS_MAX: usize = 256;

/// Channels of one stream whose place is wanted at once; one more is refused.
pub const BUS_LOCATES_MAX: usize = 100_000;

/// Channels whose own histories are read in one call, and bytes after which it reads no more.
pub const BUS_OLDER_CHANNELS_MAX: usize = 32;
/// See [`BUS_OLDER_CHANNELS_MAX`]. Redis does nothing else meanwhile: about 0.3 ms.
pub const BUS_OLDER_BYTES_MAX: usize = 256 * 1024;

/// Such calls of one node in a twentieth of a second: histories that many clients ask for must not
/// keep Redis from taking publications.
pub const BUS_OLDER_CALLS_PER_TICK: usize = 10;

/// Channels of one stream whose history is wanted at once; to one more, what the node has is all.
pub const BUS_OLDER_WANTED_MAX: usize = 10_000;

/// How long a channel's history is not asked for again after Redis could not give it.
pub const BUS_OLDER_PAUSE: Duration = Duration::from_secs(1);

/// How long the bus tries to find the place of a channel.
pub const BUS_LOCATE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a home waits for what it has asked the bus about a channel, whatever becomes of the
/// question. With a tick and the way back, whoever subscribes is answered within 3 s; SDKs wait for
/// 5 s.
pub const PLACE_TIMEOUT: Duration = Duration::from_millis(2_700);

/// Entries of an ingested stream that are under way at once, and publications of them. A round trip
/// to Redis appends as many, so more would not be faster.
pub const INGEST_ENTRIES_MAX: usize = 1024;
/// See [`INGEST_ENTRIES_MAX`]: one broadcast may be more publications.
pub const INGEST_PUBLICATIONS_MAX: usize = 1024;

/// Bytes of the entries of an ingested stream that are under way; one more page may go beyond it.
pub const INGEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Entries in one read of an ingested stream, and bytes that are wanted in one. It is only known of
/// entries that were read how long they are, so that much is not exact.
pub const INGEST_PAGE_ENTRIES_MAX: usize = 128;
/// See [`INGEST_PAGE_ENTRIES_MAX`].
pub const INGEST_PAGE_BYTES: usize = 1024 * 1024;

/// How long a node that is silent keeps an ingested stream to itself: the time of a take-over.
pub const INGEST_LEASE: Duration = Duration::from_secs(5);

/// Time between two renewals of a lease. Two may fail.
pub const INGEST_RENEW_INTERVAL: Duration = Duration::from_millis(1500);

/// Time between two looks whether a lease is free.
pub const INGEST_LEASE_LOOK: Duration = Duration::from_millis(500);

/// Times that an entry is tried which the bus refuses for itself, and the pause between two: so
/// much does such an entry delay those behind it.
pub const INGEST_TRIES_MAX: usize = 5;
/// See [`INGEST_TRIES_MAX`]. Also the pause before what Redis did not take is sent again.
pub const INGEST_RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Entries that can't be published and are kept for each ingested stream; Redis may keep some more.
pub const INGEST_DEAD_MAX: usize = 10_000;

/// Channels that one shard asks for again in a tenth of a second after a stream had a hole, so that
/// the clients of a busy node do not all come back at once.
pub const LOCATES_PER_TICK: usize = 500;

/// Subscribers that one shard tells of a gap in a tenth of a second, so that they do not all
/// subscribe anew at once.
pub const GAPS_TOLD_PER_TICK: usize = 500;

/// How long a node counts as alive after it was last heard of.
pub const NODE_LEASE: Duration = Duration::from_secs(10);

/// How often a node makes itself heard.
pub const NODE_RENEWAL: Duration = Duration::from_secs(3);

/// How many times in a row a node finds another one's lease over before it takes that for gone.
/// When the clock of Redis goes forward, all leases are over at once; who lives has renewed its own
/// before the third look.
pub const NODE_LOOKS: u32 = 3;

/// How long other nodes have to make themselves heard again after Redis was away, before they are
/// taken for gone: they connect after pauses and timeouts of their own.
pub const NODE_GRACE: Duration = Duration::from_secs(20);

/// How long the answers of other nodes are waited for.
pub const CLUSTER_TIMEOUT: Duration = Duration::from_secs(1);

/// Requests of all nodes, or answers to one, that Redis keeps, and for how long. They are of use
/// for [`CLUSTER_TIMEOUT`], so this is for a node that reads late.
pub const CLUSTER_ENTRIES_MAX: usize = 1000;
/// See [`CLUSTER_ENTRIES_MAX`].
pub const CLUSTER_ENTRIES_TTL: Duration = Duration::from_secs(10);

/// Bytes that Redis keeps of them if they are of one length; a few times as many where they become
/// shorter. The longest have a request's body, or the names of [`API_CHANNELS_PAGE_MAX`] channels.
pub const CLUSTER_STREAM_BYTES: usize = 32 * 1024 * 1024;

/// Requests of other nodes that one node carries out at once; one more hears nothing.
pub const CLUSTER_CALLS_MAX: usize = 256;

/// Bytes of events that wait for Redis; what comes then is counted instead.
pub const EVENTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Events in one batch, and their bytes unless a single one has more. Redis runs nothing else while
/// it appends one.
pub const EVENTS_BATCH_MAX: usize = 256;
/// See [`EVENTS_BATCH_MAX`].
pub const EVENTS_BATCH_BYTES_MAX: usize = 256 * 1024;

/// How long a stopping server waits for its last events to be written.
pub const EVENTS_STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Entries in one read of requests between nodes.
pub const CLUSTER_READ_ENTRIES_MAX: usize = 64;

/// How often a node looks how far back the streams reach.
pub const BUS_WINDOW_INTERVAL: Duration = Duration::from_secs(10);

/// The bridge makes the same complaint at most once in this time.
pub const COMPLAINT_INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of questions to a Sentinel whose answers contradict each other amid a change.
pub const SENTINEL_TRIES_MAX: usize = 3;

/// Commands that wait in the library for one connection to Redis: a few are under way at most.
pub const REDIS_COMMANDS_MAX: usize = 1024;

/// Highest number of an id: above it Redis' scripts can't tell numbers apart.
pub const REDIS_NUMBER_MAX: u64 = 1 << 53;

/// The highest epoch that a node begins: milliseconds since 1970 times 1024, until 2109.
pub const BUS_EPOCH_MAX: u64 = 1 << 52;
