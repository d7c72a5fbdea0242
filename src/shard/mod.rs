//! One core: its connections, the channels it orders, the channels it delivers.
//!
//! All logic is plain functions on [`Shard`], which owns its state alone. The kernel is behind
//! [`Sockets`], other threads are behind [`Outbound`] and [`Inbox`], and time is what `Sockets`
//! says, so whole nodes run in one thread under a simulated clock and network. [`Shard::turn`] is
//! the only entrance after start-up besides [`Shard::on_accept`].

mod control;
mod delivery;
mod identity;
mod options;
mod session;
mod turn;

pub use delivery::OutboxLeases;
pub use identity::Identity;
pub use options::{Options, Pools};
pub use session::is_parsing;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::channel::ChannelName;
use crate::collections::Bitmap;
use crate::connection::Slots;
use crate::home::{self, Home};
use crate::ids::{ConnectionId, Moment, ShardId, Slot, Tick};
use crate::kernel::{ConnectionKey, Ready, Socket, Sockets};
use crate::limits::{GAPS_TOLD_PER_TICK, LEASE_CONNECTIONS_MAX, RECEIVE_BYTES_MAX};
use crate::mesh::{HomeMap, Inbox, Outbound, Post, ShardMail, ToShard};
use crate::metrics::ShardCounters;
use crate::readiness::Readiness;
use crate::subnets::{Subnet, Subnets};
use control::{Audit, Requests};
use delivery::{Budget, Locals, Retries, Sweep};
use session::{Creating, GapNotice, Joining, Owing, Reporting, Unfinished};

/// What a shard is made of.
pub struct Parts<S> {
    /// Its number.
    pub id: ShardId,
    /// Its settings.
    pub options: Options,
    /// Its kernel.
    pub sockets: S,
    /// What others send it.
    pub inbox: Inbox<ShardMail>,
    /// The ways to other threads. Its own is not used.
    pub outbound: Outbound,
    /// What it shares with other shards.
    pub pools: Pools,
    /// Which shard orders which channel.
    pub home_map: HomeMap,
    /// How connections are named.
    pub identity: Identity,
    /// Where it counts.
    pub counters: Arc<ShardCounters>,
    /// Where all shards of the node count what clients of one subnet use.
    pub subnets: Arc<Subnets>,
    /// Whether the node takes clients.
    pub readiness: Arc<Readiness>,
    /// Memory for the node's outboxes.
    pub outboxes: OutboxLeases,
    /// A number that differs between shards and processes, for epochs and jitter.
    pub seed: u64,
}

/// One core's state.
pub struct Shard<S> {
    id: ShardId,
    options: Options,
    io: S,
    inbox: Inbox<ShardMail>,
    post: Post,
    home_map: HomeMap,
    identity: Identity,
    counters: Arc<ShardCounters>,
    subnets: Arc<Subnets>,
    readiness: Arc<Readiness>,
    random: u64,
    now: Moment,
    tick: Tick,
    slots: Slots,
    locals: Locals,
    home: Home,
    creating: Creating,
    /// Channels that have gathered publications in this turn.
    unsealed: Vec<u32>,
    /// Channels that hold segments.
    channels_with_segments: Vec<u32>,
    /// Connections with something to send.
    dirty: Bitmap,
    sweep: Sweep,
    retries: Retries,
    /// Connections with something to read.
    readable: VecDeque<ConnectionKey>,
    unfinished: Unfinished,
    budget: Budget,
    owing: Owing,
    /// Bytes for single clients that this turn has made.
    replied_bytes: usize,
    /// What the next answer is encoded in; empty between two.
    reply_buffer: Vec<u8>,
    requests: Requests,
    server_subscribe: Joining,
    reporting: Reporting,
    /// Subscribers that have missed something and are still to be told, for a protocol in which
    /// they come back when they are, or for which it is still to be asked.
    gap_notices_due: VecDeque<(ConnectionKey, ChannelName, GapNotice)>,
    /// How many more may be told in this tick.
    gaps_allowed: usize,
    buffer: Vec<u8>,
    events: Vec<Ready>,
    /// The part of the slots that the last tick's sweep of deadlines looked at.
    heartbeat_phase: usize,
    audit: Audit,
    draining: bool,
    /// When no closing connection may linger any longer.
    last_end: Tick,
}

