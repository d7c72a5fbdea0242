//! The kinds of faults, and a plan of faults that a seed determines.

use std::time::Duration;

use fastrand::Rng;

use crate::cluster::Bus;
use crate::history::Takes;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    KillNode,
    StopNode,
    KillRedis,
    KillRedisAof,
    StopRedis,
    ClientKill,
    Trim,
    Del,
    Flush,
    ScriptFlush,
    Failover,
    Cut,
    HalfOpen,
    LostReplies,
    Reset,
    Slow,
    Unplug,
    OneWay,
    SplitBrain,
    Moved,
    PlannedFailover,
    LostPlaces,
    ClockAhead,
    ClockBack,
}

/// A kind's name, its description, and what it may take from channels.
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) takes: Takes,
}

const fn row(kind: Kind, name: &'static str, takes: Takes, about: &'static str) -> Row {
    Row { kind, name, about, takes }
}

/// All kinds.
pub(crate) const KINDS: [Row; 24] = [
    row(Kind::KillNode, "kill-node", Takes::Nothing, "kill -9 of a node, which is started again"),
    row(Kind::StopNode, "stop-node", Takes::Nothing, "SIGSTOP of a node for seconds"),
    row(Kind::KillRedis, "kill-redis", Takes::Epoch, "kill -9 of Redis, which starts again empty"),
    row(Kind::KillRedisAof, "kill-redis-aof", Takes::Epoch, "the same with appendfsync everysec"),
    row(Kind::StopRedis, "stop-redis", Takes::Nothing, "SIGSTOP of Redis for seconds"),
    row(
        Kind::ClientKill,
        "client-kill",
        Takes::Nothing,
        "CLIENT KILL TYPE normal, ten times a second",
    ),
    row(Kind::Trim, "trim", Takes::Entries, "XTRIM of a bus stream while a node is stopped"),
    row(Kind::Del, "del", Takes::Entries, "DEL of a bus stream"),
    row(Kind::Flush, "flush", Takes::Epoch, "FLUSHALL"),
    row(Kind::ScriptFlush, "script-flush", Takes::Nothing, "SCRIPT FLUSH"),
    row(Kind::Failover, "failover", Takes::Epoch, "the replica takes over, without what came last"),
    row(
        Kind::Cut,
        "cut",
        Takes::Nothing,
        "a node's link to Redis holds everything back for seconds",
    ),
    row(
        Kind::HalfOpen,
        "half-open",
        Takes::Nothing,
        "a node's link swallows everything, then resets",
    ),
    row(Kind::LostReplies, "lost-replies", Takes::Nothing, "Redis' replies vanish, then resets"),
    row(
        Kind::Reset,
        "reset",
        Takes::Nothing,
        "a node's connections to Redis are reset, ten times a second",
    ),
    row(Kind::Slow, "slow", Takes::Nothing, "a node's link is late, narrow and sliced"),
    row(
        Kind::Unplug,
        "unplug",
        Takes::Nothing,
        "the plug of a node's link is pulled, at either end",
    ),
    row(
        Kind::OneWay,
        "one-way",
        Takes::Nothing,
        "packets of a node's link vanish, in one direction",
    ),
    row(
        Kind::SplitBrain,
        "split-brain",
        Takes::Split,
        "a node stays with the primary; for all others the replica is promoted",
    ),
    row(
        Kind::Moved,
        "moved",
        Takes::Split,
        "the replica is promoted beside the primary; single connections of nodes move to it",
    ),
    row(
        Kind::PlannedFailover,
        "planned-failover",
        Takes::Split,
        "FAILOVER, SENTINEL or CLUSTER FAILOVER: a replica takes over from who lives",
    ),
    row(
        Kind::LostPlaces,
        "lost-places",
        Takes::Epoch,
        "DEL of what Redis holds for some channels of a stream, as an eviction does",
    ),
    row(
        Kind::ClockAhead,
        "clock-ahead",
        Takes::Entries,
        "the clock of Redis goes forty days ahead, so that histories expire, and comes back",
    ),
    row(Kind::ClockBack, "clock-back", Takes::Nothing, "the clock of Redis goes an hour back"),
];

