//! The description of a node: identity, version and numbers.

use std::time::Duration;

use super::shared::Node;
use crate::api::status::Status;
use crate::metrics::{Counter, Process, ShardCounters};

/// A node. Users are not counted, because there are none without tokens.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::api) struct NodeInfo {
    /// Unique id of this run of the node.
    pub(in crate::api) uid: String,
    /// A readable name.
    pub(in crate::api) name: String,
    /// Version of the server.
    pub(in crate::api) version: String,
    pub(in crate::api) connections: u64,
    /// Number of channels with subscribers on this node.
    pub(in crate::api) channels: u64,
    pub(in crate::api) subscriptions: u64,
    /// Time since the start of the node, in whole seconds.
    pub(in crate::api) uptime: Duration,
    /// CPU usage since the start, in percent of one core.
    pub(in crate::api) cpu_percent: f64,
    /// Resident memory of the process.
    pub(in crate::api) resident_bytes: u64,
}

/// Describes this node.
pub(super) fn own(status: &Status, node: &Node) -> NodeInfo {
    let sum = |counter: fn(&ShardCounters) -> &Counter| -> u64 {
        status.shards().iter().map(|counters| counter(counters).value()).sum()
    };
    let connections =
        status.shards().iter().flat_map(|counters| &counters.connections).map(Counter::value).sum();
    let uptime = Duration::from_nanos(status.now().nanos());
    let process = Process::read();
    NodeInfo {
        uid: node.uid.clone(),
        name: node.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        connections,
        channels: sum(|counters| &counters.channels_in_use),
        subscriptions: sum(|counters| &counters.subscriptions),
        cpu_percent: process.cpu_seconds / uptime.as_secs_f64().max(1.0) * 100.0,
        uptime: Duration::from_secs(uptime.as_secs()),
        resident_bytes: process.resident_bytes,
    }
}
