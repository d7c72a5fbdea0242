//! How the node is: for load balancers and for whoever restarts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::ids::Moment;
use crate::limits::PROGRESS_TIMEOUT;
use crate::metrics::{BridgeCells, Cell, ShardCells};

/// What the node does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not all listeners are open.
    Starting,
    /// Clients are welcome.
    Serving,
    /// Connections are being closed; the node will stop.
    Draining,
    /// `max_connections` is reached.
    Full,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Starting, Phase::Serving, Phase::Draining, Phase::Full];

    /// The phase as `/ready` names it.
    pub const fn label(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Draining => "draining",
            Phase::Full => "full",
        }
    }
}

/// The node's state, set by whoever starts and stops it, read by `/live` and `/ready`.
#[derive(Debug)]
pub struct Status {
    phase: AtomicU8,
    shards: Vec<Arc<ShardCells>>,
    /// Where the bridge counts, if there is one.
    bridge: Option<Arc<BridgeCells>>,
    now: fn() -> Moment,
    connections_max: usize,
}

impl Status {
    /// A starting node for at most `connections_max` connections, whose shards, and bridge if there
    /// is one, count in `shards` and `bridge`, by the clock `now` that they use.
    pub fn new(
        (shards, bridge): (Vec<Arc<ShardCells>>, Option<Arc<BridgeCells>>),
        now: fn() -> Moment,
        connections_max: usize,
    ) -> Status {
        let phase = AtomicU8::new(Phase::Starting as u8);
        Status { phase, shards, bridge, now, connections_max }
    }

    /// Changes the phase. From any thread.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// What the node does.
    pub fn phase(&self) -> Phase {
        let set = Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed)) % Phase::ALL.len()];
        let full = set == Phase::Serving && self.connections_count() >= self.connections_max;
        if full { Phase::Full } else { set }
    }

    /// Connections of all shards, those that have not sent their request included.
    fn connections_count(&self) -> usize {
        let of_shard = |cells: &Arc<ShardCells>| {
            let open: u64 = cells.connections.iter().map(Cell::value).sum();
            open + cells.handshaking.value()
        };
        self.shards.iter().map(of_shard).sum::<u64>() as usize
    }

    /// The clock.
    pub fn now(&self) -> Moment {
        (self.now)()
    }

    /// The clock itself.
    pub(super) fn clock(&self) -> fn() -> Moment {
        self.now
    }

    /// What the shards count.
    pub fn shards(&self) -> &[Arc<ShardCells>] {
        &self.shards
    }

    /// What the bridge counts, if there is one.
    pub fn bridge(&self) -> Option<&Arc<BridgeCells>> {
        self.bridge.as_ref()
    }

    /// Whether other nodes can't be reached at present: there is a bus, and it is away.
    pub fn is_degraded(&self) -> bool {
        self.bridge.as_ref().is_some_and(|cells| cells.up.value() == 0)
    }

    /// Numbers of the shards that have made no progress for [`PROGRESS_TIMEOUT`].
    pub fn stuck_shards(&self) -> Vec<usize> {
        let now = self.now();
        let alive = |cells: &ShardCells| Moment::from_nanos(cells.alive_nanos.value());
        let stuck = |cells: &ShardCells| now.since(alive(cells)) > PROGRESS_TIMEOUT;
        let numbered = self.shards.iter().enumerate();
        numbered.filter(|(_, cells)| stuck(cells)).map(|(index, _)| index).collect()
    }
}
