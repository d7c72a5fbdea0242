//! All limits that are not settings, with their purpose, cost and reason. Settings with their
//! defaults are in `config/default.toml`.

mod api;
mod bus;
mod commands;
mod servers;
mod settings;

pub use api::*;
pub use bus::*;
pub use commands::*;
pub use servers::{
    BUS_APART_MAX, BUS_GRACE, BUS_LAG_MAX, BUS_MARK_INTERVAL, BUS_MARKS_MAX, BUS_PROBE_AGAIN,
    BUS_PROBE_INTERVAL, BUS_PROBES_TO_SWITCH, BUS_RENEWAL_INTERVAL, BUS_UNCONFIRMED_MAX,
    READY_REASON_BYTES_MAX, SENTINEL_ASK_INTERVAL, SENTINEL_ASK_PAUSE, SENTINEL_SWITCH_INTERVAL,
    SENTINEL_TRUST, SENTINELS_MAX,
};
pub use settings::*;

use std::time::Duration;

/// Maximum number of connections to which a shard sends in one system call. 256 keeps the sending
/// and receiving phases of the network stack warm; 32 and 1,024 were slower on Linux 6.18
/// (`perf/limit`).
pub const SWEEP_SENDS_MAX: usize = 256;

/// Maximum number of connections that a shard checks for one such call. Connections that accept no
/// bytes at the moment cost a check and no write, and there may be any number of them. Telling one
/// about a gap counts as another check.
pub const SWEEP_LOOKS_MAX: usize = 1024;

/// Number of entries of a shard's submission queue: a batch of sends, and the same number of polls
/// and removals.
pub const RING_ENTRIES: u32 = 512;

/// Number of entries of a shard's completion queue, 16 B each. Polls complete at any time, so it
/// must hold a burst of readable sockets.
pub const RING_COMPLETIONS: u32 = 32_768;

/// Maximum bytes of one receive, and the size of a shard's receive buffer.
pub const RECEIVE_BYTES_MAX: usize = 16 * 1024;

/// Number of turns of a shard before its runtime gets one. The runtime has no other task, and a
/// turn of it costs a system call.
pub const TURNS_PER_PAUSE: u32 = 64;

/// Maximum number of sockets read in one turn. The rest stay on the ready list.
pub const TURN_READS_MAX: usize = 1024;

/// Maximum number of batches taken from the inbox in one turn.
pub const TURN_BATCHES_MAX: usize = 64;

/// Maximum number of messages to itself that a shard handles in one turn, unless more had been
/// queued before. It is the size of a batch of another thread. Each message may cause further ones,
/// such as the next command of a client that has its answer. The rest wait for the next turn.
pub const TURN_LOOPBACK_MAX: usize = BATCH_MESSAGES_MAX;

/// Maximum number of sockets accepted in one turn of the accept loop.
pub const TURN_ACCEPTS_MAX: usize = 256;

/// Maximum bytes of one write to one socket, unless a single frame is longer. A client's socket
/// accepts at most 96 KiB. Per byte, a write of 64 KiB costs half as much as one of 16 KiB (Linux
/// 6.18, loopback: 0.30 and 0.64 µs per KiB).
pub const GATHER_BYTES_MAX: usize = 64 * 1024;

/// Bytes in an outbox above which commands of its client wait; never above `outbox_bytes_max`. It
/// is the size of one write, so a client that reads never waits because of it.
pub const READING_OUTBOX_BYTES_MAX: usize = GATHER_BYTES_MAX;

/// Bytes of replies and events for single clients that are created in one turn; one more client may
/// be served beyond it. Creating and sending them takes about 1 ms, during which all other clients
/// wait.
pub const TURN_REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Maximum bytes of the buffer in which a shard encodes replies and that it keeps. The buffer of a
/// longer reply, such as a recovery, becomes a part of its client's outbox.
pub const REPLY_BUFFER_BYTES_MAX: usize = 16 * 1024;

