//! The parts from which a shard is made.

use std::sync::Arc;

use super::delivery::OutboxLeases;
use super::identity::Identity;
use super::options::{Options, Pools};
use crate::ids::ShardId;
use crate::mesh::{HomeMap, Outbound};
use crate::metrics::ShardCounters;
use crate::readiness::Readiness;
use crate::subnets::Subnets;

/// The parts from which a shard is made, except its inbox.
pub struct Parts<S> {
    /// Number of the shard.
    pub id: ShardId,
    /// Settings of the shard.
    pub options: Options,
    /// The kernel of the shard.
    pub sockets: S,
    /// The lanes to other threads. The lane to the shard itself is not used.
    pub outbound: Outbound,
    /// Limits that it shares with other shards.
    pub pools: Pools,
    /// Maps each channel to its home shard.
    pub home_map: HomeMap,
    /// Creates and verifies client ids.
    pub identity: Identity,
    /// The counters of the shard.
    pub counters: Arc<ShardCounters>,
    /// The table in which all shards count the use of each subnet.
    pub subnets: Arc<Subnets>,
    /// Decides whether the node accepts clients.
    pub readiness: Arc<Readiness>,
    /// Memory of the node for outboxes.
    pub outboxes: OutboxLeases,
    /// A number that differs between shards and processes, for epochs and jitter.
    pub seed: u64,
}
