//! Every bound that is not a setting: what it limits, what it costs, how it was chosen. Settings
//! with their defaults are in `config/default.toml`.

mod bus;
mod commands;
mod servers;
mod settings;

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

/// Most connections one shard serves in one system call of sends. 256 keeps the stack's sending
/// and receiving phases warm; 32 and 1,024 were slower on Linux 6.18 (`perf/limit`).
pub const SWEEP_SENDS_MAX: usize = 256;

/// Maximum number of connections that a shard looks at for one such call. Those that take no bytes
/// at present cost a look and no write, and there may be any number of them. A gap that one is told
/// of counts as another look.
pub const SWEEP_LOOKS_MAX: usize = 1024;

/// Entries of a shard's submission queue: a batch of sends, and as many polls and removals.
pub const RING_ENTRIES: u32 = 512;

/// Entries of a shard's completion queue. Polls complete without being asked for, so it must hold
/// a burst of readable sockets; 16 B each.
pub const RING_COMPLETIONS: u32 = 32_768;

/// Bytes that one receive takes from one socket, in the one buffer that a shard has for it.
pub const RECEIVE_BYTES_MAX: usize = 16 * 1024;

/// Turns that a shard takes before its runtime gets one. The runtime has no other task, and to let
/// it look for one costs a system call.
pub const TURNS_PER_PAUSE: u32 = 64;

/// Most sockets read in one turn; the rest stay on the ready list.
pub const TURN_READS_MAX: usize = 1024;

/// Most batches taken from the inbox in one turn.
pub const TURN_BATCHES_MAX: usize = 64;

/// Messages to itself that a shard carries out in one turn, unless more were there before the first
/// of them: as many as another thread sends in a batch. Each may cause further ones, such as the
/// next command of a client that has its answer; those beyond wait for the next turn.
pub const TURN_LOOPBACK_MAX: usize = BATCH_MESSAGES_MAX;

/// Most sockets accepted in one turn of the accept loop.
pub const TURN_ACCEPTS_MAX: usize = 256;

/// Bytes gathered for one socket in one write, unless a single frame is longer. A client's socket
/// takes 96 KiB at most, and for each byte a write of 64 KiB costs half as much as one of 16 KiB
/// (Linux 6.18, loopback: 0.30 and 0.64 µs for each KiB).
pub const GATHER_BYTES_MAX: usize = 64 * 1024;

/// Bytes in an outbox above which its client's commands wait; never above `outbox_bytes_max`.
/// One write, so a client that reads is never kept waiting by it.
pub const READING_OUTBOX_BYTES_MAX: usize = GATHER_BYTES_MAX;

/// Bytes of answers and events for single clients that are made in one turn; one more client may be
/// served beyond it. They cost about 1 ms to make and to send, for which everybody else waits.
pub const TURN_REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the buffer that a shard keeps for encoding answers in: there is room for one recovery.
pub const REPLY_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// What asking for a channel counts among these bytes: that costs more than it says to its client,
/// who may ask for a thousand in one request.
pub const SUBSCRIBING_REPLY_BYTES: usize = 256;

/// Bytes of publications that a home shard hands out from its histories in one turn; one more
/// recovery or page may go beyond it. What comes then waits for the next turn.
pub const TURN_REPLAY_BYTES_MAX: usize = 256 * 1024;

/// Requests for histories that wait for a later turn of their home shard; one more is answered with
/// error 111. About 200 B each, and a second or two of work; those of who has left are among them.
pub const REPLAYS_WAITING_MAX: usize = 65_536;

/// Bytes of recoveries and of pages of history that one client may have in a tenth of a second, in
/// the long run. A request for one costs its sender 100 B and the server up to 1 ms.
pub const REPLAY_BYTES_PER_TICK: usize = 100 * 1024;

/// How many more of these bytes a client may have at once: one that comes back recovers many
/// channels together. Beyond it the next request waits.
pub const REPLAY_BURST_BYTES: usize = 4 * 1024 * 1024;

/// Frames for one connection that wait are joined to pieces of up to this many bytes.
pub const PIECE_JOIN_BYTES_MAX: usize = 4096;

/// Shared frames that are shorter are copied: a reference to them costs up to two places of 24 B in
/// a queue that doubles, and makes what is sent at once a list of short pieces.
pub const PIECE_SHARED_BYTES_MIN: usize = 64;

/// Bytes of a block in which shards lease memory for outboxes: a 32nd of a shard's even share, so
/// that what all others keep spare is a 32nd of the whole, within these bounds.
pub const OUTBOXES_BLOCK_BYTES_MIN: usize = 4 * 1024;
/// See [`OUTBOXES_BLOCK_BYTES_MIN`].
pub const OUTBOXES_BLOCK_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the publications of one channel that are delivered together, unless a single one has
/// more: what one write may leave behind in an outbox that was empty.
pub const SEGMENT_BYTES_MAX: usize = 256 * 1024;