/// Bytes for which a request for a channel counts. It costs more than its reply, and a client may
/// ask for a thousand channels in one request.
pub const SUBSCRIBING_REPLY_BYTES: usize = 256;

/// Bytes of publications that a home shard returns from its histories in one turn; one more
/// recovery or page may exceed it. Further requests wait for the next turn.
pub const TURN_REPLAY_BYTES_MAX: usize = 256 * 1024;

/// Number of batches in the inbox of a shard above which homes return no more histories to its
/// clients. A batch contains the histories of one turn, as references of 8 B. Without this limit,
/// 10,000 clients that ask at the same time cost 27 MB while their shard encodes the first answers.
/// Encoding 64 batches takes tens of milliseconds.
pub const REPLAYS_BATCHES_MAX: usize = 64;

/// Maximum number of requests for histories that wait for a later turn of their home shard. Further
/// ones get error 111. They cost about 200 B each, and a second or two of work. Requests of clients
/// that have left are among them.
pub const REPLAYS_WAITING_MAX: usize = 65_536;

/// Bytes of recoveries and pages of history that one client may have per tenth of a second, on
/// average. A request costs its sender 100 B and the server up to 1 ms.
pub const REPLAY_BYTES_PER_TICK: usize = 100 * 1024;

/// Burst of these bytes, because a returning client recovers many channels together. Beyond it, the
/// next request waits.
pub const REPLAY_BURST_BYTES: usize = 4 * 1024 * 1024;

/// Maximum bytes of a piece into which waiting frames of one connection are joined.
pub const PIECE_JOIN_BYTES_MAX: usize = 4096;

/// Shorter shared frames are copied. A reference costs up to two entries of 24 B in a queue that
/// doubles, and turns one write into a list of short pieces.
pub const PIECE_SHARED_BYTES_MIN: usize = 64;

/// Minimum and maximum bytes of a block in which shards lease memory for outboxes. A block is 1/32
/// of an equal share, so that all shards together reserve at most 1/32 of the total.
pub const OUTBOXES_BLOCK_BYTES_MIN: usize = 4 * 1024;
/// See [`OUTBOXES_BLOCK_BYTES_MIN`].
pub const OUTBOXES_BLOCK_BYTES_MAX: usize = 1024 * 1024;

/// Divisor of a shard's equal share of a limit of the node: a block that a shard takes is at most
/// this part. So a shard that needs little withholds little from the others.
pub const BLOCK_SHARE: usize = 32;

/// Maximum bytes of the publications of one channel that are delivered together, unless a single
/// one is larger. One write may leave this number of bytes in an outbox that was empty.
pub const SEGMENT_BYTES_MAX: usize = 256 * 1024;

/// Maximum time during which the server does not read from a client, because the client waits for a
/// reply or has not read its replies. A client that reads at least [`READING_OUTBOX_BYTES_MAX`] in
/// this time stays connected.
pub const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Factor by which `outbox_bytes_max` may be exceeded while a socket still accepts bytes. A burst
/// is longer than one write, and its receiver is not slow yet.
pub const OUTBOX_UNBLOCKED_FACTOR: usize = 4;

/// Divisor of an outbox's limit. A client that skips publications receives them again when its
/// outbox is below that. Otherwise each one that happens to fit would have a gap before it.
pub const OUTBOX_SKIP_SHARE: usize = 2;

/// Maximum bytes from outboxes in one batch of sends. The kernel copies them in half a millisecond.
pub const SWEEP_OUTBOX_BYTES_MAX: usize = 1024 * 1024;

/// Maximum number of messages in one batch from one thread to another.
pub const BATCH_MESSAGES_MAX: usize = 1024;

/// Maximum number of batches in an inbox.
pub const INBOX_BATCHES_MAX: usize = 1024;

/// Maximum bytes of publications that a sender keeps for a thread whose inbox is full. Beyond it,
/// they become one gap notice per channel.
pub const SPILL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Fixed charge for a publication or a piece of an outbox in addition to its bytes, so that a flood
/// of empty ones is limited as well.
pub const ENTRY_OVERHEAD_BYTES: usize = 64;

