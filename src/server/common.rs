//! The values that all threads of a server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::accept::Leases;
use crate::api::{Node, Status};
use crate::mesh::{Address, HomeMap, Lane, ShardLane, ShardMail, ToBridge, ToControl};
use crate::metrics::{BridgeCounters, ShardCounters};
use crate::settings::{ListenAddress, Settings};
use crate::shard::{Identity, OutboxLeases, Pools};
use crate::subnets::Subnets;
use crate::sys::{EventFd, SysError, UnixListener};

/// The reason why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server can't listen on an address.
    #[error(
        "can't listen on {address}: {source}. Is another server running? \
             Choose another address with --listen or --api-listen"
    )]
    Listen {
        /// The address.
        address: ListenAddress,
        /// The error of the kernel.
        source: std::io::Error,
    },
    /// The kernel refused something that the server needs.
    #[error(transparent)]
    System(#[from] SysError),
    /// A thread could not be started.
    #[error("can't start a thread: {0}")]
    Thread(std::io::Error),
    /// Redis can't be used in its present state.
    #[error("{0}")]
    Redis(String),
    /// A shard ended before it could serve clients.
    #[error("a shard did not start: {0}")]
    Shard(String),
}

/// The values that all threads share. Shards take no lock in them, so no shard waits for another
/// thread.
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
    /// The counters of the bridge, if there is one.
    pub(super) bridge_counters: Option<Arc<BridgeCounters>>,
    pub(super) addresses: Addresses,
    /// One eventfd per thread: the shards by number, then control, then the bridge if there is one.
    pub(super) wakes: Vec<EventFd>,
    /// The addresses for clients.
    pub(super) listen: Vec<ListenAddress>,
    /// The Unix sockets among them.
    pub(super) unix: Vec<UnixListener>,
    pub(super) descriptors_max: usize,
    /// The name and address of this node.
    pub(super) node: Node,
    /// Tells the bridge that the server stops. Without a bridge it has no effect.
    pub(super) stopping: Stopping,
}

impl Common {
    pub(super) fn shards(&self) -> usize {
        self.counters.len()
    }

    /// Creates lanes to all shards, for one thread.
    pub(super) fn shard_lanes(&self) -> Vec<ShardLane> {
        let addresses = self.addresses.shards.iter().zip(&self.wakes);
        addresses.map(|(address, wake)| ShardLane::new(address.clone(), Box::new(*wake))).collect()
    }

    /// Creates a lane to control.
    pub(super) fn control_lane(&self) -> Lane<ToControl> {
        let wake = self.wakes[self.shards()];
        Lane::new(self.addresses.control.clone(), Box::new(wake))
    }

    /// Creates a lane to the bridge, if there is one.
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

/// Coordinates the end of the server with the bridge, which still has events to write.
#[derive(Clone, Debug, Default)]
pub(super) struct Stopping {
    begun: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
}

impl Stopping {
    /// Tells the bridge that all shards have closed their connections.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Whether [`Stopping::begin`] was called.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Tells main that the bridge has finished its work.
    pub(super) fn end(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// Whether [`Stopping::end`] was called.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}
