//! Sessions: from a client's bytes to commands and answers, and from its first byte to its last.
//!
//! [`Clients`] are the connections of a shard and its kernel, and [`Homes`] what is asked of the
//! shards that keep channels. Everything that is done for a client is a function of these, in a
//! file that uses only files above it in the list below. [`Sessions`] is the entrance.

// What there is, each with one owner.
mod clock;
mod ending;
mod events;
mod inbound;
mod joining;
mod notices;
mod clients;
mod creating;
mod homes;
// What is done to one connection.
mod reporting;
mod subscriptions;
mod closing;
mod replying;
mod pushing;
mod heartbeat;
mod audit;
// What clients ask for, and what is asked for them.
mod upgrading;
mod subscribing;
mod publishing;
mod commands;
mod server_subscribe;
mod missed;
mod gaps;
// From bytes to requests, from answers to bytes.
mod frames;
mod parking;
mod heads;
mod reading;
mod answers;
mod sending;

pub use ending::Farewell;
pub use frames::is_parsing;
pub use server_subscribe::Join;

use std::time::Duration;

use crate::channel::ChannelName;
use crate::connection::State;
use crate::home::Home;
use crate::ids::{ConnectionId, Moment, Slot, Tick};
use crate::kernel::{ConnectionKey, Ready, Socket, Sockets};
use crate::limits::{LEASE_CONNECTIONS_MAX, TURN_READS_MAX, TURN_REPLY_BYTES_MAX};
use crate::mesh::{Post, Ticket, ToShard};
use crate::reason::CloseReason;
use crate::shard::delivery::Delivery;
use crate::shard::parts::Parts;
use crate::subnets::Subnet;
use clients::Clients;
use creating::Creating;
use heartbeat::Heartbeat;
use homes::Homes;

/// The sessions of a shard's clients.
pub struct Sessions<S> {
    clients: Clients<S>,
    homes: Homes,
    heartbeat: Heartbeat,
}

impl<S: Sockets> Sessions<S> {
    /// A shard's sessions: none yet.
    pub fn new(parts: Parts<S>) -> Sessions<S> {
        let creating = Creating::new(&parts.options, &parts.pools);
        let homes = Homes::new(parts.home_map.clone(), creating);
        Sessions { clients: Clients::new(parts), homes, heartbeat: Heartbeat::default() }
    }

    /// Takes an accepted socket of a client from `subnet`. Returns whether it was taken: not if the
    /// shard is full.
    pub fn on_accept(&mut self, socket: Socket, subnet: Subnet) -> bool {
        if self.is_full() {
            return false;
        }
        let clients = &mut self.clients;
        let tick = clients.clock.tick();
        let deadline = tick.after(clients.options.client().handshake_timeout);
        let subnet = clients.subnets.enter(subnet);
        let key = clients.slots.insert(socket, subnet, tick, deadline);
        clients.counters.handshaking.add(1);
        clients.io.watch(socket, key);
        true
    }

    /// Whether no more connections fit.
    pub fn is_full(&self) -> bool {
        self.clients.slots.count() >= self.clients.options.connections_max
    }

    /// How many more connections fit.
    pub fn places_left(&self) -> usize {
        self.clients.options.connections_max.saturating_sub(self.clients.slots.count())
    }

    /// Whether a shard that was full has room for more than a few.
    pub fn has_room_again(&self) -> bool {
        self.clients.slots.count() + LEASE_CONNECTIONS_MAX <= self.clients.options.connections_max
            || self.clients.slots.count() == 0
    }

    /// Connections, in whatever state.
    pub fn count(&self) -> usize {
        self.clients.slots.count()
    }

    /// Slots that have ever been used: every connection's number is below this.
    pub fn slots_reached(&self) -> usize {
        self.clients.slots.reached()
    }

    /// The key of the slot's tenant.
    pub fn key(&mut self, slot: Slot) -> Option<ConnectionKey> {
        self.clients.slots.key(slot)
    }

