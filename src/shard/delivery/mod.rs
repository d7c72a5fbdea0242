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

use std::sync::Arc;

use crate::channel::Publication;
use crate::connection::{Connection, Flags, Slots, State};
use crate::ids::{LocalId, Position, Slot, Tick};
use crate::kernel::{ConnectionKey, Sockets, Wrote};
use crate::metrics::ShardCounters;
use fanout::Fanout;
use outboxes::{Outboxes, Taken};
use retry::Retries;
use subscribers::Channels;
use sweep::{Attempt, Sweep};

/// The way from publications to writes.
pub struct Delivery {
    /// The channels with subscribers here.
    pub channels: Channels,
    counters: Arc<ShardCounters>,
    fanout: Fanout,
    outboxes: Outboxes,
    sweep: Sweep,
    retries: Retries,
    /// Bytes for single clients that this turn has made.
    replied_bytes: usize,
}

/// A connection that gets nothing more before its session has done something.
pub struct Halted {
    /// Its key.
    pub key: ConnectionKey,
    /// What is to be done.
    pub halt: Halt,
}

/// A write that changed more than a cursor: it came from an outbox, or the kernel did not take all.
pub struct Written {
    /// Whose.
    pub key: ConnectionKey,
    /// What became of the connection.
    pub outcome: Outcome,
}

/// What became of a connection that something was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel takes nothing more for it, ever.
    Gone,
    /// Its outbox has changed.
    Sent {
        /// Whether its socket has just begun to refuse bytes.
        blocks: bool,
        /// Cost of what still waits, in bytes.
        left: usize,
    },
}

impl Delivery {
    /// Without channels and outboxes, of which each may have `outbox_bytes_max`.
    pub fn new(
        counters: Arc<ShardCounters>,
        leases: OutboxLeases,
        outbox_bytes_max: usize,
    ) -> Delivery {
        Delivery {
            channels: Channels::new(Arc::clone(&counters)),
            fanout: Fanout::default(),
            outboxes: Outboxes::new(Arc::clone(&counters), leases, outbox_bytes_max),
            sweep: Sweep::default(),
            retries: Retries::default(),
            replied_bytes: 0,
            counters,
        }
    }

    /// Begins a turn: nothing has been made for single clients in it.
    pub fn begin_turn(&mut self) {
        self.replied_bytes = 0;
    }

    /// Ends a turn: memory that is not needed is given back to the node.
    pub fn end_turn(&mut self) {
        self.outboxes.end_turn();
    }

    /// Whether there is more to do at once.
    pub fn has_more(&self) -> bool {
        self.fanout.has_more()
    }

    /// Notes that a connection has something to send.
    pub fn mark_dirty(&mut self, slot: Slot) {
        self.fanout.mark(slot);
    }

    /// Bytes for single clients that this turn has made.
    pub fn replied_bytes(&self) -> usize {
        self.replied_bytes
    }

    /// Counts bytes for single clients that a later turn will make, as if this one had made them.
    pub fn count_replied(&mut self, bytes: usize) {
        self.replied_bytes += bytes;
    }

    /// Follows the channel at `place` over a publication with `offset`, which is 0 for one without
    /// a place in the channel's order. If some are missing before it, a gap comes first.
    pub fn follow(&mut self, place: LocalId, offset: u64) -> Step {
        self.fanout.follow(&mut self.channels, place, offset)
    }

    /// Gathers a publication for the subscribers of the channel at `place`.
    pub fn append(&mut self, place: LocalId, publication: Arc<Publication>) {
        self.fanout.append(&mut self.channels, place, publication);
    }

    /// Goes on with the offset `next` in the channel at `place`, if that is further than it stands.
    /// What is between is a gap.
    pub fn skip_to(&mut self, place: LocalId, next: u64) {
        self.fanout.skip_to(&mut self.channels, place, next);
    }

