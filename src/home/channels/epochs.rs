//! The epochs in which channels begin, where no bus says so.
//!
//! A channel that nobody has published to costs nothing once its last subscriber has left, and
//! still stands where it stood: its epoch is not kept but made again, from its name and a
//! generation. The generation belongs to a bucket of names. It is raised when a channel of the
//! bucket that had publications is forgotten, because that one must not begin again in an epoch in
//! which its offsets have been used. So a client that saw offset 0 of a channel finds the same
//! epoch again unless, in the meantime, a channel of the same bucket was forgotten together with
//! its publications; then it finds another one and is told of a gap. All of this is for channels
//! with history.

use crate::ids::Epoch;
use crate::limits::EPOCH_BUCKETS;
use crate::secret::KeyedHash;

/// An odd number: its multiples modulo 2^63 are all different.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes epochs.
pub(super) struct Epochs {
    epochs: KeyedHash,
    /// Hashes with another key, so that epochs tell nobody which names share a bucket.
    buckets: KeyedHash,
    generations: Vec<u32>,
    /// What the last fresh epoch was made from.
    last: u64,
}

impl Epochs {
    /// Epochs of a shard. `seed` differs between shards and processes.
    pub(super) fn new(seed: u64) -> Epochs {
        Epochs {
            epochs: KeyedHash::new(mix(seed), mix(mix(seed) ^ STEP)),
            buckets: KeyedHash::new(mix(mix(seed) ^ STEP), mix(seed)),
            generations: Vec::new(),
            last: seed,
        }
    }

    /// An epoch that no channel has had, for one without history: nobody recovers there, so it need
    /// not be found again, and the channel is forgotten with its last listener.
    pub(super) fn fresh(&mut self) -> Epoch {
        self.last = self.last.wrapping_add(STEP);
        Epoch::new(mix(self.last))
    }

    /// The epoch in which the channel called `name` begins at present.
    pub(super) fn of(&self, name: &str) -> Epoch {
        let generation = self.generations.get(self.bucket(name)).copied().unwrap_or(0);
        // For one name every generation gives another value, since no step here merges two.
        let step = STEP.wrapping_mul(u64::from(generation));
        Epoch::new(mix(self.epochs.of(name.as_bytes()).wrapping_add(step)))
    }

    /// The channel called `name` is forgotten, and there are positions of it that must not come
    /// again.
    pub(super) fn raise(&mut self, name: &str) {
        if crate::sabotage!(RepeatedEpoch) {
            return;
        }
        if self.generations.is_empty() {
            self.generations = vec![0; EPOCH_BUCKETS];
        }
        let bucket = self.bucket(name);
        // 2^32 times in one bucket are 2^48 in all: more than a process can forget.
        self.generations[bucket] = self.generations[bucket].wrapping_add(1);
    }

    fn bucket(&self, name: &str) -> usize {
        self.buckets.of(name.as_bytes()) as usize % EPOCH_BUCKETS
    }
}

/// Splitmix64's last steps on 63 bits: a bijection of these in which every bit depends on all. The
/// highest bit is always set, so that every epoch is as long as text.
fn mix(value: u64) -> u64 {
    const BITS: u64 = u64::MAX >> 1;
    let mut value = value & BITS;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9) & BITS;
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) & BITS;
    value ^ (value >> 31) | !BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_same_epoch_until_it_is_raised_and_never_an_old_one() {
        let mut epochs = Epochs::new(7);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            assert_eq!(epochs.of("a"), epochs.of("a"));
            assert!(seen.insert(epochs.of("a")), "an epoch came twice");
            epochs.raise("a");
        }
        assert_ne!(Epochs::new(8).of("a"), Epochs::new(7).of("a"), "processes differ");
    }

    #[test]
    fn raising_one_name_leaves_nearly_all_others_alone() {
        let mut epochs = Epochs::new(7);
        let names: Vec<String> = (0..10_000).map(|n| format!("name {n}")).collect();
        let before: Vec<Epoch> = names.iter().map(|name| epochs.of(name)).collect();
        epochs.raise("other");
        let same = names.iter().zip(before).filter(|(name, epoch)| epochs.of(name) == *epoch);
        assert!(same.count() > 9_990);
    }
}
