//! What a shard is made of.

use std::sync::Arc;

use super::delivery::OutboxLeases;
use super::identity::Identity;
use super::options::{Options, Pools};
use crate::ids::ShardId;
use crate::mesh::{HomeMap, Outbound};
use crate::metrics::ShardCounters;
use crate::readiness::Readiness;
use crate::subnets::Subnets;

/// What a shard is made of, beside its inbox.
pub struct Parts<S> {
    /// Its number.
    pub id: ShardId,
    /// Its settings.
    pub options: Options,
    /// Its kernel.
    pub sockets: S,
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