    /// Brings the channel at `place` to where its home says it stands. If subscribers expected
    /// something else, that is a gap.
    pub fn stand_at(&mut self, place: LocalId, top: Position) {
        self.fanout.stand_at(&mut self.channels, place, top);
    }

    /// Seals all that has been gathered, and marks everybody who is to receive it.
    pub fn seal(&mut self) {
        self.fanout.seal(&mut self.channels);
    }

    /// The same for one channel, if it is there and has gathered anything.
    pub fn seal_channel(&mut self, place: LocalId) {
        self.fanout.seal_channel(&mut self.channels, place);
    }

    /// Puts frames for one connection alone into its outbox.
    pub fn send_own(&mut self, slots: &mut Slots, key: ConnectionKey, frames: &[u8]) {
        if self.outboxes.push_own(slots.connection(key), key.slot, frames) {
            self.replied_bytes += frames.len();
            self.fanout.mark(key.slot);
        }
    }

    /// The same for many bytes, which are not copied.
    pub fn send_long(&mut self, slots: &mut Slots, key: ConnectionKey, frames: Vec<u8>) {
        let length = frames.len();
        if self.outboxes.push_long(slots.connection(key), key.slot, frames) {
            self.replied_bytes += length;
            self.fanout.mark(key.slot);
        }
    }

    /// Puts an event into a connection's outbox, which its client has not asked for. Nothing limits
    /// how often that happens, so a client that does not read it is too slow.
    pub fn send_event(&mut self, slots: &mut Slots, key: ConnectionKey, frames: &[u8]) -> Pace {
        self.send_own(slots, key, frames);
        self.outboxes.pace(slots.connection(key))
    }

    /// Puts what a connection has not been given into its outbox, which closes anyway. It is not
    /// told of gaps any more, nor that something does not fit.
    pub fn collect_last(&mut self, slots: &mut Slots, slot: Slot) {
        self.outboxes.collect_last(&mut self.channels, slots.tenant(slot), slot);
    }

    /// Puts what a connection has not been given of one channel into its outbox: its subscription
    /// with number `index` ends, and what was published before comes before the end. It is not told
    /// of gaps any more.
    pub fn collect_of_leaving(&mut self, slots: &mut Slots, slot: Slot, index: usize) -> Pace {
        let connection = slots.tenant(slot);
        self.seal_channel(connection.subscribed(index).channel);
        self.outboxes.collect_of_leaving(&mut self.channels, connection, slot, index)
    }

    /// Forgets what a connection has not begun to be sent.
    pub fn discard_unsent(&mut self, slots: &mut Slots, key: ConnectionKey) {
        self.outboxes.discard_unsent(slots.connection(key), key.slot);
    }

    /// Forgets all that waits for a connection.
    pub fn clear_outbox(&mut self, slots: &mut Slots, key: ConnectionKey) {
        self.outboxes.clear(slots.connection(key), key.slot);
    }

    /// Leases memory for what the outboxes have grown by. Returns the fullest one if there is none
    /// left for them: its owner must be closed, and then this is to be asked again.
    pub fn outbox_beyond_budget(&mut self) -> Option<Slot> {
        self.outboxes.budget().beyond()
    }

    /// Counts the memory of all outboxes anew. Returns how many numbers that are kept of it are
    /// wrong, and how many blocks are leased for it. For audits.
    pub fn audit_outboxes(&mut self, slots: &mut Slots) -> (usize, usize) {
        self.outboxes.budget().audit(slots)
    }

    /// Sends again to those of whom no news would come.
    pub fn on_tick(&mut self, slots: &mut Slots, io: &impl Sockets, now: Tick) {
        for key in self.retries.take() {
            // The client may have left since the write.
            let Some(connection) = slots.get(key) else { continue };
            if retry::retry(connection, io, now) {
                self.fanout.mark(key.slot);
            }
        }
    }

