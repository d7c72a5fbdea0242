//! The description of a node: identity, version and numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shared::Node;
use crate::api::status::Status;
use crate::metrics::{Counter, Percentiles, Process, ShardCounters, WINDOWS};

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
    /// Recent delivery times by window. Empty for nodes of older versions.
    pub(in crate::api) delivery: DeliveryInfo,
}

/// Delivery times by the name of the window.
pub(in crate::api) type DeliveryInfo = BTreeMap<String, DeliveryTimesInfo>;

/// Percentiles of the time from accepting a publication to writing it, in seconds. Nodes exchange
/// it in this form too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::api) struct DeliveryTimesInfo {
    /// Number of writes to sockets.
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    /// 99.9 %.
    p999: f64,
}

impl From<Percentiles> for DeliveryTimesInfo {
    fn from(found: Percentiles) -> DeliveryTimesInfo {
        let Percentiles { count, p50, p90, p99, p999 } = found;
        let [p50, p90, p99, p999] = [p50, p90, p99, p999].map(|time| time.as_secs_f64());
        DeliveryTimesInfo { count, p50, p90, p99, p999 }
    }
}

fn delivery(status: &Status) -> DeliveryInfo {
    let windows = status.delivery().percentiles(status.now());
    let named = WINDOWS.iter().zip(windows);
    named.map(|(window, found)| (window.name.to_owned(), found.into())).collect()
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
        delivery: delivery(status),
    }
}
