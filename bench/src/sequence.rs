//! Sequence numbers that a subscriber has received, to distinguish repeats from late arrivals.

/// Number of sequence numbers that are remembered below the highest one.
const SEEN_MAX: u32 = u64::BITS;

/// Sequence numbers received on one connection. It has 16 B, because a million of them are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    highest: u32,
    /// Bit `n` is set if `highest - n` was received.
    seen: u64,
}

/// The kind of arrival of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Above all earlier numbers. Skipped numbers may still arrive. Missing ones are found by the
    /// difference between published and received publications.
    New,
    /// Received for the first time, but after a later one.
    Late,
    /// Received again. Numbers too old to remember count as repeated, because no server delivers
    /// that late.
    Repeated,
}

impl Received {
    /// Records that `sequence` was received.
    pub(crate) fn arrive(&mut self, sequence: u32) -> Arrival {
        if sequence > self.highest {
            let step = sequence - self.highest;
            self.seen = self.seen.checked_shl(step).unwrap_or(0) | 1;
            self.highest = sequence;
            return Arrival::New;
        }
        let behind = self.highest - sequence;
        if behind >= SEEN_MAX || sequence == 0 || self.seen & (1 << behind) != 0 {
            return Arrival::Repeated;
        }
        self.seen |= 1 << behind;
        Arrival::Late
    }

    /// Returns the number after the highest one. The next frame without a mark has this number.
    pub(crate) fn following(&self) -> u32 {
        self.highest + 1
    }
}

/// Sums over many subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Publications received, each counted once for each subscriber.
    pub(crate) received: u64,
    /// Publications that were received again, or were never published.
    pub(crate) duplicates: u64,
    /// Publications that were received after a later one.
    pub(crate) reordered: u64,
}

impl Tally {
    pub(crate) fn merge(&mut self, other: Self) {
        self.received += other.received;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arrival::{Late, New, Repeated};

    fn check(arrivals: &[(u32, Arrival)]) {
        let mut received = Received::default();
        for (sequence, arrival) in arrivals {
            assert_eq!(received.arrive(*sequence), *arrival, "{sequence} of {arrivals:?}");
        }
    }

    #[test]
    fn each_way_to_arrive_is_told_from_the_others() {
        check(&[(1, New), (2, New), (3, New)]);
        check(&[(1, New), (1, Repeated), (2, New), (1, Repeated)]);
        check(&[(1, New), (3, New), (2, Late), (2, Repeated), (4, New)]);
        check(&[(1, New), (64, New), (2, Late), (1, Repeated), (65, New), (1, Repeated)]);
        check(&[(1, New), (1000, New), (999, Late), (937, Late), (936, Repeated)]);
        check(&[(0, Repeated), (1, New), (0, Repeated)]);
    }
}