/// Maximum number of header lines of a request. A browser with cookies sends about 20. The text of
/// `Refusal::TooManyHeaders` has this number.
pub const HANDSHAKE_HEADERS_MAX: usize = 64;

/// Bytes of a `Host` or `Origin` that a refusal shows. A name has at most 253.
pub const REFUSED_VALUE_BYTES_MAX: usize = 253;

/// Maximum number of receives for a request head, because one byte at a time is an attack.
pub const HANDSHAKE_RECEIVES_MAX: u8 = 32;

/// Maximum payload of a control frame in bytes. A longer one closes with 1002. Source: RFC 6455
/// §5.5.
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Maximum length of the reason in a close frame: the payload without the code. RFC 6455 §5.5.1.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// Maximum length of a channel name that any setting allows.
pub const CHANNEL_BYTES_MAX: usize = 255;

/// Timeout of a plain WebSocket upgrade that waits for the channels of its URL.
/// After that, the response is a 503. Browsers and proxies wait much longer.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of channels of one connection that any setting allows.
pub const CONNECTION_CHANNELS_MAX: usize = 1024;

/// Maximum nesting of arrays and objects in a JSON payload. Browsers and application servers parse
/// recursively and fail somewhere above 500.
pub const JSON_DEPTH_MAX: usize = 128;

/// Maximum number of publications that one recovery returns. A client that missed more is not
/// recovered. Source: Centrifugo's `client.recovery_max_publication_limit`.
pub const RECOVERY_PUBLICATIONS_MAX: usize = 300;

/// Maximum bytes, as JSON, of one recovery or one page of history. One reply is one frame, and
/// older Python SDKs drop the connection above 1 MiB.
pub const RECOVERY_BYTES_MAX: usize = 768 * 1024;

/// Maximum number of publications in one reply to `history` of a client. Source: Centrifugo.
pub const HISTORY_PAGE_MAX: usize = 300;

/// Timeout of a closing connection for the peer's close frame or end of stream.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same timeout for a peer that seems to be dead.
pub const CLOSE_DEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum time to wait for the answer of another thread.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum bytes of an idempotency key. A UUID has 36.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// Minimum time between two renderings of the page of metrics. Other scrapes get the last page,
/// because rendering delays requests of the API.
pub const METRICS_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of descriptors that a scrape counts one by one, as kernels before 6.2 need.
pub const DESCRIPTORS_COUNTED_MAX: usize = 65_536;

/// Length of an interval for which a shard keeps the percentiles of the delivery time.
pub const DELIVERY_INTERVAL: Duration = Duration::from_secs(10);

/// Number of intervals that are kept: 5 min. An interval costs 10 KiB, so the node keeps 300 KiB,
/// and each shard has one more.
pub const DELIVERY_INTERVALS_MAX: usize = 30;

/// Longest delivery time that the percentiles distinguish, in microseconds: a minute.
pub const DELIVERY_MICROS_MAX: u64 = 60_000_000;

/// Number of decimal digits of a percentile that are exact. Each further digit costs eight times
/// the memory.
pub const DELIVERY_DIGITS: u8 = 2;

/// Maximum bytes of the page of metrics. 4096 shards need 3 MB.
pub const METRICS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Time without progress of a thread after which the node counts as dead.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// Lifetime of a channel's position after its last publication has expired and its last subscriber
/// has left. After that it begins a new epoch.
pub const CHANNEL_META_TTL: Duration = Duration::from_secs(3600);

/// Maximum number of publications of one channel that are removed by expiry when it is used. The
/// others are removed as part of [`FORGOTTEN_PER_TURN`].
pub const EXPIRED_PER_USE: usize = 64;

/// Maximum number of expired publications and positions that are removed in one turn, which costs
/// about 1 ms. While there are more, the shard does not sleep.
pub const FORGOTTEN_PER_TURN: usize = 1024;

/// Lifetime of an idempotency key. Source: Centrifugo.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(300);

