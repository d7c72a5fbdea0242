//! The memory for outboxes. The node has a fixed amount, which shards lease in blocks as they need
//! it. A shard that gets no further block closes the fullest of its own outboxes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::collections::Bitmap;
use crate::connection::{Accounts, Outbox, Slots};
use crate::ids::Slot;
use crate::limits::{BLOCK_SHARE, OUTBOXES_BLOCK_BYTES_MAX, OUTBOXES_BLOCK_BYTES_MIN};

/// The memory of the node that no shard has leased.
#[derive(Clone, Debug)]
pub struct OutboxLeases {
    blocks: Arc<AtomicUsize>,
    block_bytes: usize,
}

impl OutboxLeases {
    /// Creates leases for `bytes_max` bytes in the outboxes of `shards` shards. Blocks are small
    /// compared with the total, so a shard that needs little memory withholds little from a busy
    /// one.
    pub fn new(bytes_max: usize, shards: usize) -> OutboxLeases {
        let block_bytes = (bytes_max / (BLOCK_SHARE * shards))
            .clamp(OUTBOXES_BLOCK_BYTES_MIN, OUTBOXES_BLOCK_BYTES_MAX);
        let blocks = Arc::new(AtomicUsize::new(bytes_max / block_bytes));
        OutboxLeases { blocks, block_bytes }
    }

    fn take(&self) -> bool {
        let update = |blocks: usize| blocks.checked_sub(1);
        // `Relaxed` is enough, because the counter guards no other memory.
        self.blocks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok()
    }

    fn give_back(&self, blocks: usize) {
        assert!(blocks > 0, "a shard must return at least one block");
        self.blocks.fetch_add(blocks, Ordering::Relaxed);
    }

    /// Number of blocks that no shard has leased. For tests.
    pub fn blocks_left(&self) -> usize {
        self.blocks.load(Ordering::Relaxed)
    }
}

/// The memory that a shard's outboxes use, and the memory that it has leased for them.
pub(super) struct Budget {
    leases: OutboxLeases,
    /// Number of leased blocks.
    blocks: usize,
    pub(super) accounts: Accounts,
    by_memory: Ranks,
    by_cost: Ranks,
}

impl Budget {
    /// Creates a budget with one block, which is spare until it is used. With it the shard can
    /// answer its clients even when another shard has leased all the rest.
    pub(super) fn new(leases: OutboxLeases) -> Budget {
        Budget {
            blocks: usize::from(leases.take()),
            leases,
            accounts: Accounts::default(),
            by_memory: Ranks::default(),
            by_cost: Ranks::default(),
        }
    }

    /// Records that an outbox has changed its size.
    pub(super) fn rank(&mut self, slot: Slot, outbox: &mut Outbox) {
        let (memory, cost) = (outbox.memory_bytes(), outbox.cost_bytes());
        let [by_memory, by_cost] = outbox.ranks_mut();
        self.by_memory.put(slot, by_memory, memory);
        self.by_cost.put(slot, by_cost, cost);
    }

    /// Leases enough blocks for the present size of the outboxes and `more` bytes. Returns false if
    /// the node has no more.
    fn cover(&mut self, more: usize) -> bool {
        while self.accounts.bytes() + more > self.blocks * self.leases.block_bytes {
            if !self.leases.take() {
                return false;
            }
            self.blocks += 1;
        }
        self.assert_covered();
        true
    }

    /// Gives back all blocks that are not needed, except one.
    pub(super) fn give_back(&mut self) {
        let needed = self.accounts.bytes().div_ceil(self.leases.block_bytes);
        let spare = self.blocks.saturating_sub(needed + 1);
        if spare > 0 {
            self.blocks -= spare;
            self.leases.give_back(spare + usize::from(crate::sabotage!(LeaseTwiceGivenBack)));
        }
        self.assert_covered();
        assert!(self.blocks <= needed + 1, "a shard keeps one spare block at most");
    }

    fn assert_covered(&self) {
        let leased_bytes = self.blocks * self.leases.block_bytes;
        assert!(self.accounts.bytes() <= leased_bytes, "outboxes use only leased memory");
    }

    /// Leases enough memory for the present size of the outboxes and `more` bytes. If the node has
    /// no more, returns the fullest outbox: the caller must close its connection and call this
    /// again.
    pub(super) fn beyond(&mut self, more: usize) -> Option<Slot> {
        if self.cover(more) { None } else { self.fullest() }
    }

    /// Recounts the memory of all outboxes. Returns the number of stored values that are wrong, and
    /// the number of leased blocks. For audits.
    pub(super) fn audit(&self, slots: &mut Slots) -> (usize, usize) {
        let (mut errors, mut own) = (0, 0);
        let mut shared = std::collections::BTreeMap::new();
        for at in 0..slots.reached() {
            let Some(connection) = slots.at(Slot::new(at)) else { continue };
            let Some(busy) = connection.busy.as_ref() else { continue };
            errors += usize::from(!busy.outbox.is_consistent());
            own += busy.outbox.memory_bytes();
            shared.extend(busy.outbox.shared());
        }
        let accounts = &self.accounts;
        errors += usize::from(accounts.own_bytes() != own);
        errors += usize::from(accounts.shared_bytes() != shared.values().sum::<usize>());
        let room = self.blocks * self.leases.block_bytes;
        (errors + usize::from(accounts.bytes() > room), self.blocks)
    }

