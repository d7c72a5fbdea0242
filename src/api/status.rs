//! How the node is: for load balancers and for whoever restarts it.

use std::sync::Arc;

use crate::ids::Moment;
use crate::limits::PROGRESS_TIMEOUT;
use crate::metrics::{BridgeCounters, ShardCounters};
use crate::readiness::{Phase, Readiness};

/// The node's state, set by whoever starts and stops it, read by `/live` and `/ready`.
#[derive(Debug)]
pub struct Status {
    readiness: Arc<Readiness>,
    now: fn() -> Moment,
}

impl Status {
    /// A starting node for at most `connections_max` connections, whose shards, and bridge if there
    /// is one, count in `shards` and `bridge`, by the clock `now` that they use.
    pub fn new(
        shards: Vec<Arc<ShardCounters>>,
        bridge: Option<Arc<BridgeCounters>>,
        now: fn() -> Moment,
        connections_max: usize,
    ) -> Status {
        let readiness = Arc::new(Readiness::new(shards, bridge, connections_max));
        Status { readiness, now }
    }

    /// Changes the phase. From any thread.
    pub fn set_phase(&self, phase: Phase) {
        self.readiness.set_phase(phase);
    }

    /// What the node does.
    pub fn phase(&self) -> Phase {
        self.readiness.phase(self.now())
    }

    /// The phase and what it follows from, for those who share it.
    pub fn readiness(&self) -> &Arc<Readiness> {
        &self.readiness
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
    pub fn shards(&self) -> &[Arc<ShardCounters>] {
        self.readiness.shards()
    }

    /// What the bridge counts, if there is one.
    pub fn bridge(&self) -> Option<&Arc<BridgeCounters>> {
        self.readiness.bridge()
    }

    /// What is wrong with Redis, if anything is: what a starting node waits for, or why a serving
    /// one is degraded.
    pub(super) fn trouble(&self) -> Vec<String> {
        let text = self.bridge().map(|counters| counters.trouble.text()).unwrap_or_default();
        if text.is_empty() { Vec::new() } else { vec![text] }
    }

    /// What else there is to say of a node that serves, each a line's part.
    pub(super) fn remarks(&self) -> Vec<String> {
        let busy = "busy: more clients of one network connect than server.accept_rate lets in, \
            and some were refused in the last second";
        let degraded = self.trouble().into_iter().map(|text| format!("degraded: {text}"));
        let is_busy = self.readiness.is_busy(self.now());
        degraded.chain(is_busy.then(|| busy.to_owned())).collect()
    }

    /// Numbers of the shards that have made no progress for [`PROGRESS_TIMEOUT`].
    pub fn stuck_shards(&self) -> Vec<usize> {
        let now = self.now();
        let alive = |counters: &ShardCounters| Moment::from_nanos(counters.alive_nanos.value());
        let stuck = |counters: &ShardCounters| now.since(alive(counters)) > PROGRESS_TIMEOUT;
        let numbered = self.shards().iter().enumerate();
        numbered.filter(|(_, counters)| stuck(counters)).map(|(index, _)| index).collect()
    }
}
