//! The clients of a shard: their connections, the kernel with their sockets, and the data on its
//! way to them. Operations on clients are functions of [`Clients`], in files of their own.

use core::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::ending::Ending;
use super::events::Events;
use super::inbound::Input;
use crate::connection::{Slots, State};
use crate::ids::{ClientId, ConnectionId, ShardId, Tick};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::REPLY_BUFFER_BYTES_MAX;
use crate::mesh::Post;
use crate::metrics::ShardCounters;
use crate::readiness::Readiness;
use crate::shard::delivery::Delivery;
use crate::shard::identity::Identity;
use crate::shard::options::Options;
use crate::shard::parts::Parts;
use crate::subnets::Subnets;

/// The connections of a shard, and everything that serving them needs.
pub struct Clients<S> {
    /// Number of the shard.
    pub id: ShardId,
    /// Settings of the shard.
    pub options: Options,
    /// Creates and verifies client ids.
    pub identity: Identity,
    /// The counters of the shard.
    pub counters: Arc<ShardCounters>,
    /// The table in which all shards count the use of each subnet.
    pub subnets: Arc<Subnets>,
    /// Decides whether the node accepts clients.
    pub readiness: Arc<Readiness>,
    /// The kernel.
    pub io: S,
    /// The lanes to other threads, and to the shard itself.
    pub post: Post,
    /// The time of the current turn.
    pub clock: Clock,
    /// The connections.
    pub slots: Slots,
    /// The channels with subscribers, and all data on its way to clients.
    pub delivery: Delivery,
    /// Input that has not been handled yet.
    pub input: Input,
    /// Events for the application.
    pub events: Events,
    /// The state of the drain.
    pub ending: Ending,
}

impl<S: Sockets> Clients<S> {
    /// Creates an empty shard without connections.
    pub fn new(parts: Parts<S>) -> Clients<S> {
        let options = parts.options;
        let bytes_max = options.client().outbox_bytes_max;
        let delivery = Delivery::new(Arc::clone(&parts.counters), parts.outboxes, bytes_max);
        Clients {
            id: parts.id,
            identity: parts.identity,
            counters: parts.counters,
            subnets: parts.subnets,
            readiness: parts.readiness,
            clock: Clock::new(parts.sockets.now(), parts.seed),
            io: parts.sockets,
            post: Post::new(parts.id, parts.outbound),
            slots: Slots::default(),
            delivery,
            input: Input::new(options.inbound_bytes_max),
            events: Events::default(),
            ending: Ending::default(),
            options,
        }
    }

    /// The id of a connection of this shard.
    pub fn connection_id(&self, key: ConnectionKey) -> ConnectionId {
        ConnectionId { shard: self.id, slot: key.slot, generation: key.generation }
    }

    /// The public id of a connection of this shard.
    pub fn client_id(&self, key: ConnectionKey) -> ClientId {
        self.identity.mint(self.connection_id(key))
    }

    /// The address of a client. `None` on Unix sockets, unless a proxy named it.
    pub fn address(&mut self, key: ConnectionKey) -> Option<IpAddr> {
        let socket = self.slots.connection(key).socket;
        self.slots.address(key.slot).or_else(|| self.io.peer(socket)?.address())
    }

    /// Whether a connection exists and its session is running.
    pub fn is_connected(&mut self, key: ConnectionKey) -> bool {
        self.slots.get(key).is_some_and(|connection| connection.state == State::Connected)
    }

    /// The latest time at which a connection that ends now is released: after at most `most`, and
    /// not beyond the end of a drain.
    pub fn linger_end(&self, most: Duration) -> Tick {
        self.clock.tick().after(most).min(self.ending.last_end())
    }

    /// Copies frames for one connection into its outbox.
    pub fn send_own(&mut self, key: ConnectionKey, frames: &[u8]) {
        self.delivery.send_own(&mut self.slots, key, frames);
    }

    /// Puts a reply into the outbox of its client. The buffer in which it was encoded is kept for
    /// the next reply, because growing a new one costs more than encoding a short reply. The buffer
    /// of a long reply goes into the outbox itself.
    pub fn send_reply(&mut self, key: ConnectionKey, frames: Vec<u8>) {
        if frames.capacity() > REPLY_BUFFER_BYTES_MAX {
            return self.delivery.send_long(&mut self.slots, key, frames);
        }
        self.send_own(key, &frames);
        self.input.keep_reply_buffer(frames);
    }
}