/// How long a client may go unread because it waits for an answer, or has not read what it was
/// answered. Whoever reads at least [`READING_OUTBOX_BYTES_MAX`] in this time goes on.
pub const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How much more than `outbox_bytes_max` may wait for a socket that still takes bytes: a burst is
/// longer than one write, and its receiver is not slow yet.
pub const OUTBOX_UNBLOCKED_FACTOR: usize = 4;

/// Bytes of the buffer in which one batch of sends is gathered.
pub const CORK_BYTES_MAX: usize = 1024 * 1024;

/// Messages that one thread hands another in one batch.
pub const BATCH_MESSAGES_MAX: usize = 1024;

/// Batches that an inbox holds.
pub const INBOX_BATCHES_MAX: usize = 1024;

/// Bytes of publications that a sender keeps for a thread whose inbox is full. Beyond it they
/// become a gap notice for each channel.
pub const SPILL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Fixed cost charged for a publication or a piece of an outbox beside its bytes, so that a flood
/// of empty ones is bounded as well.
pub const ENTRY_OVERHEAD_BYTES: usize = 64;

/// Bytes of a request head. RFC 9110 has no limit; 8 KiB is what nginx and Apache allow.
pub const HANDSHAKE_BYTES_MAX: usize = 8 * 1024;

/// Header lines of a request. A browser with cookies sends about 20.
pub const HANDSHAKE_HEADERS_MAX: usize = 64;

/// Receives in which a request head must be complete: one byte at a time is an attack.
pub const HANDSHAKE_RECEIVES_MAX: u8 = 32;

/// Longest control-frame payload, in bytes. A longer one closes with 1002. Source: RFC 6455 §5.5.
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Longest reason text of a close frame: the control payload less the code. RFC 6455 §5.5.1.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// Bytes of a channel name that no setting may exceed.
pub const CHANNEL_BYTES_MAX: usize = 255;

/// How long the response to a plain WebSocket upgrade waits for the channels of its path; then it
/// is a 503. Browsers and proxies wait much longer.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(3);

/// Channels of one connection that no setting may exceed.
pub const CONNECTION_CHANNELS_MAX: usize = 1024;

/// Nesting of arrays and objects in a JSON payload. Browsers and application servers parse
/// recursively and fail somewhere above 500.
pub const JSON_DEPTH_MAX: usize = 128;

/// Publications that one recovery may return; more missed means: not recovered. Source:
/// Centrifugo's `client.recovery_max_publication_limit`.
pub const RECOVERY_PUBLICATIONS_MAX: usize = 300;

/// Bytes, as JSON, that one recovery or one page of history may return. One reply is one frame, and
/// older Python SDKs drop the connection above 1 MiB.
pub const RECOVERY_BYTES_MAX: usize = 768 * 1024;

/// Publications in one answer to a client's `history`. Source: Centrifugo.
pub const HISTORY_PAGE_MAX: usize = 300;

/// How long a closing connection may linger for the peer's close frame or end of stream.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the answer to a request that another thread serves, before it is an error.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that the API listener holds, and so requests under way at once, each with a body of
/// up to `api.body_bytes_max` from whoever has a key. At one more, the connection that has been
/// idle for longest goes: whoever only holds connections can't shut others out.
pub const API_CONNECTIONS_MAX: usize = 512;

/// Header lines of a request to the API listener.
pub const API_HEADERS_MAX: usize = 64;

/// Bytes of a request head to the API listener. hyper's buffer can't be smaller than 8 KiB.
pub const API_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Time for a request head to the API listener, once its connection is open or its last answer out.
pub const API_HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that one request to the API may take, its body's arrival included.
pub const API_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection of the API listener lives after its last request began: time enough for
/// every answer, but not for a reader of one byte per second.
pub const API_CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of an API key: keys are compared in buffers of this size.
pub const API_KEY_BYTES_MAX: usize = 256;

/// Requests to shards that control waits for at once, about 200 B each.
pub const API_PENDING_MAX: usize = 65_536;

/// Publications of one broadcast, or commands of one parallel batch, that are under way at once.
pub const API_WINDOW_MAX: usize = 256;

/// Commands of one batch, and channels of one broadcast.
pub const API_BATCH_MAX: usize = 10_000;

/// Channels in one page of the list of channels, unless the request says how many.
pub const API_CHANNELS_PAGE: usize = 1_000;

/// Channels in one page of the list of channels, at most.
pub const API_CHANNELS_PAGE_MAX: usize = 10_000;

