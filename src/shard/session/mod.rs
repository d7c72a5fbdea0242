//! Sessions: from a client's bytes to commands and answers, and from its first byte to its last.
//!
//! [`Sessions`] owns the connections of a shard and its kernel. It decides; [`Delivery`] carries
//! publications and answers to sockets, and home shards keep the channels.

mod audit;
mod closing;
mod commands;
mod creating;
mod gaps;
mod heartbeat;
mod inbound;
mod input;
mod missed;
mod parking;
mod reporting;
mod sending;
mod server_subscribe;
mod subscribing;
mod upgrading;

pub use closing::Farewell;
pub use input::is_parsing;

use std::sync::Arc;

use crate::connection::Slots;
use crate::ids::{ConnectionId, Moment, ShardId, Slot, Tick};
use crate::kernel::{ConnectionKey, Ready, Socket, Sockets};
use crate::limits::{LEASE_CONNECTIONS_MAX, TURN_READS_MAX, TURN_REPLY_BYTES_MAX};
use crate::mesh::{HomeMap, Post, ToShard};
use crate::metrics::ShardCounters;
use crate::readiness::Readiness;
use crate::shard::delivery::Delivery;
use crate::shard::identity::Identity;
use crate::shard::options::Options;
use crate::shard::parts::Parts;
use crate::subnets::{Subnet, Subnets};
use closing::Ending;
use creating::Creating;
use gaps::Gaps;
use input::Input;
use reporting::Reporting;
use server_subscribe::Joining;

/// The connections of a shard.
pub struct Sessions<S> {
    id: ShardId,
    options: Options,
    home_map: HomeMap,
    identity: Identity,
    counters: Arc<ShardCounters>,
    subnets: Arc<Subnets>,
    readiness: Arc<Readiness>,
    io: S,
    post: Post,
    now: Moment,
    tick: Tick,
    random: u64,
    slots: Slots,
    delivery: Delivery,
    input: Input,
    creating: Creating,
    server_subscribe: Joining,
    gaps: Gaps,
    reporting: Reporting,
    /// The part of the slots that the last tick's sweep of deadlines looked at.
    heartbeat_phase: usize,
    ending: Ending,
}

impl<S: Sockets> Sessions<S> {
    /// A shard's sessions: none yet.
    pub fn new(parts: Parts<S>) -> Sessions<S> {
        let options = parts.options;
        let now = parts.sockets.now();
        let bytes_max = options.client().outbox_bytes_max;
        let delivery = Delivery::new(Arc::clone(&parts.counters), parts.outboxes, bytes_max);
        Sessions {
            id: parts.id,
            home_map: parts.home_map,
            identity: parts.identity,
            counters: parts.counters,
            subnets: parts.subnets,
            readiness: parts.readiness,
            io: parts.sockets,
            post: Post::new(parts.id, parts.outbound),
            now,
            tick: now.tick(),
            random: parts.seed | 1,
            slots: Slots::default(),
            delivery,
            input: Input::new(options.inbound_bytes_max),
            creating: Creating::new(&options, &parts.pools),
            server_subscribe: Joining::default(),
            gaps: Gaps::new(),
            reporting: Reporting::default(),
            heartbeat_phase: 0,
            ending: Ending::default(),
            options,
        }
    }

    /// Takes an accepted socket of a client from `subnet`. Returns whether it was taken: not if the
    /// shard is full.
    pub fn on_accept(&mut self, socket: Socket, subnet: Subnet) -> bool {
        if self.is_full() {
            return false;
        }
        let deadline = self.tick.after(self.options.client().handshake_timeout);
        let subnet = self.subnets.enter(subnet);
        let key = self.slots.insert(socket, subnet, self.tick, deadline);
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
    pub fn count(&self) -> usize {
        self.slots.count()
    }

    /// Slots that have ever been used: every connection's number is below this.
    pub fn slots_reached(&self) -> usize {
        self.slots.reached()
    }

    /// The key of the slot's tenant.
    pub fn key(&mut self, slot: Slot) -> Option<ConnectionKey> {
        self.slots.key(slot)
    }

    /// The channels with subscribers, and all that is on its way to clients.
    pub fn delivery(&mut self) -> &mut Delivery {
        &mut self.delivery
    }

    /// The ways to other threads, and to the shard itself.
    pub fn post(&mut self) -> &mut Post {
        &mut self.post
    }

    /// The shard's kernel.
    pub fn sockets(&mut self) -> &mut S {
        &mut self.io
    }

    /// The present turn's moment.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The present turn's tick.
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// Begins a turn. Returns its moment.
    pub fn begin_turn(&mut self) -> Moment {
        self.now = self.io.now();
        self.tick = self.now.tick();
        self.delivery.begin_turn();
        self.now
    }

    /// Carries out the news of sockets; `events` is empty before and after.
    pub fn turn_events(&mut self, events: &mut Vec<Ready>) {
        self.io.poll(events);
        for ready in events.drain(..) {
            self.on_ready(ready);
        }
    }

    /// Reads from those that are listed.
    pub fn turn_reads(&mut self) {
        // Those that become readable meanwhile come after the others, in the next turn.
        for _ in 0..self.input.readable.len().min(TURN_READS_MAX) {
            if self.delivery.replied_bytes() >= TURN_REPLY_BYTES_MAX {
                return;
            }
            if let Some(key) = self.input.readable.pop_front() {
                self.on_listed(key);
            }
        }
    }

    /// Whether messages wait for room in another thread's inbox.
    pub fn is_behind(&self) -> bool {
        self.post.is_behind()
    }

    /// Whether there is more to do at once.
    pub fn has_more(&self) -> bool {
        self.delivery.has_more() || !self.input.readable.is_empty() || self.post.loopback_len() > 0
    }

    /// Carries out a message about clients or channels with subscribers here. Requests of control
    /// are not among them.
    pub fn on_message(&mut self, message: ToShard) {
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
            ToShard::Control { .. } => unreachable!("control's requests are the shard's"),
        }
    }

    /// The id of a connection of this shard.
    pub fn connection_id(&self, key: ConnectionKey) -> ConnectionId {
        ConnectionId { shard: self.id, slot: key.slot, generation: key.generation }
    }

    /// The key of a connection of this shard.
    pub fn key_of(connection: ConnectionId) -> ConnectionKey {
        ConnectionKey { slot: connection.slot, generation: connection.generation }
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
