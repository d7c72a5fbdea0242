//! The epochs in which channels begin if there is no bus.
//!
//! A channel without publications costs nothing after its last subscriber has left, and still keeps
//! its position. Its epoch is not stored but computed again, from its name and a generation. Each
//! bucket of names has one generation. It is incremented when a channel of the bucket with used
//! offsets is removed, because the channel must not begin again in the same epoch. So a client that
//! saw offset 0 of a channel finds the same epoch again, unless another channel of its bucket was
//! removed after publications. Then it finds another epoch and is told about a gap. All this only
//! concerns channels with history.

use crate::ids::Epoch;
use crate::limits::EPOCH_BUCKETS;
use crate::secret::KeyedHash;

/// An odd number, so that all its multiples modulo 2^63 are different.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Computes epochs.
pub(super) struct Epochs {
    epochs: KeyedHash,
    /// Hash with another key, so that epochs do not reveal which names share a bucket.
    buckets: KeyedHash,
    generations: Vec<u32>,
    /// The value from which the last fresh epoch was computed.
    last: u64,
}

impl Epochs {
    /// Creates the epochs of a shard. `seed` must differ between shards and processes.
    pub(super) fn new(seed: u64) -> Epochs {
        Epochs {
            epochs: KeyedHash::new(mix(seed), mix(mix(seed) ^ STEP)),
            buckets: KeyedHash::new(mix(mix(seed) ^ STEP), mix(seed)),
            generations: Vec::new(),
            last: seed,
        }
    }

    /// Returns an epoch that no channel has had, for a channel without history. No client recovers
    /// there, so the epoch is not needed again, and the channel is removed with its last listener.
    pub(super) fn fresh(&mut self) -> Epoch {
        self.last = self.last.wrapping_add(STEP);
        Epoch::new(mix(self.last))
    }

    /// Returns the epoch in which the channel `name` would begin now.
    pub(super) fn of(&self, name: &str) -> Epoch {
        let generation = self.generations.get(self.bucket(name)).copied().unwrap_or(0);
        // Each generation gives a different value for a name, because all steps are injective.
        let step = STEP.wrapping_mul(u64::from(generation));
        Epoch::new(mix(self.epochs.of(name.as_bytes()).wrapping_add(step)))
    }

    /// Increments the generation, because the channel `name` is removed and its positions must not
    /// be assigned again.
    pub(super) fn raise(&mut self, name: &str) {
        if crate::sabotage!(RepeatedEpoch) {
            return;
        }
        if self.generations.is_empty() {
            self.generations = vec![0; EPOCH_BUCKETS];
        }
        let bucket = self.bucket(name);
        // 2^32 removals in one bucket mean 2^48 in all, which no process reaches.
        self.generations[bucket] = self.generations[bucket].wrapping_add(1);
    }

    fn bucket(&self, name: &str) -> usize {
        self.buckets.of(name.as_bytes()) as usize % EPOCH_BUCKETS
    }
}

/// The last steps of Splitmix64 on 63 bits: a bijection in which every output bit depends on all
/// input bits. The highest bit is always set, so that all epochs have the same length as text.
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
            assert!(seen.insert(epochs.of("a")), "an epoch was used twice");
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
