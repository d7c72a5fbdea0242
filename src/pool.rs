//! Limits of the node that its shards share. Each shard takes blocks from one count and returns
//! unused blocks, so shards may have different numbers of clients and channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::BLOCK_SHARE;

/// The part of a limit that no shard has taken.
#[derive(Clone, Debug)]
pub struct Pool {
    left: Arc<AtomicUsize>,
    block: usize,
}

impl Pool {
    /// Creates a pool of `total` for `shards` shards. A block is at most `block_max`, and smaller
    /// for a small `total`, so that no shard holds back units that another one needs. Shards hold
    /// at most 1/16 of `total` in reserve, and none if a block is 1.
    pub fn new(total: usize, shards: usize, block_max: usize) -> Pool {
        let block = (total / (BLOCK_SHARE * shards.max(1))).clamp(1, block_max.max(1));
        Pool { left: Arc::new(AtomicUsize::new(total)), block }
    }

    /// Returns the part that no shard has taken.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes `count`, or less if there is not enough. Returns the taken part.
    fn take(&self, count: usize) -> usize {
        let update = |left: usize| (left > 0).then(|| left.saturating_sub(count));
        // `Relaxed` is enough, because the number guards no other memory.
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        before.map_or(0, |before| before.min(count))
    }

    fn give_back(&self, count: usize) {
        self.left.fetch_add(count, Ordering::Relaxed);
    }
}

/// The part of a pool that one shard has taken.
#[derive(Debug)]
pub struct Share {
    pool: Pool,
    taken: usize,
}

impl Share {
    /// Creates an empty share of `pool`.
    pub fn new(pool: Pool) -> Share {
        Share { pool, taken: 0 }
    }

    /// Takes blocks until the share is at least `used`. Returns false if the pool is exhausted.
    pub fn reach(&mut self, used: usize) -> bool {
        while self.taken < used {
            let taken = self.pool.take(self.pool.block);
            if taken == 0 {
                return false;
            }
            self.taken += taken;
        }
        true
    }

    /// Returns the part beyond `used` to the pool. It keeps less than two blocks, so that not every
    /// change touches the pool. If a block is 1, it keeps nothing.
    pub fn settle(&mut self, used: usize) {
        assert!(used <= self.taken, "a shard uses only the part of a limit that it has taken");
        while self.taken + 1 >= used + 2 * self.pool.block {
            self.taken -= self.pool.block;
            self.pool.give_back(self.pool.block);
        }
        assert!(used <= self.taken, "a shard returns only what it does not use");
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.give_back(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_may_take_nearly_all_and_others_what_it_gives_back() {
        let pool = Pool::new(1000, 4, 64);
        let (mut one, mut other) = (Share::new(pool.clone()), Share::new(pool.clone()));
        assert!(one.reach(1000));
        assert!(!one.reach(1001) && !other.reach(1));
        one.settle(900);
        assert!(other.reach(30), "the returned part is available");
        assert!(!other.reach(100));
        one.settle(0);
        assert!(other.reach(900));
        drop((one, other));
        assert_eq!(pool.left(), 1000, "nothing is lost");
    }

    #[test]
    fn what_shards_have_to_spare_is_a_16th_at_most_and_nothing_of_a_small_bound() {
        for (total, shards) in [(10, 4), (100, 4), (1000, 8), (100_000, 8)] {
            let pool = Pool::new(total, shards, usize::MAX);
            let mut all: Vec<Share> = (0..shards).map(|_| Share::new(pool.clone())).collect();
            for share in &mut all {
                assert!(share.reach(total / shards));
                share.settle(0);
            }
            let (one, spare) = (&mut all[0], if total <= 100 { 0 } else { total / 16 });
            assert!(one.reach(total - spare), "{total} of {shards} shards");
        }
    }
}