/// Publications in one answer to the API's `history`. A reader continues after the last one.
pub const API_HISTORY_MAX: usize = 100_000;

/// Bytes that the publications in one answer to the API's `history` may cost, unless a single one
/// costs more. The answer says how many did not fit.
pub const API_HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of an idempotency key. A UUID has 36.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// Bytes of one page of metrics: 4096 shards with all their lines make 3 MB.
pub const METRICS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a thread may make no progress before the node counts as dead.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a channel keeps its position after its last message expired and its last subscriber
/// left. Later it begins a new epoch.
pub const CHANNEL_META_TTL: Duration = Duration::from_secs(3600);

/// Publications that expire of one channel while it is used. The others go in a turn's share of
/// [`FORGOTTEN_PER_TURN`].
pub const EXPIRED_PER_USE: usize = 64;

/// Publications that expire, and positions that are forgotten, in one turn: about 1 ms. While there
/// are more, turn follows turn.
pub const FORGOTTEN_PER_TURN: usize = 1024;

/// How long a publication's idempotency key is remembered. Source: Centrifugo.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(300);

/// Slots that one audit step compares with their descriptors and subscriptions.
pub const AUDIT_SLOTS_MAX: usize = 4096;

/// Time between two audit steps.
pub const AUDIT_INTERVAL: Duration = Duration::from_secs(30);

/// Channels or connections that a long walk (listing, closing by user) passes in one turn.
pub const WALK_STEPS_MAX: usize = 4096;

/// Long walks that one shard keeps under way; one more is refused.
pub const WALKS_MAX: usize = 64;

/// Entries of the ring of a shard's runtime, which only ever awaits two descriptors.
pub const RUNTIME_RING_ENTRIES: u32 = 256;

/// The part of `server.drain` that is kept for the last connections to end, after the last close.
pub const DRAIN_LINGER_SHARE: u32 = 4;

/// Longest drain after SIGINT: somebody at a terminal waits for the end.
pub const INTERRUPT_DRAIN: Duration = Duration::from_millis(800);

/// How long a starting server waits for an address that another one may be about to give up.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// How often a thread looks again whether it can do what it could not: control, whether an inbox
/// has room; a task of the bridge, whether what it waits for has come.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Descriptors of a shard's table that are not for clients: stdio, wakes, rings, the listener.
pub const DESCRIPTORS_RESERVED: usize = 256;

/// Rows of the table of client subnets, 16 B each. Where more subnets have connections at a time,
/// some of them share a row, and with it the limits for an address: few enough that a limit which
/// leaves room for the customers of a mobile network leaves room for them.
pub const SUBNETS_MAX: usize = 65_536;

/// Most connections that a shard leases at once from the node's `max_connections`: less where
/// they are few, so that no shard sits on what another needs.
pub const LEASE_CONNECTIONS_MAX: usize = 64;

/// Accepted clients of one shard that wait until `accept_rate` lets them in, about 20 B each and
/// their sockets; never more than the rate lets in within a second. At one more, the last one of
/// the subnet of which most wait is answered 503.
pub const ACCEPT_WAITING_MAX: usize = 4096;

/// Clients of this host that wait so; the others stay in the kernel's queue.
pub const ACCEPT_WAITING_EXEMPT_MAX: usize = 64;

/// Sockets that one shard takes from the kernel's queue in a second, let in or not: those that are
/// reset, or of a subnet of which too many wait, must not keep others from getting through. Each
/// costs some 5 µs; the kernel has spent as much on it.
pub const ACCEPT_TAKES_PER_SECOND: u32 = 40_000;

/// A subnet may have so many times as many channels, and create so many times as many in a second,
/// as all others are left on the node: the only one that wants any gets eight ninths of all, and
/// whoever comes beside it finds room.
pub const SUBNET_CHANNELS_FACTOR: usize = 8;

/// Most channels that a shard leases at once from the node's `channels_max`.
pub const LEASE_CHANNELS_MAX: usize = 256;

/// Most bytes that a shard leases at once from the node's `idempotency_bytes_max`.
pub const LEASE_IDEMPOTENCY_BYTES_MAX: usize = 64 * 1024;

/// First and last pause after an accept that failed for want of descriptors.
pub const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// See [`ACCEPT_PAUSE_MIN`].
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Clients that are told 503 before each such pause; the others wait.
pub const PAUSE_REFUSALS_MAX: usize = 64;

/// Connections that the kernel may queue before they are accepted; it takes the smaller of this
/// and `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 65_535;

/// Kernel send buffer of a client socket. With it a client that does not read holds 100 KB of
/// kernel memory rather than the 4.3 MB of autotuning.
pub const SOCKET_SEND_BYTES: usize = 64 * 1024;