/// Number of slots that one audit step compares with their descriptors and subscriptions.
pub const AUDIT_SLOTS_MAX: usize = 4096;

/// Number of seconds without a break in which a client may exceed its rates of frames or pings. In
/// each it is not read until the second is over, so it costs no more than a client that keeps its
/// rates. One that goes on for longer is broken or hostile, and is closed.
pub const EXCESS_SECONDS_MAX: usize = 5;

/// Time between two audit steps.
pub const AUDIT_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum number of channels or connections that a long walk (listing, closing by user) visits in
/// one turn.
pub const WALK_STEPS_MAX: usize = 4096;

/// Maximum number of losses of the bus about which a home has not told all its channels. Beyond it,
/// all channels are told about the oldest one immediately. A node has 8 streams, and each has at
/// most one loss per second.
pub const LOSSES_MAX: usize = 128;

/// Maximum number of concurrent long walks on one shard. Further ones are refused.
pub const WALKS_MAX: usize = 64;

/// Size of the stack of a shard's thread, a quarter of the default. Nothing in a shard recurses
/// without a bound.
pub const SHARD_STACK_BYTES: usize = 512 * 1024;

/// Number of entries of the ring of a shard's runtime, which awaits at most two descriptors.
pub const RUNTIME_RING_ENTRIES: u32 = 256;

/// Divisor of `server.drain` for the time between the last close and the end of the last
/// connections.
pub const DRAIN_LINGER_SHARE: u32 = 4;

/// Maximum drain after SIGINT, because a user at a terminal waits for the end.
pub const INTERRUPT_DRAIN: Duration = Duration::from_millis(800);

/// Timeout of a starting server for an address that another server may still be using.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// Time between two attempts to claim such an address.
pub const PROBE_PAUSE: Duration = Duration::from_millis(20);

/// Interval at which control checks again whether a full inbox has room, and at which a task of the
/// bridge checks again whether its condition is met.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Number of descriptors of a shard's table that are not for clients: stdio, wakes, rings, the
/// listener.
pub const DESCRIPTORS_RESERVED: usize = 256;

/// Number of rows of the table of client subnets, 16 B each. If more subnets are connected, some
/// share a row and its limits. They are so few that limits with room for all customers of a mobile
/// network also have room for them.
pub const SUBNETS_MAX: usize = 65_536;

/// Maximum number of connections that a shard leases at once from `max_connections`. It leases
/// fewer if there are few, so that no shard holds back connections that another one needs.
pub const LEASE_CONNECTIONS_MAX: usize = 64;

/// Maximum number of accepted clients of one shard that wait because of `accept_rate`, about 20 B
/// and a socket each. It is never more than the rate admits within a second. Beyond it, the last
/// client of the subnet with the most waiting clients gets 503.
pub const ACCEPT_WAITING_MAX: usize = 4096;

/// Maximum number of clients on this host that wait in this way. The others stay in the kernel's
/// queue.
pub const ACCEPT_WAITING_EXEMPT_MAX: usize = 64;

/// Maximum number of waiting sockets whose proxies have not named a client yet. The others stay in
/// the kernel's queue, until the oldest of these has had its time.
pub const ACCEPT_UNNAMED_MAX: usize = 64;

/// Time that a proxy has to name its client while others wait. It sends the name in its first
/// bytes, which are rarely later than the connection by more than a few milliseconds.
pub const ACCEPT_UNNAMED_TIME: Duration = Duration::from_millis(20);

/// Time between two looks at waiting sockets whose proxies have not named a client yet. There are
/// at most [`ACCEPT_UNNAMED_MAX`] of them, and a look at one costs about 1 µs.
pub const ACCEPT_LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Maximum number of sockets per second that one shard takes from the kernel's queue, admitted or
/// not. It is higher than the rate, because sockets that are reset or refused must not delay
/// others. Each costs about 5 µs here, and about 5 µs in the kernel before.
pub const ACCEPT_TAKES_PER_SECOND: u32 = 40_000;

