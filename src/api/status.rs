//! The state of the node, for load balancers and supervisors.

use std::sync::{Arc, OnceLock};

use crate::ids::Moment;
use crate::limits::PROGRESS_TIMEOUT;
use crate::metrics::{BridgeCounters, Counter, DeliveryWindows, Descriptors, ShardCounters};
use crate::readiness::{Phase, Readiness};

/// The state of the node. `server` sets it; `/live` and `/ready` read it.
#[derive(Debug)]
pub struct Status {
    readiness: Arc<Readiness>,
    delivery: Arc<DeliveryWindows>,
    /// Set once, when the shards have started.
    host: OnceLock<HostLimits>,
    now: fn() -> Moment,
}

/// The limits of the host and of the node, which are known when the shards have started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Maximum number of connections that limits and settings allow.
    pub connections_max: usize,
    /// The descriptor tables of the process.
    pub descriptors: Descriptors,
}

impl Status {
    /// Creates the state of a starting node for at most `connections_max` connections. `shards` and
    /// `bridge` are the counters of its threads, and `now` is their clock.
    pub fn new(
        shards: Vec<Arc<ShardCounters>>,
        bridge: Option<Arc<BridgeCounters>>,
        now: fn() -> Moment,
        connections_max: usize,
    ) -> Status {
        let readiness = Arc::new(Readiness::new(shards, bridge, connections_max));
        Status { readiness, delivery: Arc::default(), host: OnceLock::new(), now }
    }

    /// Sets the limits of the host. Only the first call counts.
    pub fn set_host(&self, host: HostLimits) {
        self.host.get_or_init(|| host);
    }

    /// Returns the limits of the host, if they are known.
    pub(super) fn host(&self) -> Option<HostLimits> {
        self.host.get().copied()
    }

    /// Returns the delivery times of all shards.
    pub fn delivery(&self) -> &Arc<DeliveryWindows> {
        &self.delivery
    }

    /// Changes the phase. Any thread may call this.
    pub fn set_phase(&self, phase: Phase) {
        self.readiness.set_phase(phase);
    }

    /// Returns the current phase.
    pub fn phase(&self) -> Phase {
        self.readiness.phase(self.now())
    }

    /// Returns the shared readiness, from which the phase follows.
    pub fn readiness(&self) -> &Arc<Readiness> {
        &self.readiness
    }

    /// Returns the current time.
    pub fn now(&self) -> Moment {
        (self.now)()
    }

    /// Returns the clock.
    pub(super) fn clock(&self) -> fn() -> Moment {
        self.now
    }

    /// Returns the counters of all shards.
    pub fn shards(&self) -> &[Arc<ShardCounters>] {
        self.readiness.shards()
    }

    /// Returns the number of open connections.
    pub fn connections_count(&self) -> u64 {
        self.shards().iter().flat_map(|counters| &counters.connections).map(Counter::value).sum()
    }

    /// Returns the counters of the bridge, if there is one.
    pub fn bridge(&self) -> Option<&Arc<BridgeCounters>> {
        self.readiness.bridge()
    }

    /// Returns the problem with Redis, if there is one: a starting node waits for its end, and a
    /// serving node is degraded by it.
    pub(super) fn trouble(&self) -> Vec<String> {
        let text = self.bridge().map(|counters| counters.trouble.text()).unwrap_or_default();
        if text.is_empty() { Vec::new() } else { vec![text] }
    }

    /// Returns remarks about a serving node, each as a part of a line.
    pub(super) fn remarks(&self) -> Vec<String> {
        let busy = "busy: clients of one network connect faster than server.accept_rate allows, \
            and some were refused in the last second";
        let degraded = self.trouble().into_iter().map(|text| format!("degraded: {text}"));
        let is_busy = self.readiness.is_busy(self.now());
        degraded.chain(is_busy.then(|| busy.to_owned())).collect()
    }

    /// Returns the indices of shards that have made no progress for [`PROGRESS_TIMEOUT`].
    pub fn stuck_shards(&self) -> Vec<usize> {
        let now = self.now();
        let alive = |counters: &ShardCounters| Moment::from_nanos(counters.alive_nanos.value());
        let stuck = |counters: &ShardCounters| now.since(alive(counters)) > PROGRESS_TIMEOUT;
        let numbered = self.shards().iter().enumerate();
        numbered.filter(|(_, counters)| stuck(counters)).map(|(index, _)| index).collect()
    }
}