    /// The outbox to close first. If most memory belongs to single outboxes, it is the one with the
    /// most memory of its own. If most memory is in shared frames, it is the one with the largest
    /// cost, because it keeps the most frames in memory.
    fn fullest(&mut self) -> Option<Slot> {
        let own = self.accounts.own_bytes() >= self.accounts.shared_bytes();
        if own { self.by_memory.largest() } else { self.by_cost.largest() }
    }
}

/// Outboxes by the power of two of their size, so that the fullest is found without a search.
#[derive(Default)]
struct Ranks {
    members: [Bitmap; Ranks::COUNT],
    /// The slot after the last one found, for each rank.
    hands: [usize; Ranks::COUNT],
}

impl Ranks {
    /// Number of ranks. Rank 0 is for empty outboxes, which are in no set; the last one is for 1
    /// GiB and more.
    const COUNT: usize = 22;

    fn of(bytes: usize) -> u8 {
        match bytes.checked_ilog2() {
            None => 0,
            Some(log) => log.clamp(10, 30) as u8 - 9,
        }
    }

    fn put(&mut self, slot: Slot, rank: &mut u8, bytes: usize) {
        let now = Ranks::of(bytes);
        if now == *rank {
            return;
        }
        if *rank > 0 {
            self.members[usize::from(*rank)].remove(slot.index());
        }
        if now > 0 {
            self.members[usize::from(now)].insert(slot.index());
        }
        *rank = now;
    }

    fn largest(&mut self) -> Option<Slot> {
        let rank = (1..Ranks::COUNT).rev().find(|&rank| !self.members[rank].is_empty())?;
        // Searches continue where the last one ended, so that many searches together pass each slot
        // only once.
        let members = &self.members[rank];
        let found = members.first_from(self.hands[rank]).or_else(|| members.first_from(0))?;
        self.hands[rank] = found + 1;
        Some(Slot::new(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(leases: &OutboxLeases) -> Budget {
        Budget::new(leases.clone())
    }

    fn push(budget: &mut Budget, slot: usize, outbox: &mut Outbox, bytes: usize) {
        outbox.push_own(&vec![b'x'; bytes], &mut budget.accounts);
        budget.rank(Slot::new(slot), outbox);
    }

    #[test]
    fn one_shard_of_many_gets_nearly_all_and_gives_it_back() {
        let leases = OutboxLeases::new(64 << 20, 54);
        let all = leases.blocks_left();
        let mut idle: Vec<Budget> = (0..53).map(|_| budget(&leases)).collect();
        for one in &mut idle {
            let mut outbox = Outbox::default();
            push(one, 0, &mut outbox, 100);
            assert!(one.cover(0));
            outbox.clear(&mut one.accounts);
            one.give_back();
        }
        let mut busy = budget(&leases);
        let mut outbox = Outbox::default();
        let mut bytes = 0;
        while busy.cover(0) {
            bytes = busy.accounts.bytes();
            push(&mut busy, 0, &mut outbox, 10_000);
        }
        assert!(bytes > 60 << 20, "{bytes} B of 64 MiB");
        outbox.clear(&mut busy.accounts);
        busy.give_back();
        assert_eq!(leases.blocks_left(), all - 54, "each keeps one spare block");
    }

    #[test]
    fn a_shard_has_room_for_its_first_answers_though_another_one_has_taken_all() {
        let leases = OutboxLeases::new(1 << 20, 2);
        let mut new = budget(&leases);
        let mut busy = budget(&leases);
        while busy.cover(0) {
            push(&mut busy, 0, &mut Outbox::default(), 10_000);
        }
        assert_eq!(leases.blocks_left(), 0);
        push(&mut new, 0, &mut Outbox::default(), 1000);
        assert!(new.cover(0), "it has had a block from the start");
    }

    #[test]
    fn the_fullest_is_found_whatever_has_come_and_gone() {
        let leases = OutboxLeases::new(1 << 20, 1);
        let mut budget = budget(&leases);
        let mut outboxes: Vec<Outbox> = (0..1000).map(|_| Outbox::default()).collect();
        for (slot, outbox) in outboxes.iter_mut().enumerate() {
            push(&mut budget, slot, outbox, 1 + slot * 37 % 1000);
        }
        push(&mut budget, 700, &mut outboxes[700], 300_000);
        assert_eq!(budget.fullest(), Some(Slot::new(700)));
        outboxes[700].clear(&mut budget.accounts);
        budget.rank(Slot::new(700), &mut outboxes[700]);
        let found = budget.fullest().expect("other connections have an outbox");
        assert_ne!(found, Slot::new(700));
        for (slot, outbox) in outboxes.iter_mut().enumerate() {
            outbox.clear(&mut budget.accounts);
            budget.rank(Slot::new(slot), outbox);
        }
        assert_eq!(budget.fullest(), None);
        assert_eq!(budget.accounts.bytes(), 0);
    }

    #[test]
    fn where_most_is_shared_who_waits_for_most_of_it_goes_first() {
        let leases = OutboxLeases::new(1 << 20, 1);
        let mut budget = budget(&leases);
        let (mut own, mut sharing) = (Outbox::default(), Outbox::default());
        push(&mut budget, 1, &mut own, 50_000);
        for length in [400_000, 300_000] {
            let frames = crate::connection::Frames::new(vec![0x80; length]);
            sharing.push_shared(frames, &mut budget.accounts);
            budget.rank(Slot::new(2), &mut sharing);
        }
        assert_eq!(budget.fullest(), Some(Slot::new(2)));
        push(&mut budget, 1, &mut own, 700_000);
        assert_eq!(budget.fullest(), Some(Slot::new(1)));
    }
}