    /// Decides what connections are sent in this chunk, until it is full or nobody is left. Returns
    /// one that halts: do what is to be done, and go on with [`Delivery::gather_on`].
    pub fn gather_chunk(&mut self, slots: &mut Slots) -> Option<Halted> {
        while let Some(slot) = self.sweep.next(&mut self.fanout, &mut self.channels) {
            let halted = self.gather(slots, slot);
            if halted.is_some() {
                return halted;
            }
        }
        None
    }

    /// Goes on with a connection that halted, and then with the others. Returns the next one that
    /// halts, which may be the same.
    pub fn gather_on(&mut self, slots: &mut Slots, key: ConnectionKey) -> Option<Halted> {
        let halted = self.gather_all(slots.connection(key), key);
        if halted.is_some() { halted } else { self.gather_chunk(slots) }
    }

    /// Decides what one connection is sent in this chunk. Returns it if it halts.
    fn gather(&mut self, slots: &mut Slots, slot: Slot) -> Option<Halted> {
        // It may have left since it was marked, or its slot may have another tenant.
        let connection = slots.at(slot)?;
        if connection.state == State::Released {
            return None;
        }
        let key = ConnectionKey { slot, generation: connection.generation };
        if self.sweep.gather_segment(connection, key, &mut self.channels, &self.counters) {
            return None;
        }
        self.gather_all(connection, key)
    }

    /// The same by way of its outbox, for one that has more to be sent than a single segment.
    fn gather_all(&mut self, connection: &mut Connection, key: ConnectionKey) -> Option<Halted> {
        if connection.is_served() {
            let (channels, oldest) = (&mut self.channels, self.sweep.oldest());
            let halt = self.outboxes.collect(channels, connection, key.slot, oldest);
            if let Some(halt) = halt {
                if matches!(halt, Halt::Gap(_)) {
                    self.sweep.count_gap();
                }
                return Some(Halted { key, halt });
            }
        }
        if self.sweep.gather_outbox(connection, key) {
            // Whatever marked it meanwhile is in this write: one socket, one write.
            self.fanout.unmark(key.slot);
        }
        None
    }

    /// Ends the chunk: hands all of its writes to the kernel, in one system call.
    pub fn send(&mut self, io: &mut impl Sockets) {
        self.sweep.send(io, &mut self.fanout, &mut self.channels, &self.counters);
    }

    /// Brings outboxes up to what the kernel took, as far as the next connection of which a session
    /// has to know. `None` when the chunk is done.
    pub fn next_written(&mut self, slots: &mut Slots, now: Tick) -> Option<Written> {
        let attempt = self.sweep.next_attempt(&self.counters)?;
        let key = attempt.key;
        Some(Written { key, outcome: self.wrote(slots.connection(key), attempt, now) })
    }

    /// Brings one outbox up to what the kernel took.
    fn wrote(&mut self, connection: &mut Connection, attempt: Attempt, now: Tick) -> Outcome {
        let Attempt { key, frames, length, wrote } = attempt;
        let bytes = match wrote {
            Wrote::Gone => return Outcome::Gone,
            Wrote::Blocked => {
                self.retries.note(key);
                0
            }
            Wrote::Bytes(bytes) => bytes,
        };
        assert!(bytes <= length, "the kernel takes no more than it is given");
        let blocks = bytes < length && !connection.flags.has(Flags::BLOCKED);
        if blocks {
            connection.flags.set(Flags::BLOCKED);
        }
        let moved = (bytes > 0 || blocks).then_some(now);
        let outbox = &mut connection.busy().outbox;
        self.outboxes.wrote(outbox, key.slot, Taken { frames, bytes, moved });
        let (empty, left) = (outbox.is_empty(), outbox.cost_bytes());
        connection.shrink();
        if !empty && !connection.flags.has(Flags::BLOCKED) {
            self.fanout.mark(key.slot);
        }
        if empty
            && connection.state == State::Connected
            && self.outboxes.tell_skips(&mut self.channels, connection, key.slot)
        {
            self.fanout.mark(key.slot);
        }
        Outcome::Sent { blocks, left }
    }
}
