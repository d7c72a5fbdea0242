//! What clients and publishers share: where the nodes are, which channels there are, and how far
//! the run is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::watch;

use crate::history::Epochs;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Publishers publish, clients live by their habits.
    Load,
    /// Nothing is published, and every client stays and reads.
    Quiet,
    /// Clients say where they stand, and go.
    Stop,
}

/// How many of what there were, for the line of progress and the report.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ok: AtomicU64,
    pub(crate) fail: AtomicU64,
    pub(crate) info: AtomicU64,
    pub(crate) repeats: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) recovered: AtomicU64,
    pub(crate) unrecovered: AtomicU64,
    pub(crate) notices: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// The longest time between a request to publish and its answer, in microseconds.
    pub(crate) slowest: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// Adds one.
pub(crate) fn count(cell: &AtomicU64) {
    cell.fetch_add(1, Ordering::Relaxed);
}

/// What all clients and publishers share.
#[derive(Debug)]
pub(crate) struct Load {
    /// Where clients connect, by node.
    pub(crate) clients: Vec<SocketAddr>,
    /// Where publishers publish, by node.
    pub(crate) apis: Vec<SocketAddr>,
    pub(crate) channels: Vec<String>,
    pub(crate) epochs: Epochs,
    pub(crate) counts: Counts,
    pub(crate) phase: watch::Sender<Phase>,
    next_pid: AtomicU32,
}

impl Load {
    pub(crate) fn new(
        (clients, apis): (Vec<SocketAddr>, Vec<SocketAddr>),
        channels: Vec<String>,
    ) -> Load {
        Load {
            clients,
            apis,
            channels,
            epochs: Epochs::default(),
            counts: Counts::default(),
            phase: watch::Sender::new(Phase::Load),
            next_pid: AtomicU32::new(0),
        }
    }

    /// The first of so many numbers for publications.
    pub(crate) fn next_pids(&self, count: u32) -> u32 {
        self.next_pid.fetch_add(count, Ordering::Relaxed)
    }
}
