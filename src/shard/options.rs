//! The settings and the shared limits of a shard.

use std::sync::Arc;

use crate::channel::Namespaces;
use crate::handshake::Rules;
use crate::ids::Slot;
use crate::limits::{LEASE_CHANNELS_MAX, LEASE_IDEMPOTENCY_BYTES_MAX, READING_OUTBOX_BYTES_MAX};
use crate::pool::Pool;
use crate::settings::{Client, Settings};
use crate::subnets::PerSecond;

/// The settings of one shard: those of the node, and values derived from them.
#[derive(Clone, Debug)]
pub struct Options {
    /// The settings of the node.
    pub settings: Arc<Settings>,
    /// Rules that decide which requests become connections.
    pub rules: Rules,
    /// Maximum bytes of unfinished messages of all connections together.
    pub inbound_bytes_max: usize,
    /// Maximum bytes of the histories at home in this shard.
    pub history_bytes_max: usize,
    /// Maximum number of connections.
    pub connections_max: usize,
}

impl Options {
    /// Derives the settings of one of `shards` shards. Memory limits of the node are divided
    /// evenly, because the kernel spreads clients evenly. `connections_max` is not divided but
    /// leased, so that uneven shards can fill the node.
    pub fn new(settings: &Arc<Settings>, shards: usize) -> Options {
        assert!(shards > 0, "a node has at least one shard");
        let client = &settings.client;
        Options {
            rules: Rules::new(settings),
            // A shard must have room for one message of maximum length, however many shards there
            // are.
            inbound_bytes_max: (client.inbound_bytes_max / shards).max(client.message_bytes_max),
            history_bytes_max: settings.channel.history_bytes_max / shards,
            connections_max: settings.server.max_connections.min(Slot::COUNT_MAX),
            settings: Arc::clone(settings),
        }
    }

    /// The limits of a client.
    pub fn client(&self) -> &Client {
        &self.settings.client
    }

    /// The namespaces of channels, with their options.
    pub(super) fn namespaces(&self) -> &Namespaces {
        &self.settings.channel.namespaces
    }

    /// Whether a bus decides the order of publications, and not the home shards.
    pub(super) fn has_bus(&self) -> bool {
        self.settings.redis.is_on()
    }

    /// Size of an outbox, in bytes, above which further commands of its client wait.
    pub fn reading_bytes_max(&self) -> usize {
        READING_OUTBOX_BYTES_MAX.min(self.client().outbox_bytes_max)
    }
}

/// Limits of the node that its shards share.
#[derive(Clone, Debug)]
pub struct Pools {
    /// The limit on channels with subscribers.
    pub channels: Pool,
    /// The number of channels that clients have created in this second.
    pub created: Arc<PerSecond>,
    /// The limit on bytes of answers to publications with idempotency keys.
    pub idempotency: Pool,
}

impl Pools {
    /// Creates the limits for `shards` shards. These are shared and not divided, because shards use
    /// them unevenly.
    pub fn new(settings: &Settings, shards: usize) -> Pools {
        let idempotency = settings.api.idempotency_bytes_max;
        Pools {
            channels: Pool::new(settings.channel.channels_max, shards, LEASE_CHANNELS_MAX),
            created: Arc::default(),
            idempotency: Pool::new(idempotency, shards, LEASE_IDEMPOTENCY_BYTES_MAX),
        }
    }
}
