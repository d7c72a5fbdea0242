//! The shards with subscribers of a channel. A few are stored in the channel itself.

use crate::ids::ShardId;

/// A set of shards, without an order.
pub(super) enum Interested {
    /// A count and an array, which has the size of a list's header.
    Few(u8, [ShardId; FEW]),
    /// A list, for larger sets.
    Many(Vec<ShardId>),
}

const FEW: usize = 7;

const _: () = assert!(size_of::<Interested>() == size_of::<Vec<ShardId>>());

impl Default for Interested {
    fn default() -> Interested {
        Interested::Few(0, [ShardId::new(0); FEW])
    }
}

impl Interested {
    /// Returns the shards.
    pub(super) fn as_slice(&self) -> &[ShardId] {
        match self {
            Interested::Few(count, shards) => &shards[..usize::from(*count)],
            Interested::Many(shards) => shards,
        }
    }

    /// Whether the set is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Adds a shard, unless it is present.
    pub(super) fn add(&mut self, shard: ShardId) {
        if self.as_slice().contains(&shard) {
            return;
        }
        match self {
            Interested::Few(count, shards) if usize::from(*count) < FEW => {
                shards[usize::from(*count)] = shard;
                *count += 1;
            }
            Interested::Few(_, shards) => {
                let mut many = shards.to_vec();
                many.push(shard);
                *self = Interested::Many(many);
            }
            Interested::Many(shards) => shards.push(shard),
        }
    }

    /// Removes a shard, if it is present.
    pub(super) fn remove(&mut self, shard: ShardId) {
        let Some(at) = self.as_slice().iter().position(|&other| other == shard) else { return };
        match self {
            Interested::Few(count, shards) => {
                *count -= 1;
                shards.swap(at, usize::from(*count));
            }
            Interested::Many(shards) => {
                shards.swap_remove(at);
                if let Ok(few) = <[ShardId; FEW]>::try_from(shards.as_slice()) {
                    *self = Interested::Few(FEW as u8, few);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_come_and_go_in_any_number() {
        let mut interested = Interested::default();
        for round in 1..20 {
            (0..round).for_each(|shard| interested.add(ShardId::new(shard)));
            (0..round).for_each(|shard| interested.add(ShardId::new(shard)));
            assert_eq!(interested.as_slice().len(), round);
            (0..round).rev().for_each(|shard| interested.remove(ShardId::new(shard)));
            interested.remove(ShardId::new(0));
            assert!(interested.is_empty());
        }
    }
}
