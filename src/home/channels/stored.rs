//! The order in which publications are dropped for want of bytes: oldest first, over all channels.

use crate::collections::Queue;
use crate::limits::{SIFT_SLACK, SIFTED_FOR_EACH};

/// A publication that was stored: the place of its channel, which life of that place, its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) place: u32,
    pub(super) life: u32,
    pub(super) offset: u64,
}

/// Publications in the order of their age. Some may be gone already: trimmed, expired, or of a life
/// that has ended. These are sifted out a few at a time, so that no publish waits for it.
#[derive(Default)]
pub(super) struct StoredOrder {
    /// Sifted in the pass that is under way, or in the last one. Older than all others.
    sifted: Queue<Stored>,
    /// Still to be sifted, and older than those that came since the pass began.
    unsifted: Queue<Stored>,
    /// Came since.
    new: Queue<Stored>,
    /// How many the pass has still to look at: all of `unsifted`, then the first of `new`.
    left: usize,
}

impl StoredOrder {
    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.sifted.len() + self.unsifted.len() + self.new.len()
    }

    /// Adds the newest.
    pub(super) fn push(&mut self, one: Stored) {
        self.new.push_back(one);
    }

    /// So many publications have come or gone, so a few times as many entries are looked at. `live`
    /// publications are kept in all; `is_live` says which.
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

    /// Adds the oldest.
    pub(super) fn push_oldest(&mut self, one: Stored) {
        self.sifted.push_front(one);
    }

    /// Takes the oldest.
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
        let stored = |offset| Stored { place: 0, life: 0, offset };
        // One in a thousand lives, so the rest must go.
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
        assert_eq!(living, 1_000, "and none that lives was lost");
    }
}
