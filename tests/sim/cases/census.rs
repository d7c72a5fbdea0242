//! Counts the events in random schedules, because a simulation that no longer causes a fault would
//! still pass.

use corecast::metrics::{Counter, ShardCounters};
use corecast::reason::{CloseReason, Refusal};

use crate::sim::schedule::{Outcome, play};

/// Number of schedules, in which every possible event must occur.
const SCHEDULES: u64 = 800;

/// Reasons that occur in no schedule. Clients that behave stay far below the limits of rates and
/// channels, nothing panics, every publisher has permission, and nobody presents a token. So few
/// clients do not use up the memory for outboxes (`slow_clients` does that).
const ABSENT: [CloseReason; 7] = [
    CloseReason::InternalError,
    CloseReason::TooManyRequests,
    CloseReason::InvalidToken,
    CloseReason::ChannelLimit,
    CloseReason::PermissionDenied,
    CloseReason::OutboxesFull,
    // There is no bus.
    CloseReason::BusUnavailable,
];

#[test]
fn schedules_bring_about_everything_that_may_happen() {
    let outcomes: Vec<Outcome> = (0..SCHEDULES).map(play).collect();
    let sum = |counter: fn(&ShardCounters) -> &Counter| -> u64 {
        let counters = outcomes.iter().flat_map(|outcome| &outcome.counters);
        counters.map(|counters| counter(counters).value()).sum()
    };
    for &reason in CloseReason::ALL.iter().filter(|reason| !ABSENT.contains(reason)) {
        let counters = outcomes.iter().flat_map(|outcome| &outcome.counters);
        let count: u64 = counters.map(|counters| counters.closes[reason as usize].value()).sum();
        println!("{reason:?}: {count}");
        // Sockets that do not become connections have separate counters.
        let apart = matches!(reason, CloseReason::HandshakeTimeout | CloseReason::Refused);
        assert!(count > 0 || apart, "{reason:?} never happens");
    }
    let refused: u64 = Refusal::ALL
        .iter()
        .filter(|refusal| refusal.result() == "refused")
        .map(|refusal| {
            let counters = outcomes.iter().flat_map(|outcome| &outcome.counters);
            counters.map(|counters| counters.refusals[*refusal as usize].value()).sum::<u64>()
        })
        .sum();
    for (what, count) in [
        ("slow clients miss something", sum(|counters| &counters.drops[0])),
        ("a spill is full", sum(|counters| &counters.drops[1])),
        ("a recovery succeeds", sum(|counters| &counters.recoveries_ok)),
        ("a recovery fails", sum(|counters| &counters.recoveries_failed)),
        ("a request is refused", refused),
        ("a request comes too late", sum(|counters| &counters.refusals[Refusal::Timeout as usize])),
        ("a client publishes", sum(|counters| &counters.publications_client)),
        ("the application publishes", sum(|counters| &counters.publications_api)),
        ("a publication is delivered", sum(|counters| &counters.deliveries)),
        ("a key finds no room", outcomes.iter().map(|outcome| outcome.keys_refused).sum()),
    ] {
        println!("{what}: {count}");
        assert!(count > 0, "it never happens that {what}");
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..50 {
        assert_eq!(play(seed).digest, play(seed).digest, "seed {seed}");
    }
}
