//! The order in which publications are removed if memory is full: oldest first, over all channels.

use crate::collections::Queue;
use crate::ids::HomeId;
use crate::limits::{SIFT_SLACK, SIFTED_FOR_EACH};

/// A stored publication: its channel, the life of that channel, and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) channel: HomeId,
    pub(super) life: u32,
    pub(super) offset: u64,
}

/// Publications in the order of their age. Some entries may be stale: trimmed, expired, or of an
/// ended life. They are removed a few at a time, so that no publish waits for that.
#[derive(Default)]
pub(super) struct StoredOrder {
    /// Entries checked in the current or last pass. They are older than all others.
    sifted: Queue<Stored>,
    /// Entries to be checked. They are older than those added since the beginning of the pass.
    unsifted: Queue<Stored>,
    /// Entries added since the beginning of the pass.
    new: Queue<Stored>,
    /// Number of entries that the pass still has to check: all of `unsifted`, then the first of
    /// `new`.
    left: usize,
}

impl StoredOrder {
    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.sifted.len() + self.unsifted.len() + self.new.len()
    }

    /// Adds the newest publication.
    pub(super) fn push(&mut self, one: Stored) {
        self.new.push_back(one);
    }

    /// Checks a few entries for each of `count` added or removed publications. `live` is the number
    /// of kept publications, and `is_live` recognizes them.
    pub(super) fn sift(&mut self, count: usize, live: usize, is_live: impl Fn(Stored) -> bool) {
        if self.left == 0 {
            if self.len() <= 2 * live + SIFT_SLACK {
                return;
            }
            self.left = self.len();
            self.unsifted = std::mem::take(&mut self.sifted);
        }
        for _ in 0..(SIFTED_FOR_EACH * count).min(self.left) {
            self.left -= 1;
            let next = self.unsifted.pop_front().or_else(|| self.new.pop_front());
            if let Some(next) = next.filter(|next| is_live(*next)) {
                self.sifted.push_back(next);
            }
        }
    }

    /// Adds the oldest publication.
    pub(super) fn push_oldest(&mut self, one: Stored) {
        self.sifted.push_front(one);
    }

    /// Removes and returns the oldest publication.
    pub(super) fn pop(&mut self) -> Option<Stored> {
        if let Some(sifted) = self.sifted.pop_front() {
            return Some(sifted);
        }
        self.left = self.left.saturating_sub(1);
        self.unsifted.pop_front().or_else(|| self.new.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_stays_and_what_is_gone_does_not_pile_up() {
        let mut order = StoredOrder::default();
        let stored = |offset| Stored { channel: HomeId::new(0), life: 0, offset };
        // One entry in a thousand is live, so the others must be removed.
        let lives = |one: Stored| one.offset.is_multiple_of(1000);
        for offset in 0..1_000_000 {
            order.push(stored(offset));
            order.sift(1, 1_000, lives);
            assert!(order.len() <= 2 * 1_000 + SIFT_SLACK + SIFT_SLACK, "{} entries", order.len());
        }
        let mut left = Vec::new();
        while let Some(one) = order.pop() {
            left.push(one.offset);
        }
        assert!(left.is_sorted(), "the oldest goes first");
        let living = left.iter().filter(|offset| lives(stored(**offset))).count();
        assert_eq!(living, 1_000, "no live entry was lost");
    }
}
