//! The clients of a shard: their connections, the kernel that has their sockets, and what is on its
//! way to them. What is done for clients are functions of [`Clients`], in files of their own.

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

/// The connections of a shard, and all that it needs to serve them.
pub struct Clients<S> {
    /// The shard's number.
    pub id: ShardId,
    /// Its settings.
    pub options: Options,
    /// How clients are called.
    pub identity: Identity,
    /// Where it counts.
    pub counters: Arc<ShardCounters>,
    /// Where all shards of the node count what clients of one subnet use.
    pub subnets: Arc<Subnets>,
    /// Whether the node takes clients.
    pub readiness: Arc<Readiness>,
    /// The kernel.
    pub io: S,
    /// The ways to other threads, and to the shard itself.
    pub post: Post,
    /// The time of the present turn.
    pub clock: Clock,
    /// The connections.
    pub slots: Slots,
    /// The channels with subscribers, and all that is on its way to clients.
    pub delivery: Delivery,
    /// Input that has not been carried out.
    pub input: Input,
    /// Events for the application.
    pub events: Events,
    /// The end of all connections.
    pub ending: Ending,
}

impl<S: Sockets> Clients<S> {
    /// None yet.
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

    /// Whether a connection is there, and its session runs.
    pub fn is_connected(&mut self, key: ConnectionKey) -> bool {
        self.slots.get(key).is_some_and(|connection| connection.state == State::Connected)
    }

    /// Until when a connection that ends now may linger.
    pub fn linger_end(&self, most: Duration) -> Tick {
        self.clock.tick().after(most).min(self.ending.last_end())
    }

    /// Puts frames for one connection alone into its outbox.
    pub fn send_own(&mut self, key: ConnectionKey, frames: &[u8]) {
        self.delivery.send_own(&mut self.slots, key, frames);
    }

    /// Puts a reply into its client's outbox. The buffer in which it was encoded is kept for the
    /// next reply, because growing a new one costs more than encoding a short reply; the buffer of
    /// a long reply goes into the outbox itself.
    pub fn send_reply(&mut self, key: ConnectionKey, frames: Vec<u8>) {
        if frames.capacity() > REPLY_BUFFER_BYTES_MAX {
            return self.delivery.send_long(&mut self.slots, key, frames);
        }
        self.send_own(key, &frames);
        self.input.keep_reply_buffer(frames);
    }
}
