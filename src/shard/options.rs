//! What a shard must be told.

use std::sync::Arc;
use std::time::Duration;

use crate::channel::Namespaces;
use crate::handshake::Rules;
use crate::limits::READING_OUTBOX_BYTES_MAX;
use crate::pool::Pool;
use crate::subnets::PerSecond;

/// The settings of one shard. Limits that are for the node have been divided among its shards.
#[derive(Clone, Debug)]
pub struct Options {
    /// Channels and what is allowed in them.
    pub namespaces: Namespaces,
    /// Which requests become connections.
    pub rules: Rules,
    /// Publications are ordered by a bus that joins nodes, not by home shards.
    pub bus: bool,
    /// What the application is told of.
    pub events: super::Events,
    /// Everybody may subscribe, publish and read history: Centrifugo's `client.insecure`.
    pub insecure: bool,
    /// Clients without a token may connect, as user "".
    pub anonymous: bool,
    /// Time between pings.
    pub ping_interval: Duration,
    /// Time in which any byte must follow a ping.
    pub pong_timeout: Duration,
    /// Time for the request head.
    pub handshake_timeout: Duration,
    /// Time for the protocol's `connect`.
    pub stale_timeout: Duration,
    /// Longest message, in bytes.
    pub message_bytes_max: usize,
    /// Most frames of one message.
    pub fragments_max: u32,
    /// Most frames in a second, over a burst of as many.
    pub frames_per_second_max: u32,
    /// Most WebSocket pings in a second, over a burst of as many.
    pub pings_per_second_max: u32,
    /// Bytes of unfinished messages of all the shard's connections together.
    pub inbound_bytes_max: usize,
    /// Bytes that wait for one slow connection.
    pub outbox_bytes_max: usize,
    /// Channels of one connection.
    pub channels_max: usize,
    /// Channels that one client may create in a second, over a burst of `channels_max`.
    pub channels_created_per_second_max: u32,
    /// Channels that all clients of the node may create in a second.
    pub node_channels_created_per_second_max: u32,
    /// Bytes of history whose home is this shard.
    pub history_bytes_max: usize,
    /// Most connections of this shard.
    pub connections_max: usize,
}

impl Options {
    /// Bytes in an outbox above which its client's commands wait.
    pub fn reading_bytes_max(&self) -> usize {
        READING_OUTBOX_BYTES_MAX.min(self.outbox_bytes_max)
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