/// Time between the starts of two faults.
const PAUSE_MS: std::ops::Range<u64> = 5_000..10_000;

/// Start of the first fault. By then every client is subscribed.
const FIRST: Duration = Duration::from_secs(3);

/// Time before the end of the load in which no fault starts.
const LAST: Duration = Duration::from_secs(2);

/// A planned fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
    /// The affected node, if the fault affects one.
    pub(crate) node: usize,
    /// Choose a stream or variant, and the duration: from 0 to 1.
    pub(crate) choice: f64,
    pub(crate) length: f64,
}

impl Kind {
    /// Returns the row of this kind.
    pub(crate) fn row(self) -> &'static Row {
        KINDS.iter().find(|row| row.kind == self).unwrap_or(&KINDS[0])
    }

    /// Whether it is possible with this form of Redis, or without Redis.
    pub(crate) fn fits(self, bus: Option<Bus>) -> bool {
        match self {
            Kind::KillNode | Kind::StopNode => true,
            Kind::Failover | Kind::PlannedFailover | Kind::ClientKill => bus.is_some(),
            Kind::KillRedis | Kind::KillRedisAof | Kind::StopRedis => bus == Some(Bus::Links),
            Kind::Trim
            | Kind::Del
            | Kind::Flush
            | Kind::ScriptFlush
            | Kind::LostPlaces
            | Kind::ClockAhead
            | Kind::ClockBack => matches!(bus, Some(Bus::Links | Bus::Sentinel)),
            Kind::Cut
            | Kind::HalfOpen
            | Kind::LostReplies
            | Kind::Reset
            | Kind::Slow
            | Kind::Unplug
            | Kind::OneWay
            | Kind::SplitBrain
            | Kind::Moved => bus == Some(Bus::Links),
        }
    }

    /// Whether it needs a clock of Redis that can be set wrong.
    pub(crate) fn needs_clock(self) -> bool {
        matches!(self, Kind::ClockAhead | Kind::ClockBack)
    }

    /// Whether it needs a site of its own for each node.
    pub(crate) fn needs_sites(self) -> bool {
        matches!(self, Kind::Unplug | Kind::OneWay)
    }
}

/// Returns the faults for a run of `length`. Every kind comes once before any kind is repeated.
pub(crate) fn plan(
    random: &mut Rng,
    kinds: &[Kind],
    (length, nodes): (Duration, usize),
) -> Vec<Planned> {
    let (mut planned, mut at, mut bag) = (Vec::new(), FIRST, Vec::new());
    while !kinds.is_empty() && at + LAST <= length {
        if bag.is_empty() {
            bag.extend_from_slice(kinds);
            random.shuffle(&mut bag);
        }
        let Some(kind) = bag.pop() else { break };
        let node = random.usize(..nodes);
        let (choice, length) = (random.f64(), random.f64());
        planned.push(Planned { at, kind, node, choice, length });
        at += Duration::from_millis(random.u64(PAUSE_MS));
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_plan_and_every_kind_has_its_turn() {
        let kinds: Vec<Kind> = KINDS.iter().map(|row| row.kind).collect();
        let plan = |seed| super::plan(&mut Rng::with_seed(seed), &kinds, (FIRST * 60, 3));
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        for kind in kinds.iter() {
            assert!(plan(7).iter().any(|planned| planned.kind == *kind), "{kind:?}");
        }
        assert!(plan(7).windows(2).all(|two| two[1].at - two[0].at >= Duration::from_secs(5)));
    }

    #[test]
    fn nothing_is_planned_where_nothing_may_break() {
        assert_eq!(plan(&mut Rng::with_seed(7), &[], (FIRST * 60, 3)), []);
    }
}
