//! State shared by the controller and its workers: counters with one writer each, and the rounds of
//! outstanding publications. Wakes use thread parking, which needs no descriptor: with private
//! tables, a descriptor's number is meaningless in another thread.

use crate::latency::Latencies;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};

/// Maximum number of outstanding publications: 13 s of them at 5,000 per second.
pub(crate) const OUTSTANDING_MAX: u32 = 1 << 16;

/// State shared by all threads of one fleet.
pub(crate) struct Shared {
    pub(super) stop: AtomicBool,
    /// The fleet is not measured at the moment, so its threads sleep even if they could spin.
    pub(super) resting: AtomicBool,
    /// Connections are closed and reopened at the plan's rate.
    pub(super) churning: AtomicBool,
    /// Connections are read at the plan's slow rate.
    pub(super) dawdling: AtomicBool,
    pub(super) gauges: Box<[Gauge]>,
    pub(super) rounds: Rounds,
    /// Latencies since the last cut, from workers that have handed them over.
    pub(super) cut: Mutex<Cut>,
    controller: Thread,
}

/// Latencies of one interval of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    /// Times from the due time of a publication to each receipt.
    pub(crate) deliveries: Latencies,
    /// Times from connecting to the subscription.
    pub(crate) handshakes: Latencies,
    /// The longest time between two polls of a worker, by which its clock may have been late.
    pub(crate) longest_turn_ns: u64,
}

impl Cut {
    pub(super) fn merge(&mut self, other: &Self) {
        self.deliveries.merge(&other.deliveries);
        self.handshakes.merge(&other.handshakes);
        self.longest_turn_ns = self.longest_turn_ns.max(other.longest_turn_ns);
    }
}

/// One worker's counters. Each has its own pair of cache lines, so that workers don't slow each
/// other.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Gauge {
    /// Number of connections to have open, including failed ones. Written by the controller.
    pub(super) target: AtomicUsize,
    /// Number of cuts that the controller has requested.
    pub(super) cuts_wanted: AtomicU32,
    /// Number of cuts that the worker has made.
    pub(super) cuts_made: AtomicU32,
    /// Time at which the first connection of this ramp was started; 0 before.
    pub(super) first_begun_ns: AtomicU64,
    /// Time of the last subscription.
    pub(super) last_opened_ns: AtomicU64,
    /// Connections that are open and subscribed.
    pub(super) established: AtomicU64,
    /// Connections that failed, before or after they were subscribed.
    pub(super) failed: AtomicU64,
    /// Connections that ended unexpectedly after they were subscribed.
    pub(super) lost: AtomicU64,
    /// Connections that were closed and reopened.
    pub(super) recycled: AtomicU64,
    /// Publications received, counted once per subscriber.
    pub(super) received: AtomicU64,
    /// Time spent on events while spinning, in nanoseconds.
    pub(super) busy_ns: AtomicU64,
}

/// Sums of all gauges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) established: u64,
    pub(crate) failed: u64,
    pub(crate) lost: u64,
    pub(crate) recycled: u64,
    pub(crate) received: u64,
}

impl Shared {
    /// Creates the state for `threads` workers, with the calling thread as their controller.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            stop: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            churning: AtomicBool::new(false),
            dawdling: AtomicBool::new(false),
            gauges: (0..threads).map(|_| Gauge::default()).collect(),
            rounds: Rounds::default(),
            cut: Mutex::default(),
            controller: thread::current(),
        }
    }

    pub(super) fn wake_controller(&self) {
        self.controller.unpark();
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for gauge in &self.gauges {
            totals.established += gauge.established.load(Ordering::Acquire);
            totals.failed += gauge.failed.load(Ordering::Acquire);
            totals.lost += gauge.lost.load(Ordering::Acquire);
            totals.recycled += gauge.recycled.load(Ordering::Acquire);
            totals.received += gauge.received.load(Ordering::Acquire);
        }
        totals
    }
}

/// Outstanding publications, numbered from 1 across all channels. Each has a place, which is reused
/// by the publication [`OUTSTANDING_MAX`] later. By then the earlier one is complete.
pub(super) struct Rounds {
    places: Box<[Place]>,
    published: AtomicU32,
}

#[derive(Default)]
#[repr(align(32))]
struct Place {
    sent_ns: AtomicU64,
    receivers: AtomicU64,
    received: AtomicU64,
    last_ns: AtomicU64,
}

impl Default for Rounds {
    fn default() -> Self {
        Self {
            places: (0..OUTSTANDING_MAX).map(|_| Place::default()).collect(),
            published: AtomicU32::new(0),
        }
    }
}

impl Rounds {
    /// Starts the round of publication `number`, before it is published.
    pub(super) fn begin(&self, number: u32, sent_ns: u64, receivers: u64) {
        let place = self.place(number);
        place.received.store(0, Ordering::Relaxed);
        place.last_ns.store(0, Ordering::Relaxed);
        place.sent_ns.store(sent_ns, Ordering::Relaxed);
        place.receivers.store(receivers, Ordering::Relaxed);
        self.published.store(number, Ordering::Release);
    }

    /// Adds `count` receipts, the last of them at `last_ns`. Returns whether this completes the
    /// round.
    pub(super) fn add(&self, number: u32, count: u64, last_ns: u64) -> bool {
        let place = self.place(number);
        place.last_ns.fetch_max(last_ns, Ordering::AcqRel);
        let before = place.received.fetch_add(count, Ordering::AcqRel);
        before + count >= place.receivers.load(Ordering::Relaxed)
    }

    /// Returns the time from sending to the last receipt in nanoseconds, once the round is
    /// complete.
    pub(super) fn complete_ns(&self, number: u32) -> Option<u64> {
        let place = self.place(number);
        if place.received.load(Ordering::Acquire) < place.receivers.load(Ordering::Relaxed) {
            return None;
        }
        let last_ns = place.last_ns.load(Ordering::Acquire);
        Some(last_ns.saturating_sub(place.sent_ns.load(Ordering::Relaxed)))
    }

    /// Returns the due time of publication `number`, while it is outstanding.
    pub(super) fn sent_ns(&self, number: u32) -> u64 {
        self.place(number).sent_ns.load(Ordering::Relaxed)
    }

    /// Returns the number of receivers of publication `number`, while it is outstanding.
    pub(super) fn receivers(&self, number: u32) -> u64 {
        self.place(number).receivers.load(Ordering::Relaxed)
    }

    /// Returns the number of the last publication.
    pub(super) fn published(&self) -> u32 {
        self.published.load(Ordering::Acquire)
    }

    fn place(&self, number: u32) -> &Place {
        &self.places[(number % OUTSTANDING_MAX) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_complete_with_the_last_receiver() {
        let rounds = Rounds::default();
        rounds.begin(1, 1000, 10);
        assert_eq!((rounds.published(), rounds.complete_ns(1)), (1, None));
        assert!(!rounds.add(1, 9, 5000));
        assert_eq!(rounds.complete_ns(1), None);
        assert!(rounds.add(1, 1, 4000));
        assert_eq!(rounds.complete_ns(1), Some(4000));
    }

    #[test]
    fn a_place_is_fresh_when_it_is_taken_again() {
        let rounds = Rounds::default();
        rounds.begin(1, 0, 1);
        assert!(rounds.add(1, 1, 10));
        rounds.begin(1 + OUTSTANDING_MAX, 20, 1);
        assert_eq!(rounds.complete_ns(1 + OUTSTANDING_MAX), None);
        assert_eq!(rounds.sent_ns(1 + OUTSTANDING_MAX), 20);
    }
}