impl<S: Sockets> Shard<S> {
    /// A shard without connections.
    pub fn new(parts: Parts<S>) -> Shard<S> {
        let (options, pools) = (&parts.options, parts.pools);
        let creating = Creating::new(options, &pools);
        let home = Home::new(home::Parts {
            settings: Arc::clone(&options.settings),
            history_bytes_max: options.history_bytes_max,
            channels: pools.channels,
            idempotency: pools.idempotency,
            counters: Arc::clone(&parts.counters),
            seed: parts.seed,
        });
        let now = parts.sockets.now();
        Shard {
            id: parts.id,
            home,
            creating,
            io: parts.sockets,
            inbox: parts.inbox,
            post: Post::new(parts.id, parts.outbound),
            home_map: parts.home_map,
            identity: parts.identity,
            counters: parts.counters,
            subnets: parts.subnets,
            readiness: parts.readiness,
            random: parts.seed | 1,
            now,
            tick: now.tick(),
            slots: Slots::default(),
            locals: Locals::default(),
            unsealed: Vec::new(),
            channels_with_segments: Vec::new(),
            dirty: Bitmap::default(),
            sweep: Sweep::default(),
            retries: Retries::default(),
            readable: VecDeque::new(),
            unfinished: Unfinished::new(parts.options.inbound_bytes_max),
            budget: Budget::new(parts.outboxes),
            owing: Owing::default(),
            replied_bytes: 0,
            reply_buffer: Vec::new(),
            requests: Requests::default(),
            server_subscribe: Joining::default(),
            reporting: Reporting::default(),
            gap_notices_due: VecDeque::new(),
            gaps_allowed: GAPS_TOLD_PER_TICK,
            buffer: vec![0; RECEIVE_BYTES_MAX],
            events: Vec::new(),
            heartbeat_phase: 0,
            audit: Audit::default(),
            draining: false,
            last_end: Tick::NEVER,
            options: parts.options,
        }
    }

    /// Takes an accepted socket of a client from `subnet`. Returns whether it was taken: not if the
    /// shard is full.
    pub fn on_accept(&mut self, socket: Socket, subnet: Subnet) -> bool {
        if self.is_full() {
            return false;
        }
        let deadline = self.tick.after(self.options.client().handshake_timeout);
        let counted = (socket, self.subnets.enter(subnet));
        let key = self.slots.insert(counted, self.tick, deadline);
        self.counters.handshaking.add(1);
        self.io.watch(socket, key);
        true
    }

    /// Whether no more connections fit.
    pub fn is_full(&self) -> bool {
        self.slots.count() >= self.options.connections_max
    }

    /// How many more connections fit.
    pub fn places_left(&self) -> usize {
        self.options.connections_max.saturating_sub(self.slots.count())
    }

    /// Whether a shard that was full has room for more than a few.
    pub fn has_room_again(&self) -> bool {
        self.slots.count() + LEASE_CONNECTIONS_MAX <= self.options.connections_max
            || self.slots.count() == 0
    }

    /// Connections, in whatever state.
    pub fn connections_count(&self) -> usize {
        self.slots.count()
    }

    /// Whether the shard closes its connections and takes no more.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether messages wait for room in another thread's inbox. Each turn tries again, and each
    /// tick brings a turn.
    pub fn is_behind(&self) -> bool {
        self.post.is_behind()
    }

    /// The shard's kernel.
    pub fn sockets(&mut self) -> &mut S {
        &mut self.io
    }

    /// The shard's inbox.
    pub fn inbox(&self) -> &Inbox<ShardMail> {
        &self.inbox
    }

    fn connection_id(&self, key: ConnectionKey) -> ConnectionId {
        ConnectionId { shard: self.id, slot: key.slot, generation: key.generation }
    }

    /// The key of a connection of this shard.
    fn key_of(connection: ConnectionId) -> ConnectionKey {
        ConnectionKey { slot: connection.slot, generation: connection.generation }
    }

    /// Notes that a connection has something to send.
    fn mark_dirty(&mut self, slot: Slot) {
        self.dirty.insert(slot.index());
    }

    /// Carries out one message.
    fn on_mail(&mut self, mail: ShardMail) {
        match mail {
            ShardMail::Home(message) => self.home.on_message(message, &mut self.post),
            ShardMail::Shard(message) => self.on_message(message),
        }
    }

    fn on_message(&mut self, message: ToShard) {
        match message {
            ToShard::Subscribed(answer) => self.on_subscribed(*answer),
            ToShard::Refused { channel, connection, error } => {
                self.on_refused(&channel, Self::key_of(connection), error);
            }
            ToShard::Live { channel, publications } => self.on_live(&channel, publications),
            ToShard::Gap { channel, next, .. } => self.on_gap(&channel, next),
            ToShard::Moved { channel, top } => self.on_moved(&channel, top),
            ToShard::Created { connection } => self.on_created(connection),
            ToShard::Answer { connection, request, pipelined: false, answer } => {
                self.on_answer(Self::key_of(connection), request, answer);
            }
            ToShard::Answer { connection, request, pipelined: true, answer } => {
                self.on_published(Self::key_of(connection), request, &answer);
            }
            ToShard::Control { ticket, request } => self.on_control(ticket, request),
        }
    }

    /// A number that is hard to foresee, for spreading things in time (splitmix64).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
