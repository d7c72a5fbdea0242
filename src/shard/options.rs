//! What a shard must be told.

use std::sync::Arc;

use crate::channel::Namespaces;
use crate::handshake::Rules;
use crate::ids::Slot;
use crate::limits::{LEASE_CHANNELS_MAX, LEASE_IDEMPOTENCY_BYTES_MAX, READING_OUTBOX_BYTES_MAX};
use crate::pool::Pool;
use crate::settings::{Client, Settings};
use crate::subnets::PerSecond;

/// The settings of one shard: the node's, and what follows from them for a shard.
#[derive(Clone, Debug)]
pub struct Options {
    /// The settings of the node.
    pub settings: Arc<Settings>,
    /// Which requests become connections.
    pub rules: Rules,
    /// Bytes of unfinished messages of all the shard's connections together.
    pub inbound_bytes_max: usize,
    /// Bytes of history whose home is this shard.
    pub history_bytes_max: usize,
    /// Most connections of this shard.
    pub connections_max: usize,
}

impl Options {
    /// The settings of one of `shards` shards. Memory limits of the node are divided evenly, since
    /// the kernel spreads clients evenly; `connections_max` is not: it is leased, so that uneven
    /// shards can fill the node.
    pub fn new(settings: &Arc<Settings>, shards: usize) -> Options {
        assert!(shards > 0, "a node has at least one shard");
        let client = &settings.client;
        Options {
            rules: Rules { allowed_origins: client.allowed_origins.clone(), echo: settings.echo },
            // A shard must have room for one message of full length, however many shards there are.
            inbound_bytes_max: (client.inbound_bytes_max / shards).max(client.message_bytes_max),
            history_bytes_max: settings.channel.history_bytes_max / shards,
            connections_max: settings.server.max_connections.min(Slot::COUNT_MAX),
            settings: Arc::clone(settings),
        }
    }

    /// What a client may do and cost.
    pub fn client(&self) -> &Client {
        &self.settings.client
    }

    /// Channels and what is allowed in them.
    pub(super) fn namespaces(&self) -> &Namespaces {
        &self.settings.channel.namespaces
    }

    /// Whether a bus that joins nodes orders publications, and not home shards.
    pub(super) fn has_bus(&self) -> bool {
        self.settings.redis.is_on()
    }

    /// Bytes in an outbox above which its client's commands wait.
    pub fn reading_bytes_max(&self) -> usize {
        READING_OUTBOX_BYTES_MAX.min(self.client().outbox_bytes_max)
    }
}

/// Bounds of the node that its shards share.
#[derive(Clone, Debug)]
pub struct Pools {
    /// Channels with subscribers.
    pub channels: Pool,
    /// Channels that clients have created.
    pub created: Arc<PerSecond>,
    /// Bytes of answers to publications with idempotency keys.
    pub idempotency: Pool,
}

impl Pools {
    /// What `shards` shards share. The bounds of the node that are reached unevenly.
    pub fn new(settings: &Settings, shards: usize) -> Pools {
        let idempotency = settings.api.idempotency_bytes_max;
        Pools {
            channels: Pool::new(settings.channel.channels_max, shards, LEASE_CHANNELS_MAX),
            created: Arc::default(),
            idempotency: Pool::new(idempotency, shards, LEASE_IDEMPOTENCY_BYTES_MAX),
        }
    }
}
