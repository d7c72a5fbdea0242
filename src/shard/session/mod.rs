//! Sessions: from the bytes of a client to commands and answers, for the whole life of a
//! connection.
//!
//! [`Clients`] owns the connections of a shard and its kernel. [`Homes`] owns the state of requests
//! to the shards that keep channels. Every operation on a client is a function of these two, in a
//! file that uses only files above it in the list below. [`Sessions`] is the entrance.

// State, each part with one owner.
mod clock;
mod ending;
mod events;
mod inbound;
mod pending;
mod notices;
mod clients;
mod creating;
mod homes;
// Operations on one connection.
mod reporting;
mod refusing;
mod subscriptions;
mod closing;
mod replying;
mod pushing;
mod heartbeat;
mod audit;
// Requests of clients, and requests for them.
mod upgrading;
mod resuming;
mod subscribing;
mod publishing;
mod commands;
mod server_subscribe;
mod missed;
mod gaps;
// From bytes to requests, and from answers to bytes.
mod frames;
mod parking;
mod proxied;
mod heads;
mod reading;
mod answers;
mod sending;

pub use audit::OutboxCost;
pub use ending::Farewell;
pub use frames::{Panicked, guarded, is_parsing};
pub use server_subscribe::ServerSubscribe;

use std::time::Duration;

