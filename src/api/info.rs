//! `info`: what this node is and holds.

use serde::Serialize;

use super::Api;
use crate::metrics::{Cell, Process, ShardCells};

/// What `info` answers.
#[derive(Debug, Serialize)]
pub(super) struct InfoResult {
    nodes: [NodeBody; 1],
}

/// A node. Users are not counted: without tokens nobody has one.
#[derive(Debug, Serialize)]
struct NodeBody {
    uid: String,
    name: String,
    version: &'static str,
    num_clients: u64,
    num_users: u64,
    num_channels: u64,
    num_subs: u64,
    /// Seconds since the start.
    uptime: u64,
    process: ProcessBody,
}

/// What the process costs.
#[derive(Debug, Serialize)]
struct ProcessBody {
    /// Percent of one core since the start.
    cpu: f64,
    /// Bytes.
    rss: u64,
}

/// What this node is and holds.
pub(super) fn info(api: &Api) -> InfoResult {
    let sum = |cell: fn(&ShardCells) -> &Cell| -> u64 {
        api.status.shards().iter().map(|cells| cell(cells).value()).sum()
    };
    let connections =
        api.status.shards().iter().flat_map(|cells| &cells.connections).map(Cell::value).sum();
    let uptime = std::time::Duration::from_nanos(api.status.now().nanos());
    let process = Process::read();
    let cpu = process.cpu_seconds / uptime.as_secs_f64().max(1.0) * 100.0;
    let node = NodeBody {
        uid: api.node.uid.clone(),
        name: api.node.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        num_clients: connections,
        num_users: 0,
        num_channels: sum(|cells| &cells.channels_home),
        num_subs: sum(|cells| &cells.subscriptions),
        uptime: uptime.as_secs(),
        process: ProcessBody { cpu, rss: process.resident_bytes },
    };
    InfoResult { nodes: [node] }
}