/// Most memory of ours for an idle connection with one channel; `perf/memory` measures 81 B. What
/// `doctor` counts with.
pub const CONNECTION_BYTES_MAX: usize = 256;

/// Kernel memory of an idle client socket with its poll. `doctor` counts with it;
/// `kernel-tuning/README.md` says how it was measured.
pub const CONNECTION_KERNEL_BYTES: usize = 4096;

/// Unsent bytes above which a socket takes no more, so that what waits does so in the outbox,
/// where it can be counted.
pub const SOCKET_UNSENT_BYTES: u32 = 16 * 1024;

/// Shortest time over which a shard's busy share is taken, in nanoseconds: two scrapers at once
/// must not make it a share of microseconds.
pub const BUSY_WINDOW_NANOS: u64 = 1_000_000_000;

/// Failures of the ring in a row, for a reason that does not pass by itself, until the shard ends.
pub const RING_FAILURES_MAX: u32 = 16;

/// How long the ring may fail for a reason that passes: no memory, too many completions.
pub const RING_PATIENCE: Duration = Duration::from_secs(10);

/// Events taken from the kernel in one call.
pub const EPOLL_EVENTS_MAX: usize = 1024;

/// The part of a burst of accepts below which it is scarce.
pub const ACCEPT_SCARCE_SHARE: f64 = 0.25;

/// Rows of one bucket of the table of client subnets.
pub const SUBNETS_BUCKET: usize = 8;

/// How long `/ready` shows that a client was refused.
pub const REFUSAL_SHOWS: Duration = Duration::from_secs(1);

/// Bytes of a shared piece of an outbox above which it is sent as it is; shorter ones are gathered.
pub const COPY_BYTES_MAX: usize = 16 * 1024;

/// Slots whose deadlines one tick looks at, at least: 256 KiB, about 30 µs.
pub const TICK_SLOTS: usize = 65_536;

/// Most ticks that a round over all deadlines takes: a deadline is missed by a second at most.
pub const ROUND_TICKS_MAX: usize = 10;

/// A turn that takes longer than this is a stall: everybody on the shard waited.
pub const TURN_STALL: Duration = Duration::from_millis(10);

/// Entries of the order of kept publications that are looked at for each one that comes or goes.
pub const SIFTED_FOR_EACH: usize = 4;

/// Entries of that order that may be there besides twice those that are of use, before a pass over
/// all begins.
pub const SIFT_SLACK: usize = 1024;

/// What a channel is charged with that is kept for its position, beside its name.
pub const CHANNEL_POSITION_BYTES: usize = 256;

/// Buckets of epochs of one shard: of 65,536 channels that are forgotten with publications, one at
/// a time, one concerns a given name. 4 B each, and none before the first is forgotten.
pub const EPOCH_BUCKETS: usize = 1 << 16;

/// When a client may come back to a server that is full or drains. Short: with several servers
/// the balancer sends it to another one anyway.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// How often main looks, while it waits for signals, whether another thread has come to its end or
/// has begun.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Codes that an application may close with. Source: RFC 6455 §7.4.2 leaves 3000-4999.
pub const DISCONNECT_CODES: std::ops::RangeInclusive<u16> = 3000..=4999;

const _: () = assert!(NODE_LEASE.as_secs() > 3 * NODE_RENEWAL.as_secs(), "two may be lost");
const _: () = assert!(SWEEP_SENDS_MAX <= RING_ENTRIES as usize, "a batch must fit the ring");
const _: () = assert!(RING_ENTRIES <= RING_COMPLETIONS, "completions must outnumber submissions");
const _: () = assert!(GATHER_BYTES_MAX <= CORK_BYTES_MAX, "one write must fit the cork");
const _: () = assert!(GATHER_BYTES_MAX <= SOCKET_SEND_BYTES, "a socket takes one write whole");
const _: () =
    assert!(REPLAY_BURST_BYTES / 1024 <= u16::MAX as usize / 4, "a debt is kept in 16 bits");
const _: () = assert!(RECOVERY_BYTES_MAX < 1024 * 1024, "a recovery reply must fit an SDK's frame");
const _: () = assert!(HISTORY_PAGE_MAX <= RECOVERY_PUBLICATIONS_MAX, "pages and recoveries alike");
const _: () = assert!(
    BUS_BLOCK.as_millis() + INGEST_RENEW_INTERVAL.as_millis() < INGEST_LEASE.as_millis(),
    "a lease is renewed though nothing is to be read"
);
const _: () = assert!(
    BUS_PUBLISH_DEADLINE.as_millis() < ANSWER_TIMEOUT.as_millis(),
    "publishers are told what became of it before they stop to wait"
);
