//! State shared by clients and publishers: addresses of nodes, channels, and the phase of the run.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::watch;

use crate::history::Epochs;

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Publishers publish, and clients follow their habits.
    Load,
    /// Nothing is published, and every client stays connected and reads.
    Quiet,
    /// Clients report their positions and disconnect.
    Stop,
}

/// Counters for the progress line and the report.
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

/// Adds one to a counter.
pub(crate) fn count(cell: &AtomicU64) {
    cell.fetch_add(1, Ordering::Relaxed);
}

/// State shared by all clients and publishers.
#[derive(Debug)]
pub(crate) struct Load {
    /// Addresses for clients, by node.
    pub(crate) clients: Vec<SocketAddr>,
    /// Addresses of the API, by node.
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

    /// Reserves `count` numbers for publications, and returns the first one.
    pub(crate) fn next_pids(&self, count: u32) -> u32 {
        self.next_pid.fetch_add(count, Ordering::Relaxed)
    }
}
