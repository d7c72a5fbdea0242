//! Whether the node takes clients: one truth for `/ready` on the API's port, which control answers,
//! and for `/health` on the clients' port, which shards answer. All threads read the same numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::ids::Moment;
use crate::limits::REFUSAL_SHOWS;
use crate::metrics::{BridgeCounters, Counter, ShardCounters};

/// What the node does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not all listeners are open, or the bus has not been read yet.
    Starting,
    /// Clients are welcome.
    Serving,
    /// The node will stop. It says so, and still takes clients: load balancers need a moment to
    /// notice.
    Leaving,
    /// Connections are being closed, and no client is taken any more.
    Draining,
    /// There is no room: `max_connections` is reached, or descriptors are short.
    Full,
}

impl Phase {
    const ALL: [Phase; 5] =
        [Phase::Starting, Phase::Serving, Phase::Leaving, Phase::Draining, Phase::Full];

    /// The phase as `/ready` and `/health` name it.
    pub const fn label(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Leaving | Phase::Draining => "draining",
            Phase::Full => "full",
        }
    }
}

/// The node's phase, and what it follows from.
#[derive(Debug)]
pub struct Readiness {
    /// What main has set: all but `Full`, which is counted.
    phase: AtomicU8,
    shards: Vec<Arc<ShardCounters>>,
    /// Where the bridge counts, if there is one.
    bridge: Option<Arc<BridgeCounters>>,
    connections_max: usize,
}

impl Readiness {
    /// A starting node for at most `connections_max` connections, whose shards, and bridge if there
    /// is one, count in `shards` and `bridge`.
    pub fn new(
        shards: Vec<Arc<ShardCounters>>,
        bridge: Option<Arc<BridgeCounters>>,
        connections_max: usize,
    ) -> Readiness {
        let phase = AtomicU8::new(Phase::Starting as u8);
        Readiness { phase, shards, bridge, connections_max }
    }

    /// Changes the phase. Every thread that asks later is told the new one.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// What the node does at `now`.
    pub fn phase(&self, now: Moment) -> Phase {
        match self.set() {
            Phase::Serving if !self.has_joined() => Phase::Starting,
            Phase::Serving if self.is_full(now) => Phase::Full,
            set => set,
        }
    }

    /// Whether a request may become a connection. It may where there is no room: that is found out
    /// before the request is read.
    pub fn takes_clients(&self) -> bool {
        self.has_joined() && !matches!(self.set(), Phase::Starting | Phase::Draining)
    }

    /// Whether clients were refused a moment ago because too many of their network came at once.
    pub fn is_busy(&self, now: Moment) -> bool {
        self.shards.iter().any(|counters| Self::shows(&counters.refused_busy_nanos, now))
    }

    /// What the shards count.
    pub fn shards(&self) -> &[Arc<ShardCounters>] {
        &self.shards
    }

    /// What the bridge counts, if there is one.
    pub fn bridge(&self) -> Option<&Arc<BridgeCounters>> {
        self.bridge.as_ref()
    }

    fn set(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Acquire)) % Phase::ALL.len()]
    }

    /// Whether nobody would have to wait for the bus: before the bridge has read it once, nobody
    /// could subscribe.
    fn has_joined(&self) -> bool {
        self.bridge.as_ref().is_none_or(|counters| counters.joined.value() != 0)
    }

    fn is_full(&self, now: Moment) -> bool {
        self.connections_count() >= self.connections_max
            || !self.shards.is_empty()
                && self.shards.iter().all(|counters| counters.full.value() != 0)
            || self.shards.iter().any(|counters| Self::shows(&counters.refused_full_nanos, now))
    }

    /// Whether the moment in `counter` was a short while ago.
    fn shows(counter: &Counter, now: Moment) -> bool {
        let nanos = counter.value();
        nanos != 0 && now.since(Moment::from_nanos(nanos)) < REFUSAL_SHOWS
    }

    /// Connections of all shards, those that have not sent their request included.
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
        assert_eq!(readiness.phase(at(1300)), Phase::Leaving, "that it will stop matters more");
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
