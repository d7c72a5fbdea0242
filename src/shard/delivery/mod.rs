//! Delivery: from the publications of home shards to writes on sockets.
//!
//! [`Delivery`] owns the channels with subscribers here, what is on its way to them, the marks of
//! the connections that are still to be sent something, and the memory of all outboxes. It closes
//! nobody: it returns the connections that must be closed or told of a gap, so no call from here
//! comes back.

mod budget;
mod channels;
mod fanout;
mod gap;
mod outboxes;
mod retry;
mod subscribers;
mod sweep;

pub use budget::OutboxLeases;
pub(super) use channels::Subscriber;
pub(super) use fanout::Step;
pub(super) use gap::{Gap, Remedy};
pub(super) use outboxes::{Halt, Pace};
pub(super) use subscribers::Entered;
pub(super) use sweep::{Halted, Outcome, Written};

use std::sync::Arc;

use crate::collections::Bitmap;
use crate::ids::Slot;
use crate::metrics::ShardCounters;
use budget::Budget;
use channels::Locals;
use retry::Retries;
use sweep::Sweep;

/// The way from publications to writes.
pub struct Delivery {
    counters: Arc<ShardCounters>,
    /// Bytes that may wait for a connection whose socket has no room.
    outbox_bytes_max: usize,
    locals: Locals,
    /// Channels that have gathered publications in this turn. May go on naming a place that is free
    /// or another channel's: sealing a channel that has gathered nothing does nothing.
    unsealed: Vec<u32>,
    /// Channels that hold segments. The same holds: forgetting twice does nothing.
    channels_with_segments: Vec<u32>,
    /// Connections with something to send.
    dirty: Bitmap,
    sweep: Sweep,
    retries: Retries,
    budget: Budget,
    /// Bytes for single clients that this turn has made.
    replied_bytes: usize,
}

impl Delivery {
    /// Without channels and outboxes, of which each may have `outbox_bytes_max`.
    pub fn new(
        counters: Arc<ShardCounters>,
        leases: OutboxLeases,
        outbox_bytes_max: usize,
    ) -> Delivery {
        Delivery {
            counters,
            outbox_bytes_max,
            locals: Locals::default(),
            unsealed: Vec::new(),
            channels_with_segments: Vec::new(),
            dirty: Bitmap::default(),
            sweep: Sweep::default(),
            retries: Retries::default(),
            budget: Budget::new(leases),
            replied_bytes: 0,
        }
    }

    /// Begins a turn: nothing has been made for single clients in it.
    pub fn begin_turn(&mut self) {
        self.replied_bytes = 0;
    }

    /// Ends a turn: memory that is not needed is given back to the node.
    pub fn end_turn(&mut self) {
        self.budget.give_back();
        self.counters.outbox_bytes.set(self.budget.accounts.bytes() as u64);
    }

    /// Whether there is more to do at once.
    pub fn has_more(&self) -> bool {
        !self.dirty.is_empty() || !self.unsealed.is_empty()
    }

    /// Notes that a connection has something to send.
    pub fn mark_dirty(&mut self, slot: Slot) {
        self.dirty.insert(slot.index());
    }

    /// Bytes for single clients that this turn has made.
    pub fn replied_bytes(&self) -> usize {
        self.replied_bytes
    }

    /// Counts bytes for single clients that a later turn will make, as if this one had made them.
    pub fn count_replied(&mut self, bytes: usize) {
        self.replied_bytes += bytes;
    }
}
