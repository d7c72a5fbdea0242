//! `info`: what the nodes are and hold.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::error::ApiError;
use super::{Api, Node, Status, cluster};
use crate::metrics::{Cell, Process, ShardCells};

/// What `info` answers.
#[derive(Debug, Serialize)]
pub(super) struct InfoResult {
    /// This node, then the others.
    nodes: Vec<Box<RawValue>>,
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

/// What the nodes are and hold: all that live.
///
/// # Errors
/// Too much is under way; internal while Redis is away, and the others are not known.
pub(super) async fn info(api: &Arc<Api>) -> Result<InfoResult, ApiError> {
    let own = to_raw_value(&node(&api.status, &api.node));
    let own = own.map_err(|error| ApiError::internal(error.to_string()))?;
    let mut nodes = vec![own];
    nodes.extend(cluster::describe_others(api).await?);
    Ok(InfoResult { nodes })
}

/// The description of a node that others show, as JSON.
pub fn describe(status: &Status, name: &Node) -> String {
    // Only maps with keys that are no text can't be written.
    serde_json::to_string(&node(status, name)).unwrap_or_default()
}

fn node(status: &Status, name: &Node) -> NodeBody {
    let sum = |cell: fn(&ShardCells) -> &Cell| -> u64 {
        status.shards().iter().map(|cells| cell(cells).value()).sum()
    };
    let connections =
        status.shards().iter().flat_map(|cells| &cells.connections).map(Cell::value).sum();
    let uptime = std::time::Duration::from_nanos(status.now().nanos());
    let process = Process::read();
    let cpu = process.cpu_seconds / uptime.as_secs_f64().max(1.0) * 100.0;
    NodeBody {
        uid: name.uid.clone(),
        name: name.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        num_clients: connections,
        num_users: 0,
        num_channels: sum(|cells| &cells.channels_home),
        num_subs: sum(|cells| &cells.subscriptions),
        uptime: uptime.as_secs(),
        process: ProcessBody { cpu, rss: process.resident_bytes },
    }
}
