//! What the threads of a server share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::accept::Leases;
use crate::api::{Node, Status};
use crate::mesh::{Address, HomeMap, Lane, ShardLane, ShardMail, ToBridge, ToControl};
use crate::metrics::{BridgeCounters, ShardCounters};
use crate::settings::Settings;
use crate::shard::{Identity, OutboxLeases, Pools};
use crate::subnets::Subnets;
use crate::sys::{EventFd, SysError};

/// The server can't start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address can't be listened on.
    #[error(
        "can't listen on {address}: {source}. Is another server running? \
             Choose another address with --listen or --api-listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The kernel refused something that the server can't do without.
    #[error(transparent)]
    System(#[from] SysError),
    /// A thread could not be started.
    #[error("can't start a thread: {0}")]
    Thread(std::io::Error),
    /// Redis can't be used as it is.
    #[error("{0}")]
    Redis(String),
    /// A shard ended before it served.
    #[error("a shard did not start: {0}")]
    Shard(String),
}

/// What all threads share: addresses and counters, nothing that one waits for another to release.
pub(super) struct Common {
    pub(super) settings: Arc<Settings>,
    pub(super) home_map: HomeMap,
    pub(super) identity: Identity,
    pub(super) leases: Leases,
    pub(super) outboxes: OutboxLeases,
    pub(super) pools: Pools,
    pub(super) counters: Vec<Arc<ShardCounters>>,
    pub(super) subnets: Arc<Subnets>,
    pub(super) status: Arc<Status>,
    /// Where the bridge counts, if there is one.
    pub(super) bridge_counters: Option<Arc<BridgeCounters>>,
    pub(super) addresses: Addresses,
    /// What wakes each thread: shards by their number, then control, then the bridge if there is
    /// one.
    pub(super) wakes: Vec<EventFd>,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) descriptors_max: usize,
    /// What this node is called.
    pub(super) node: Node,
    /// Tells the bridge, if there is one, that the server stops.
    pub(super) stopping: Stopping,
}

impl Common {
    pub(super) fn shards(&self) -> usize {
        self.counters.len()
    }

    /// Lanes to all shards, for one thread.
    pub(super) fn shard_lanes(&self) -> Vec<ShardLane> {
        let addresses = self.addresses.shards.iter().zip(&self.wakes);
        addresses.map(|(address, wake)| ShardLane::new(address.clone(), Box::new(*wake))).collect()
    }

    /// A lane to control.
    pub(super) fn control_lane(&self) -> Lane<ToControl> {
        let wake = self.wakes[self.shards()];
        Lane::new(self.addresses.control.clone(), Box::new(wake))
    }

    /// A lane to the bridge, if there is one.
    pub(super) fn bridge_lane(&self) -> Option<Lane<ToBridge>> {
        let address = self.addresses.bridge.clone()?;
        Some(Lane::new(address, Box::new(self.wakes[self.shards() + 1])))
    }
}

/// The sending ends of all inboxes.
pub(super) struct Addresses {
    pub(super) shards: Vec<Address<ShardMail>>,
    pub(super) control: Address<ToControl>,
    pub(super) bridge: Option<Address<ToBridge>>,
}

/// Says that the server stops, to a bridge that has something to finish before.
#[derive(Clone, Debug, Default)]
pub(super) struct Stopping {
    begun: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
}

impl Stopping {
    /// All shards have closed their connections.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Whether [`Stopping::begin`] was called.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Nothing is left to be done.
    pub(super) fn end(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}
