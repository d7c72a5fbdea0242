//! Decides whether the node accepts clients. Control uses it for `/ready` on the port of the API,
//! and shards use it for `/health` on the port of clients, so both always agree.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::ids::Moment;
use crate::limits::REFUSAL_SHOWS;
use crate::metrics::{BridgeCounters, Counter, ShardCounters};

/// The phase of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not all listeners are open, the bus has not been read yet, or other nodes do not
    /// know of this one.
    Starting,
    /// The node accepts clients.
    Serving,
    /// The node will stop and announces it, but still accepts clients, because load balancers need
    /// a moment to notice.
    Leaving,
    /// The node closes its connections, and accepts no clients.
    Draining,
    /// There is no room: `max_connections` is reached, or descriptors are used up.
    Full,
}

impl Phase {
    const ALL: [Phase; 5] =
        [Phase::Starting, Phase::Serving, Phase::Leaving, Phase::Draining, Phase::Full];

    /// Returns the name of the phase in `/ready` and `/health`.
    pub const fn label(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Leaving | Phase::Draining => "draining",
            Phase::Full => "full",
        }
    }
}

/// The phase of the node, with the counters from which it follows.
#[derive(Debug)]
pub struct Readiness {
    /// The phase that main has set. It is never `Full`, which follows from the counters.
    phase: AtomicU8,
    shards: Vec<Arc<ShardCounters>>,
    /// The counters of the bridge, if there is one.
    bridge: Option<Arc<BridgeCounters>>,
    connections_max: usize,
}

impl Readiness {
    /// Creates the state of a starting node for at most `connections_max` connections. `shards` and
    /// `bridge` are the counters of its threads.
    pub fn new(
        shards: Vec<Arc<ShardCounters>>,
        bridge: Option<Arc<BridgeCounters>>,
        connections_max: usize,
    ) -> Readiness {
        let phase = AtomicU8::new(Phase::Starting as u8);
        Readiness { phase, shards, bridge, connections_max }
    }

    /// Changes the phase. All later calls return the new one, in every thread.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Returns the phase at `now`.
    pub fn phase(&self, now: Moment) -> Phase {
        match self.set() {
            // Only a serving node can be full, because the news that a node will stop matters more.
            Phase::Serving if !self.has_joined() => Phase::Starting,
            Phase::Serving if self.is_full(now) => Phase::Full,
            set => set,
        }
    }

    /// Whether a request may become a connection. It does not check for room, because sockets
    /// without room are refused before their requests are read.
    pub fn takes_clients(&self) -> bool {
        self.has_joined() && !matches!(self.set(), Phase::Starting | Phase::Draining)
    }

    /// Whether clients were recently refused because too many clients of their network connected at
    /// the same time.
    pub fn is_busy(&self, now: Moment) -> bool {
        self.shards.iter().any(|counters| Self::shows(&counters.refused_busy_nanos, now))
    }

    /// Whether the node has no room for clients.
    pub fn has_no_room(&self) -> bool {
        // One full shard is not enough, because it closes its listeners and the others take its
        // clients.
        self.connections_count() >= self.connections_max
            || !self.shards.is_empty()
                && self.shards.iter().all(|counters| counters.full.value() != 0)
    }

    /// Returns the counters of the shards.
    pub fn shards(&self) -> &[Arc<ShardCounters>] {
        &self.shards
    }

    /// Returns the counters of the bridge, if there is one.
    pub fn bridge(&self) -> Option<&Arc<BridgeCounters>> {
        self.bridge.as_ref()
    }

    fn set(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Acquire)) % Phase::ALL.len()]
    }

    /// Whether the bridge has once loaded the bus and held this node's lease. Before that no client
    /// could subscribe, and other nodes would not ask this one about its clients. It stays true
    /// when Redis is lost later, because the node still serves its clients then.
    fn has_joined(&self) -> bool {
        self.bridge.as_ref().is_none_or(|counters| counters.joined.value() != 0)
    }

    fn is_full(&self, now: Moment) -> bool {
        self.has_no_room()
            || self.shards.iter().any(|counters| Self::shows(&counters.refused_full_nanos, now))
    }

    /// Whether the moment in `counter` is recent.
    fn shows(counter: &Counter, now: Moment) -> bool {
        let nanos = counter.value();
        nanos != 0 && now.since(Moment::from_nanos(nanos)) < REFUSAL_SHOWS
    }

    /// Returns the number of connections of all shards, including those whose request is
    /// incomplete.
    fn connections_count(&self) -> usize {
        let of_shard = |counters: &Arc<ShardCounters>| {
            let open: u64 = counters.connections.iter().map(Counter::value).sum();
            open + counters.handshaking.value()
        };
        self.shards.iter().map(of_shard).sum::<u64>() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(millis: u64) -> Moment {
        Moment::default().after(Duration::from_millis(millis))
    }

    #[test]
    fn a_node_is_full_if_nobody_could_be_taken_or_somebody_was_not() {
        let shards: Vec<Arc<ShardCounters>> = (0..2).map(|_| Arc::default()).collect();
        let readiness = Readiness::new(shards.clone(), None, 10);
        readiness.set_phase(Phase::Serving);
        assert_eq!(readiness.phase(at(100)), Phase::Serving);
        shards[0].full.set(1);
        assert_eq!(readiness.phase(at(100)), Phase::Serving, "the other one has room");
        shards[1].full.set(1);
        assert_eq!(readiness.phase(at(100)), Phase::Full);
        shards[1].full.set(0);
        shards[1].refused_full_nanos.set(at(200).nanos());
        assert_eq!(readiness.phase(at(1100)), Phase::Full);
        assert_eq!(readiness.phase(at(1300)), Phase::Serving);
        shards[0].connections[0].add(6);
        shards[1].handshaking.add(4);
        assert_eq!(readiness.phase(at(1300)), Phase::Full);
        assert!(readiness.takes_clients());
        readiness.set_phase(Phase::Leaving);
        assert_eq!(
            readiness.phase(at(1300)),
            Phase::Leaving,
            "the end of the node takes precedence"
        );
        shards[0].refused_busy_nanos.set(at(1300).nanos());
        assert!(readiness.is_busy(at(1400)) && !readiness.is_busy(at(2400)));
    }

    #[test]
    fn a_node_starts_until_it_has_joined_and_stays_when_the_bus_is_lost() {
        let bridge: Arc<BridgeCounters> = Arc::default();
        let readiness = Readiness::new(vec![Arc::default()], Some(Arc::clone(&bridge)), 10);
        readiness.set_phase(Phase::Serving);
        assert_eq!(readiness.phase(at(100)), Phase::Starting);
        assert!(!readiness.takes_clients());
        bridge.joined.set(1);
        assert_eq!(readiness.phase(at(100)), Phase::Serving);
        assert!(readiness.takes_clients());
        bridge.up.set(0);
        assert_eq!(readiness.phase(at(100)), Phase::Serving);
        readiness.set_phase(Phase::Leaving);
        assert!(readiness.takes_clients());
        readiness.set_phase(Phase::Draining);
        assert!(!readiness.takes_clients());
    }
}