use crate::channel::ChannelName;
use crate::connection::State;
use crate::home::Home;
use crate::ids::{ConnectionId, Moment, ShardId, Slot, Tick};
use crate::kernel::{ConnectionKey, Ready, Socket, Sockets};
use crate::limits::{LEASE_CONNECTIONS_MAX, TURN_READS_MAX, TURN_REPLY_BYTES_MAX};
use crate::mesh::{Post, Ticket, ToShard};
use crate::reason::CloseReason;
use crate::shard::delivery::Delivery;
use crate::shard::parts::Parts;
use crate::subnets::{Subnet, SubnetId};
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
    /// Creates the sessions of a shard, without connections.
    pub fn new(parts: Parts<S>) -> Sessions<S> {
        let creating = Creating::new(&parts.options, &parts.pools);
        let homes = Homes::new(parts.home_map.clone(), creating);
        Sessions { clients: Clients::new(parts), homes, heartbeat: Heartbeat::default() }
    }

    /// Accepts the socket of a client from `subnet`. Returns false if the shard is full.
    pub fn on_accept(&mut self, socket: Socket, subnet: Subnet) -> bool {
        if self.is_full() {
            return false;
        }
        let clients = &mut self.clients;
        let tick = clients.clock.tick();
        let deadline = tick.after(clients.options.client().handshake_timeout);
        let subnet = if proxied::is_proxy(clients, socket) {
            SubnetId::PROXY
        } else {
            clients.subnets.enter(subnet)
        };
        let key = clients.slots.insert(socket, subnet, tick, deadline);
        clients.counters.handshaking.add(1);
        clients.io.watch(socket, key);
        true
    }

    /// Whether no more connections fit.
    pub fn is_full(&self) -> bool {
        self.clients.slots.count() >= self.clients.options.connections_max
    }

    /// Whether the node has no room for clients.
    pub fn is_node_full(&self) -> bool {
        self.clients.readiness.has_no_room()
    }

    /// Number of connections that still fit.
    pub fn places_left(&self) -> usize {
        self.clients.options.connections_max.saturating_sub(self.clients.slots.count())
    }

    /// Whether a shard that was full has room for more than a few connections again.
    pub fn has_room_again(&self) -> bool {
        self.clients.slots.count() + LEASE_CONNECTIONS_MAX <= self.clients.options.connections_max
            || self.clients.slots.count() == 0
    }

    /// Number of connections, in any state.
    pub fn count(&self) -> usize {
        self.clients.slots.count()
    }

    /// Number of this shard.
    pub fn shard(&self) -> ShardId {
        self.clients.id
    }

    /// Upper bound of the slots: each connection's slot is below it.
    pub fn slots_reached(&self) -> usize {
        self.clients.slots.reached()
    }

    /// The key of the connection in a slot.
    pub fn key(&mut self, slot: Slot) -> Option<ConnectionKey> {
        self.clients.slots.key(slot)
    }

    /// The channels with subscribers, and all data on its way to clients.
    pub fn delivery(&mut self) -> &mut Delivery {
        &mut self.clients.delivery
    }

    /// The lanes to other threads, and to the shard itself.
    pub fn post(&mut self) -> &mut Post {
        &mut self.clients.post
    }

    /// The kernel of this shard.
    pub fn sockets(&mut self) -> &mut S {
        &mut self.clients.io
    }

    /// The time of the current turn.
    pub fn now(&self) -> Moment {
        self.clients.clock.now()
    }

    /// The tick of the current turn.
    pub fn tick(&self) -> Tick {
        self.clients.clock.tick()
    }

    /// Begins a turn. Returns its time.
    pub fn begin_turn(&mut self) -> Moment {
        let now = self.clients.io.now();
        self.clients.clock.begin_turn(now);
        self.clients.delivery.begin_turn();
        now
    }

    /// Handles events of sockets. `events` is empty before and after.
    pub fn turn_events(&mut self, events: &mut Vec<Ready>) {
        self.clients.io.poll(events);
        for ready in events.drain(..) {
            reading::on_ready(&mut self.clients, ready);
        }
    }

    /// Reads from the listed connections, within the limits of a turn.
    pub fn turn_reads(&mut self) {
        // Sockets that become readable meanwhile follow the others, in the next turn.
        for _ in 0..self.clients.input.listed_count().min(TURN_READS_MAX) {
            if self.clients.delivery.replied_bytes() >= TURN_REPLY_BYTES_MAX {
                return;
            }
            let Some(key) = self.clients.input.take_listed() else {
                unreachable!("each step takes one of the connections that were listed before")
            };
            reading::on_listed(&mut self.clients, &mut self.homes, key);
        }
    }

    /// Whether messages wait for room in another thread's inbox.
    pub fn is_behind(&self) -> bool {
        self.clients.post.is_behind()
    }

    /// Whether there is more work to do immediately.
    pub fn has_more(&self) -> bool {
        self.clients.delivery.has_more()
            || self.clients.input.listed_count() > 0
            || self.clients.post.loopback_len() > 0
    }

    /// Handles a message about clients, or about channels with subscribers on this shard.
    pub fn on_message(&mut self, message: ToShard) {
        let (clients, homes) = (&mut self.clients, &mut self.homes);
        match message {
            ToShard::Subscribed(answer) => {
                let recovered = answer.recovered.as_deref().unwrap_or_default();
                let is_long = sending::make_room(clients, recovered);
                answers::on_subscribed(clients, homes, *answer);
                if is_long {
                    sending::keep_outboxes_within(clients);
                }
            }
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
                let found = page.as_ref().map_or(&[][..], |page| &page.publications);
                let is_long = sending::make_room(clients, found);
                answers::on_page(clients, homes, ConnectionKey::of(connection), request, page);
                if is_long {
                    sending::keep_outboxes_within(clients);
                }
            }
        }
    }

    /// Handles a tick of a tenth of a second.
    pub fn on_tick(&mut self) {
        let (clients, homes) = (&mut self.clients, &mut self.homes);
        self.heartbeat.on_tick(clients);
        let (now, tick) = (clients.clock.now(), clients.clock.tick());
        homes.creating.on_tick(now);
        gaps::on_tick(clients, homes);
        clients.input.on_tick_owing(&mut clients.slots);
        clients.events.tell_dropped(&mut clients.post, now);
        clients.delivery.on_tick(&mut clients.slots, &clients.io, tick);
        if let Some(interval) = clients.delivery.times().take(now) {
            clients.post.delivery_times(interval);
        }
    }

    /// Sends one chunk of the sweep.
    pub fn sweep_chunk(&mut self) {
        sending::sweep_chunk(&mut self.clients, &mut self.homes);
    }

    /// Closes connections until the outboxes fit the memory that the shard could lease.
    pub fn keep_outboxes_within(&mut self) {
        sending::keep_outboxes_within(&mut self.clients);
    }

    /// The id of a connection of this shard.
    pub fn connection_id(&self, key: ConnectionKey) -> ConnectionId {
        self.clients.connection_id(key)
    }

    /// Whether a connection exists and its session is running.
    pub fn is_connected(&mut self, key: ConnectionKey) -> bool {
        self.clients.is_connected(key)
    }

    /// Begins the drain: accepts no more connections, and lets none linger for longer than
    /// `last_end`.
    pub fn begin_draining(&mut self, last_end: Duration) {
        self.clients.ending.begin(self.clients.clock.tick().after(last_end));
    }

    /// Whether the shard is closing its connections and accepts no more.
    pub fn is_draining(&self) -> bool {
        self.clients.ending.is_draining()
    }

    /// Makes a connection that was closing when the drain began end with the others.
    pub fn hasten(&mut self, key: ConnectionKey) {
        if self.clients.slots.connection(key).state == State::Closing {
            self.clients.slots.bring_forward(key.slot, self.clients.ending.last_end());
        }
    }

    /// Closes a connection with the code and text of `reason`.
    pub fn close(&mut self, key: ConnectionKey, reason: CloseReason) {
        closing::close(&mut self.clients, key, reason);
    }

    /// Closes a connection with another code and text than those of `reason`.
    pub fn close_with(&mut self, key: ConnectionKey, reason: CloseReason, farewell: Farewell<'_>) {
        closing::close_with(&mut self.clients, key, reason, farewell);
    }

    /// Requests a server-side subscription of one connection. Returns true if the connection is
    /// affected.
    pub fn server_subscribe(&mut self, key: ConnectionKey, request: &ServerSubscribe<'_>) -> bool {
        server_subscribe::request(&mut self.clients, &mut self.homes, key, request)
    }

    /// Records that the request `ticket` has visited all connections, and that `affected` of them
    /// are affected.
    pub fn end_walk_of_subscribes(&mut self, ticket: Ticket, affected: usize) {
        self.homes.pending.end_walk(ticket, affected, &mut self.clients.post);
    }

    /// Ends a connection's subscription to `channel`, or all of its subscriptions. Returns true if
    /// there were any.
    pub fn unsubscribe_by_api(
        &mut self,
        key: ConnectionKey,
        channel: Option<&ChannelName>,
    ) -> bool {
        server_subscribe::unsubscribe_by_api(&mut self.clients, &mut self.homes, key, channel)
    }

    /// Number of subscribers that have to be told about a gap or to receive missed publications.
    pub fn gap_notices_due_count(&self) -> usize {
        self.homes.notices.count()
    }

    /// Audits all connections and channels. Returns the number of mismatches. For tests.
    pub fn audit(&mut self, home: &Home) -> usize {
        audit::audit(&mut self.clients, home)
    }

    /// Audits the connection at `slot`. Returns the number of mismatches.
    pub fn audit_slot(&mut self, slot: Slot) -> usize {
        audit::audit_slot(&mut self.clients, slot)
    }

    /// Recounts the memory of all outboxes. Returns the number of stored values that are wrong, and
    /// the number of leased blocks. For tests.
    pub fn audit_outboxes(&mut self) -> (usize, usize) {
        audit::audit_outboxes(&mut self.clients)
    }

    /// Returns the cost of each outbox that is not empty. For tests.
    pub fn outbox_costs(&mut self) -> Vec<OutboxCost> {
        audit::outbox_costs(&mut self.clients)
    }

    /// Counts and logs mismatches.
    pub fn count_audit_errors(&self, errors: usize) {
        audit::count_errors(&self.clients.counters, errors);
    }
}