    /// The channels with subscribers, and all that is on its way to clients.
    pub fn delivery(&mut self) -> &mut Delivery {
        &mut self.clients.delivery
    }

    /// The ways to other threads, and to the shard itself.
    pub fn post(&mut self) -> &mut Post {
        &mut self.clients.post
    }

    /// The shard's kernel.
    pub fn sockets(&mut self) -> &mut S {
        &mut self.clients.io
    }

    /// The present turn's moment.
    pub fn now(&self) -> Moment {
        self.clients.clock.now()
    }

    /// The present turn's tick.
    pub fn tick(&self) -> Tick {
        self.clients.clock.tick()
    }

    /// Begins a turn. Returns its moment.
    pub fn begin_turn(&mut self) -> Moment {
        let now = self.clients.io.now();
        self.clients.clock.begin_turn(now);
        self.clients.delivery.begin_turn();
        now
    }

    /// Carries out the news of sockets; `events` is empty before and after.
    pub fn turn_events(&mut self, events: &mut Vec<Ready>) {
        self.clients.io.poll(events);
        for ready in events.drain(..) {
            reading::on_ready(&mut self.clients, ready);
        }
    }

    /// Reads from those that are listed.
    pub fn turn_reads(&mut self) {
        // Those that become readable meanwhile come after the others, in the next turn.
        for _ in 0..self.clients.input.listed_count().min(TURN_READS_MAX) {
            if self.clients.delivery.replied_bytes() >= TURN_REPLY_BYTES_MAX {
                return;
            }
            if let Some(key) = self.clients.input.take_listed() {
                reading::on_listed(&mut self.clients, &mut self.homes, key);
            }
        }
    }

    /// Whether messages wait for room in another thread's inbox.
    pub fn is_behind(&self) -> bool {
        self.clients.post.is_behind()
    }

    /// Whether there is more to do at once.
    pub fn has_more(&self) -> bool {
        self.clients.delivery.has_more()
            || self.clients.input.listed_count() > 0
            || self.clients.post.loopback_len() > 0
    }

    /// Carries out a message about clients or channels with subscribers here.
    pub fn on_message(&mut self, message: ToShard) {
        let (clients, homes) = (&mut self.clients, &mut self.homes);
        match message {
            ToShard::Subscribed(answer) => answers::on_subscribed(clients, homes, *answer),
            ToShard::Refused { channel, connection, error } => {
                answers::on_refused(clients, homes, &channel, connection, error);
            }
            ToShard::Live { channel, publications } => {
                gaps::on_live(clients, &channel, publications);
            }
            ToShard::Gap { channel, next, .. } => {
                gaps::on_gap(&mut clients.delivery, &channel, next)
            }
            ToShard::Moved { channel, top } => gaps::on_moved(&mut clients.delivery, &channel, top),
            ToShard::Created { connection } => {
                homes.creating.on_name_created(clients, connection);
            }
            ToShard::Published { connection, request, pipelined: false, result } => {
                let key = ConnectionKey::of(connection);
                answers::on_published(clients, homes, key, request, result);
            }
            ToShard::Published { connection, request, pipelined: true, result } => {
                let key = ConnectionKey::of(connection);
                answers::on_pipelined(clients, homes, key, request, result);
            }
            ToShard::Page { connection, request, page } => {
                answers::on_page(clients, homes, ConnectionKey::of(connection), request, page);
            }
        }
    }

    /// A tenth of a second has passed.
    pub fn on_tick(&mut self) {
        let (clients, homes) = (&mut self.clients, &mut self.homes);
        self.heartbeat.on_tick(clients);
        let (now, tick) = (clients.clock.now(), clients.clock.tick());
        homes.creating.on_tick(now);
        gaps::on_tick(clients, homes);
        clients.input.on_tick_owing(&mut clients.slots);
        clients.events.tell_dropped(&mut clients.post, now);
        clients.delivery.on_tick(&mut clients.slots, &clients.io, tick);
    }