/// Maximum number of networks in `server.proxies`. Each new connection is compared with all of
/// them, which costs a nanosecond for each. Large content networks publish about 20.
pub const PROXIES_MAX: usize = 256;

/// Maximum bytes of a header of the PROXY protocol, version 1. Source: haproxy
/// `doc/proxy-protocol.txt` §2.1.
pub const PROXY_LINE_BYTES_MAX: usize = 107;

/// Maximum bytes of a header of the PROXY protocol, version 2. The addresses need 52; the rest is
/// for fields such as the names in a certificate, which are skipped. nginx has the same limit.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// Maximum number of proxies between a client and this server that `X-Forwarded-For` or `Forwarded`
/// may name. Beyond it, the client counts as unknown.
pub const FORWARDED_HOPS_MAX: usize = 32;

/// Factor between the channels that one subnet may have, or create per second, and those that are
/// left for all others. A single subnet gets at most eight ninths of all, so that others find room.
pub const SUBNET_CHANNELS_FACTOR: usize = 8;

/// Maximum number of channels that a shard leases at once from `channels_max`.
pub const LEASE_CHANNELS_MAX: usize = 256;

/// Maximum bytes that a shard leases at once from `idempotency_bytes_max`.
pub const LEASE_IDEMPOTENCY_BYTES_MAX: usize = 64 * 1024;

/// First and maximum pause after an accept that failed for lack of descriptors.
pub const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// See [`ACCEPT_PAUSE_MIN`].
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Maximum number of clients that get 503 before each such pause. The others wait.
pub const PAUSE_REFUSALS_MAX: usize = 64;

/// Maximum number of connections in the kernel's accept queue. The kernel uses the smaller of this
/// and `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 65_535;

/// Maximum bytes of the path of a Unix socket. Source: unix(7), which has 108 with the final zero.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// Kernel send buffer of a client socket. With it, a client that does not read uses 100 KB of
/// kernel memory instead of 4.3 MB with autotuning.
pub const SOCKET_SEND_BYTES: usize = 64 * 1024;

/// Maximum memory of the server for an idle connection with one channel; `perf/memory` measures 88
/// B. `doctor` uses this value.
pub const CONNECTION_BYTES_MAX: usize = 256;

/// Kernel memory of an idle client socket with its poll. `doctor` uses this value;
/// `kernel-tuning/README.md` explains how it was measured.
pub const CONNECTION_KERNEL_BYTES: usize = 4096;

/// Unsent bytes above which a socket accepts no more, so that further bytes wait in the outbox,
/// where they are counted.
pub const SOCKET_UNSENT_BYTES: u32 = 16 * 1024;

/// Minimum time over which the busy share of a shard is computed, in nanoseconds. Otherwise two
/// concurrent scrapers would reduce it to microseconds.
pub const BUSY_WINDOW_NANOS: u64 = 1_000_000_000;

/// Number of permanent failures of the ring in a row after which the shard ends.
pub const RING_FAILURES_MAX: u32 = 16;

/// Timeout for the creation of a ring while the kernel lacks memory for it. The lack is often
/// short: while the kernel writes out cached files, or before it has freed the ring of a process
/// that has ended.
pub const RING_CREATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two attempts to create a ring.
pub const RING_CREATION_PAUSE: Duration = Duration::from_millis(50);

/// Maximum duration of temporary failures of the ring: no memory, or too many completions.
pub const RING_PATIENCE: Duration = Duration::from_secs(10);

/// Maximum number of events taken from the kernel in one call.
pub const EPOLL_EVENTS_MAX: usize = 1024;

/// Share of the burst of accepts below which the rate counts as scarce.
pub const ACCEPT_SCARCE_SHARE: f64 = 0.25;

/// Number of rows in one bucket of the table of client subnets.
pub const SUBNETS_BUCKET: usize = 8;

/// Duration for which `/ready` shows that a client was refused.
pub const REFUSAL_SHOWS: Duration = Duration::from_secs(1);

