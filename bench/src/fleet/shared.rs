//! What the controller and its workers share: counters with one writer each, and the rounds of
//! publications under way. Wakes go through thread parking, which needs no descriptor: with
//! private tables a descriptor's number means nothing in another thread.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};

/// Most publications that may be under way at once.
pub(crate) const OUTSTANDING_MAX: u32 = 256;

/// State shared by all threads of one fleet.
pub(crate) struct Shared {
    pub(super) stop: AtomicBool,
    pub(super) gauges: Box<[Gauge]>,
    pub(super) rounds: Rounds,
    controller: Thread,
}

/// One worker's counters. A cache line pair each, or the workers would slow each other.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Gauge {
    /// Connections to have opened, failed ones included. Written by the controller.
    pub(super) target: AtomicUsize,
    /// Connections that reached their subscription.
    pub(super) established: AtomicU64,
    /// Connections that never did.
    pub(super) failed: AtomicU64,
    /// Connections that ended after they had.
    pub(super) lost: AtomicU64,
    /// Publications received, each counted once for each subscriber.
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
    pub(crate) received: u64,
}

impl Shared {
    /// State for `threads` workers, with the calling thread as their controller.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            stop: AtomicBool::new(false),
            gauges: (0..threads).map(|_| Gauge::default()).collect(),
            rounds: Rounds::default(),
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
            totals.received += gauge.received.load(Ordering::Acquire);
        }
        totals
    }
}

/// Publications under way. Each has a place, which the publication [`OUTSTANDING_MAX`] later takes
/// over; by then the earlier one is complete.
pub(super) struct Rounds {
    places: Box<[Place]>,
    /// Receivers that complete a publication.
    receivers: AtomicU64,
    published: AtomicU32,
}

#[derive(Default)]
#[repr(align(64))]
struct Place {
    sent_ns: AtomicU64,
    received: AtomicU64,
    last_ns: AtomicU64,
}

impl Default for Rounds {
    fn default() -> Self {
        Self {
            places: (0..OUTSTANDING_MAX).map(|_| Place::default()).collect(),
            receivers: AtomicU64::new(0),
            published: AtomicU32::new(0),
        }
    }
}

impl Rounds {
    /// Opens the round of `sequence`, before it is published.
    pub(super) fn begin(&self, sequence: u32, sent_ns: u64, receivers: u64) {
        let place = self.place(sequence);
        place.received.store(0, Ordering::Relaxed);
        place.last_ns.store(0, Ordering::Relaxed);
        place.sent_ns.store(sent_ns, Ordering::Relaxed);
        self.receivers.store(receivers, Ordering::Relaxed);
        self.published.store(sequence, Ordering::Release);
    }

    /// Adds `count` receipts, the last of them at `last_ns`; whether that completes the round.
    pub(super) fn add(&self, sequence: u32, count: u64, last_ns: u64) -> bool {
        let place = self.place(sequence);
        place.last_ns.fetch_max(last_ns, Ordering::AcqRel);
        let before = place.received.fetch_add(count, Ordering::AcqRel);
        before + count >= self.receivers.load(Ordering::Relaxed)
    }

    /// Time from sending to the last receipt, in nanoseconds, once the round is complete.
    pub(super) fn complete_ns(&self, sequence: u32) -> Option<u64> {
        let place = self.place(sequence);
        let complete =
            place.received.load(Ordering::Acquire) >= self.receivers.load(Ordering::Relaxed);
        let last_ns = place.last_ns.load(Ordering::Acquire);
        complete.then(|| last_ns.saturating_sub(self.sent_ns(sequence)))
    }

    /// The highest sequence number published.
    pub(super) fn published(&self) -> u32 {
        self.published.load(Ordering::Acquire)
    }

    pub(super) fn sent_ns(&self, sequence: u32) -> u64 {
        self.place(sequence).sent_ns.load(Ordering::Relaxed)
    }

    fn place(&self, sequence: u32) -> &Place {
        &self.places[(sequence % OUTSTANDING_MAX) as usize]
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