    /// Sends one chunk.
    pub fn sweep_chunk(&mut self) {
        sending::sweep_chunk(&mut self.clients, &mut self.homes);
    }

    /// Sees that the shard's outboxes have no more memory than it could lease.
    pub fn keep_outboxes_within(&mut self) {
        sending::keep_outboxes_within(&mut self.clients);
    }

    /// The id of a connection of this shard.
    pub fn connection_id(&self, key: ConnectionKey) -> ConnectionId {
        self.clients.connection_id(key)
    }

    /// Whether a connection is there, and its session runs.
    pub fn is_connected(&mut self, key: ConnectionKey) -> bool {
        self.clients.is_connected(key)
    }

    /// Takes no more connections. None may linger for longer than `last_end` from now on.
    pub fn begin_draining(&mut self, last_end: Duration) {
        self.clients.ending.begin(self.clients.clock.tick().after(last_end));
    }

    /// Whether no more connections are taken.
    pub fn is_draining(&self) -> bool {
        self.clients.ending.is_draining()
    }

    /// Sees to it that a connection which was closing when the drain began ends with the others.
    pub fn hasten(&mut self, key: ConnectionKey) {
        if self.clients.slots.connection(key).state == State::Closing {
            self.clients.slots.bring_forward(key.slot, self.clients.ending.last_end());
        }
    }

    /// Closes a connection with the code and text of `reason`.
    pub fn close(&mut self, key: ConnectionKey, reason: CloseReason) {
        closing::close(&mut self.clients, key, reason);
    }

    /// Closes a connection with a code and text of its own.
    pub fn close_with(&mut self, key: ConnectionKey, reason: CloseReason, farewell: Farewell<'_>) {
        closing::close_with(&mut self.clients, key, reason, farewell);
    }

    /// Asks for the subscription of one connection. Returns whether it was concerned.
    pub fn join(&mut self, key: ConnectionKey, join: &Join<'_>) -> bool {
        server_subscribe::join(&mut self.clients, &mut self.homes, key, join)
    }

    /// All connections have been looked at for the request `ticket`, `affected` of them concerned.
    pub fn end_walk_of_joins(&mut self, ticket: Ticket, affected: usize) {
        self.homes.joining.end_walk(ticket, affected, &mut self.clients.post);
    }

    /// Ends a connection's subscription to `channel`, or to all. Returns whether there were any.
    pub fn unsubscribe_by_api(
        &mut self,
        key: ConnectionKey,
        channel: Option<&ChannelName>,
    ) -> bool {
        server_subscribe::unsubscribe_by_api(&mut self.clients, &mut self.homes, key, channel)
    }

    /// Subscribers that are still to be told of a gap, or to be given what they missed.
    pub fn gap_notices_due_count(&self) -> usize {
        self.homes.notices.count()
    }

    /// Audits all connections and channels. Returns how many mismatches there are. For tests.
    pub fn audit(&mut self, home: &Home) -> usize {
        audit::audit(&mut self.clients, home)
    }

    /// Audits the connection at `slot`. Returns how many mismatches there are.
    pub fn audit_slot(&mut self, slot: Slot) -> usize {
        audit::audit_slot(&mut self.clients, slot)
    }

    /// Counts the memory of all outboxes anew. Returns how many numbers that are kept of it are
    /// wrong, and how many blocks are leased for it. For tests.
    pub fn audit_outboxes(&mut self) -> (usize, usize) {
        audit::audit_outboxes(&mut self.clients)
    }

    /// What waits in each outbox that is not empty, by its cost in bytes. For tests.
    pub fn outbox_costs(&mut self) -> Vec<usize> {
        audit::outbox_costs(&mut self.clients)
    }

    /// Counts and logs mismatches.
    pub fn count_audit_errors(&self, errors: usize) {
        audit::count_errors(&self.clients.counters, errors);
    }
}