/// Bytes of a shared or long piece of an outbox above which it is sent without copying. Shorter
/// ones are copied together.
pub const COPY_BYTES_MAX: usize = 16 * 1024;

/// Minimum number of slots whose deadlines one tick checks: 256 KiB, about 30 µs.
pub const TICK_SLOTS: usize = 65_536;

/// Maximum number of ticks for a round over all deadlines, so that a deadline is late by at most a
/// second.
pub const ROUND_TICKS_MAX: usize = 10;

/// Duration of a turn above which it counts as a stall, because all clients of the shard waited.
pub const TURN_STALL: Duration = Duration::from_millis(10);

/// Duration of a turn above which a log line tells of the stall, at most one per second.
pub const TURN_STALL_LOGGED: Duration = Duration::from_millis(100);

/// Number of entries in the order of kept publications that are checked for each publication that
/// is added or removed.
pub const SIFTED_FOR_EACH: usize = 4;

/// Number of entries of that order, beyond twice the number of valid ones, at which a pass over all
/// entries begins.
pub const SIFT_SLACK: usize = 1024;

/// Number of entries in the order of unfinished inputs, beyond twice the number of valid ones, at
/// which the stale ones are removed.
pub const INBOUND_SLACK: usize = 1024;

/// Divisor of the bytes for histories. If positions of unused channels have more than that, they
/// are removed before publications.
pub const IDLE_POSITIONS_SHARE: usize = 4;

/// Bytes charged for a channel that is kept for its position, in addition to its name.
pub const CHANNEL_POSITION_BYTES: usize = 256;

/// Number of buckets of epochs of one shard, 4 B each. One in 65,536 removals of channels with
/// publications affects a given name. The buckets are allocated at the first removal.
pub const EPOCH_BUCKETS: usize = 1 << 16;

/// Time after which a client may return to a server that is full or drains. It is short, because a
/// load balancer sends the client to another server anyway.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// Interval at which main checks, while it waits for signals, whether another thread has started or
/// ended.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Codes with which an application may close. Source: RFC 6455 §7.4.2 reserves 3000-4999 for them.
pub const DISCONNECT_CODES: std::ops::RangeInclusive<u16> = 3000..=4999;

const _: () = assert!(NODE_LEASE.as_secs() > 3 * NODE_RENEWAL.as_secs(), "two renewals may fail");
const _: () = assert!(SWEEP_SENDS_MAX <= RING_ENTRIES as usize, "a batch must fit into the ring");
const _: () = assert!(RING_ENTRIES <= RING_COMPLETIONS, "completions must outnumber submissions");
const _: () =
    assert!(GATHER_BYTES_MAX <= SWEEP_OUTBOX_BYTES_MAX, "one write must fit into a batch");
const _: () = assert!(GATHER_BYTES_MAX <= SOCKET_SEND_BYTES, "a socket accepts one whole write");
const _: () =
    assert!(REPLAY_BURST_BYTES / 1024 <= u16::MAX as usize / 4, "a debt must fit into 16 bits");
const _: () = assert!(LOSSES_MAX < u8::MAX as usize, "a channel numbers losses with one byte");
const _: () =
    assert!(REPLAYS_BATCHES_MAX < INBOX_BATCHES_MAX, "an inbox must have room for other batches");
const _: () = assert!(RECOVERY_BYTES_MAX < 1024 * 1024, "a recovery must fit into a frame of SDKs");
const _: () =
    assert!(HISTORY_PAGE_MAX <= RECOVERY_PUBLICATIONS_MAX, "a page must not exceed a recovery");
const _: () = assert!(
    BUS_BLOCK.as_millis() + INGEST_RENEW_INTERVAL.as_millis() < INGEST_LEASE.as_millis(),
    "a lease must be renewed during a blocking read"
);
const _: () = assert!(
    BUS_PUBLISH_DEADLINE.as_millis() < ANSWER_TIMEOUT.as_millis(),
    "publishers must get the result before they stop waiting"
);
