//! Delivery: from the publications of home shards to writes on sockets.
//!
//! [`Delivery`] owns the channels with subscribers here, their undelivered publications, the marks
//! of connections with data to send, and the memory of all outboxes. It closes no connection. It
//! returns the connections that must be closed or told about a gap, so calls go only one way: from
//! sessions to delivery.

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
pub(super) use subscribers::{Entered, Unused};

use std::sync::Arc;

use crate::channel::{ChannelName, Namespace, Publication};
use crate::connection::{Connection, Flags, Slots, State, Terms};
use crate::ids::{LocalId, Position, ShardId, Slot, Tick};
use crate::kernel::{ConnectionKey, Sockets, Wrote};
use crate::metrics::{DeliveryTimes, ShardCounters};
use crate::subnets::SubnetId;
use channels::Local;
use fanout::Fanout;
use outboxes::{Outboxes, Taken};
use retry::Retries;
use subscribers::LocalChannels;
use sweep::{Attempt, Sweep};

/// The path from publications to writes.
pub struct Delivery {
    /// The channels with subscribers on this shard.
    channels: LocalChannels,
    counters: Arc<ShardCounters>,
    fanout: Fanout,
    outboxes: Outboxes,
    sweep: Sweep,
    retries: Retries,
    /// Bytes for single clients that this turn has produced.
    replied_bytes: usize,
}

/// A connection that receives nothing more until its session has acted.
pub struct Halted {
    /// Key of the connection.
    pub key: ConnectionKey,
    /// The required action.
    pub halt: Halt,
}

/// A write that changed more than a cursor: it came from an outbox, or the kernel took only a part.
pub struct Written {
    /// Key of the connection.
    pub key: ConnectionKey,
    /// The result for the connection.
    pub outcome: WriteOutcome,
}

/// The result of a write for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The kernel will never take anything more for it.
    Gone,
    /// Its outbox has changed.
    Sent {
        /// True if its socket has just begun to refuse bytes.
        blocks: bool,
        /// Cost of the remaining outbox, in bytes.
        left: usize,
    },
}

impl Delivery {
    /// Creates a delivery without channels. Each outbox may have `outbox_bytes_max` bytes.
    pub fn new(
        counters: Arc<ShardCounters>,
        leases: OutboxLeases,
        outbox_bytes_max: usize,
    ) -> Delivery {
        Delivery {
            channels: LocalChannels::new(Arc::clone(&counters)),
            fanout: Fanout::default(),
            outboxes: Outboxes::new(Arc::clone(&counters), leases, outbox_bytes_max),
            sweep: Sweep::default(),
            retries: Retries::default(),
            replied_bytes: 0,
            counters,
        }
    }

    /// Begins a turn: resets the count of bytes for single clients.
    pub fn begin_turn(&mut self) {
        self.replied_bytes = 0;
    }

    /// Ends a turn: gives memory that is not needed back to the node.
    pub fn end_turn(&mut self) {
        self.outboxes.end_turn();
    }

    /// Whether there is more work to do immediately.
    pub fn has_more(&self) -> bool {
        self.fanout.has_more()
    }

    /// Marks a connection as having data to send.
    pub fn mark_dirty(&mut self, slot: Slot) {
        self.fanout.mark(slot);
    }

    /// Bytes for single clients that this turn has produced.
    pub fn replied_bytes(&self) -> usize {
        self.replied_bytes
    }

    /// Counts bytes that a later turn will produce, as if this turn had produced them. Requests are
    /// answered later, but the turn must stop reading when it has caused enough answers.
    pub fn count_replied(&mut self, bytes: usize) {
        self.replied_bytes += bytes;
    }

    /// The place of the channel called `name`, if it has or awaits subscriptions on this shard.
    pub fn find(&self, name: &str) -> Option<LocalId> {
        self.channels.find(name)
    }

    /// The channel at `place`, which has or awaits subscriptions.
    ///
    /// # Panics
    /// If there is no channel at `place`.
    pub fn local(&mut self, place: LocalId) -> &mut Local {
        self.channels.local(place)
    }

    /// The channel at `place`, if there is one.
    pub fn local_at(&mut self, place: LocalId) -> Option<&mut Local> {
        self.channels.at(place)
    }

    /// Upper bound of the places of channels: each channel's place is below it.
    pub fn places_reached(&self) -> usize {
        self.channels.places_reached()
    }

    /// Adds a subscription that waits for its home to the channel called `name`. If the channel is
    /// new, `brought_by` is charged with it.
    pub fn expect_answer(
        &mut self,
        name: &ChannelName,
        namespace: &Arc<Namespace>,
        home: ShardId,
        brought_by: SubnetId,
    ) -> Entered {
        self.channels.expect_answer(name, namespace, home, brought_by)
    }

    /// Handles the home's answer to a subscription to the channel at `place`. A subscriber that is
    /// added now begins after the publications gathered so far, because the answer includes them.
    pub fn on_home_answered(&mut self, place: LocalId, name: &ChannelName, top: Position) {
        self.seal_channel(place);
        self.fanout.stand_at(&mut self.channels, place, top);
        let local = self.channels.local(place);
        local.answered();
        // The home's name replaces this shard's copy, so that the node stores each name once.
        local.name = name.clone();
    }

    /// Handles the refusal of a subscription to the channel at `place` by its home.
    pub fn on_home_refused(&mut self, place: LocalId) {
        self.channels.local(place).answered();
    }

    /// Subscribes a connection to a channel, from the next publication on.
    pub fn subscribe(
        &mut self,
        slots: &mut Slots,
        key: ConnectionKey,
        place: LocalId,
        terms: Terms,
    ) {
        self.channels.subscribe(slots, key, place, terms);
    }

    /// Ends the subscription with number `index` of a connection. Returns the place of its channel.
    pub fn unsubscribe(&mut self, slots: &mut Slots, slot: Slot, index: usize) -> LocalId {
        self.channels.unsubscribe(slots, slot, index)
    }

    /// Removes the channel at `place` if it has no more subscriptions; the caller must tell its
    /// home. Returns `None` if it is in use, or if the last subscriber has already removed it.
    pub fn take_if_unused(&mut self, place: LocalId) -> Option<Unused> {
        self.channels.take_if_unused(place)
    }

    /// Advances the channel at `place` past a publication with `offset`. The offset is 0 if the
    /// publication has no place in the channel's order. If publications are missing before it, a
    /// gap is recorded first.
    pub fn follow(&mut self, place: LocalId, offset: u64) -> Step {
        self.fanout.follow(&mut self.channels, place, offset)
    }

    /// Gathers a publication for the subscribers of the channel at `place`.
    pub fn append(&mut self, place: LocalId, publication: Arc<Publication>) {
        self.fanout.append(&mut self.channels, place, publication);
    }

    /// Continues with the offset `next` in the channel at `place`, if that is ahead of its
    /// position. The offsets in between become a gap.
    pub fn skip_to(&mut self, place: LocalId, next: u64) {
        self.fanout.skip_to(&mut self.channels, place, next);
    }

    /// Moves the channel at `place` to the position that its home has given. If subscribers
    /// expected another one, the difference is a gap.
    pub fn stand_at(&mut self, place: LocalId, top: Position) {
        self.fanout.stand_at(&mut self.channels, place, top);
    }

    /// Seals all open segments, and marks the connections that will receive them.
    pub fn seal(&mut self) {
        self.fanout.seal(&mut self.channels);
    }

    /// Seals the open segment of the channel at `place`, if it has one.
    pub fn seal_channel(&mut self, place: LocalId) {
        self.fanout.seal_channel(&mut self.channels, place);
    }

    /// Copies frames for one connection into its outbox.
    pub fn send_own(&mut self, slots: &mut Slots, key: ConnectionKey, frames: &[u8]) {
        if self.outboxes.push_own(slots.connection(key), key.slot, frames) {
            self.replied_bytes += frames.len();
            self.fanout.mark(key.slot);
        }
    }

    /// Puts frames for one connection before everything in its outbox, of which nothing has been
    /// sent.
    pub fn send_first(&mut self, slots: &mut Slots, key: ConnectionKey, frames: &[u8]) {
        if self.outboxes.push_first(slots.connection(key), key.slot, frames) {
            self.replied_bytes += frames.len();
            self.fanout.mark(key.slot);
        }
    }

    /// Moves a long buffer of frames for one connection into its outbox, without a copy.
    pub fn send_long(&mut self, slots: &mut Slots, key: ConnectionKey, frames: Vec<u8>) {
        let length = frames.len();
        if self.outboxes.push_long(slots.connection(key), key.slot, frames) {
            self.replied_bytes += length;
            self.fanout.mark(key.slot);
        }
    }

    /// Puts an event that a client did not request into its outbox. Nothing limits the rate of
    /// events, so a client that does not read them is too slow.
    pub fn send_event(&mut self, slots: &mut Slots, key: ConnectionKey, frames: &[u8]) -> Pace {
        self.send_own(slots, key, frames);
        self.outboxes.pace(slots.connection(key))
    }

    /// Moves all undelivered publications of a closing connection into its outbox. It is no longer
    /// told about gaps, or about publications that do not fit.
    pub fn collect_last(&mut self, slots: &mut Slots, slot: Slot) {
        self.outboxes.collect_last(&mut self.channels, slots.tenant(slot), slot);
    }

    /// Moves the undelivered publications of one channel into the outbox of a connection. The
    /// subscription with number `index` ends, and earlier publications must come before its end.
    /// The client is no longer told about gaps.
    pub fn collect_of_leaving(&mut self, slots: &mut Slots, slot: Slot, index: usize) -> Pace {
        let connection = slots.tenant(slot);
        self.seal_channel(connection.subscribed(index).channel);
        self.outboxes.collect_of_leaving(&mut self.channels, connection, slot, index)
    }

    /// Discards the frames of a connection that have not begun to be sent.
    pub fn discard_unsent(&mut self, slots: &mut Slots, key: ConnectionKey) {
        self.outboxes.discard_unsent(slots.connection(key), key.slot);
    }

    /// Discards the whole outbox of a connection.
    pub fn clear_outbox(&mut self, slots: &mut Slots, key: ConnectionKey) {
        self.outboxes.clear(slots.connection(key), key.slot);
    }

    /// Leases enough memory for the present size of the outboxes and `more` bytes. If the node has
    /// no more, returns the fullest outbox: the caller must close its connection and call this
    /// again.
    pub fn outbox_beyond_budget(&mut self, more: usize) -> Option<Slot> {
        self.outboxes.budget().beyond(more)
    }

    /// Recounts the memory of all outboxes. Returns the number of stored values that are wrong, and
    /// the number of leased blocks. For audits.
    pub fn audit_outboxes(&mut self, slots: &mut Slots) -> (usize, usize) {
        self.outboxes.budget().audit(slots)
    }

    /// Retries blocked connections for which the kernel would report no room.
    pub fn on_tick(&mut self, slots: &mut Slots, io: &impl Sockets, now: Tick) {
        for key in self.retries.take() {
            // The client may have left since the write.
            let Some(connection) = slots.get(key) else { continue };
            if retry::retry(connection, io, now) {
                self.fanout.mark(key.slot);
            }
        }
    }

    /// Delivery times of the last seconds.
    pub fn times(&mut self) -> &mut DeliveryTimes {
        self.sweep.times()
    }

    /// Decides what is sent to connections in this chunk, until the chunk is full or no connection
    /// is marked. Returns the first connection that halts. The caller must act, and then continue
    /// with [`Delivery::gather_on`].
    pub fn gather_chunk(&mut self, slots: &mut Slots) -> Option<Halted> {
        while let Some(slot) = self.sweep.next(&mut self.fanout, &mut self.channels) {
            let halted = self.gather(slots, slot);
            if halted.is_some() {
                return halted;
            }
        }
        None
    }

    /// Continues with a connection that halted, and then with the others. Returns the next one that
    /// halts, which may be the same.
    pub fn gather_on(&mut self, slots: &mut Slots, key: ConnectionKey) -> Option<Halted> {
        let halted = self.gather_all(slots.connection(key), key);
        if halted.is_some() { halted } else { self.gather_chunk(slots) }
    }

    /// Decides what is sent to one connection in this chunk. Returns the connection if it halts.
    fn gather(&mut self, slots: &mut Slots, slot: Slot) -> Option<Halted> {
        // The connection may have ended since it was marked, and its slot may have another tenant.
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

    /// Collects everything that the connection has not received in its outbox. Used if it has more
    /// to send than a single segment.
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
            // This write includes all data that has been added since the mark: a socket has one
            // write in a chunk.
            self.fanout.unmark(key.slot);
        }
        None
    }

    /// Ends the chunk: hands all of its writes to the kernel in one system call.
    pub fn send(&mut self, io: &mut impl Sockets) {
        self.sweep.send(io, &mut self.fanout, &mut self.channels, &self.counters);
    }

    /// Updates outboxes with the results of the kernel, up to the next connection that concerns its
    /// session. `None` at the end of the chunk.
    pub fn next_written(&mut self, slots: &mut Slots, now: Tick) -> Option<Written> {
        let attempt = self.sweep.next_attempt(&self.counters)?;
        let key = attempt.key;
        Some(Written { key, outcome: self.wrote(slots.connection(key), attempt, now) })
    }

    /// Updates one outbox with the result of the kernel.
    fn wrote(&mut self, connection: &mut Connection, attempt: Attempt, now: Tick) -> WriteOutcome {
        let Attempt { key, frames, length, wrote } = attempt;
        let bytes = match wrote {
            Wrote::Gone => return WriteOutcome::Gone,
            Wrote::Blocked => {
                // Without bytes on their way to the peer, the kernel may never report room.
                self.retries.note(key);
                0
            }
            Wrote::Bytes(bytes) => bytes,
        };
        assert!(bytes <= length, "the kernel takes no more bytes than the write has");
        let blocks = bytes < length && !connection.flags.has(Flags::BLOCKED);
        if blocks {
            connection.flags.set(Flags::BLOCKED);
        }
        // The patience for a blocked client begins when its socket first refuses bytes.
        let moved = (bytes > 0 || blocks).then_some(now);
        let outbox = &mut connection.busy().outbox;
        self.outboxes.wrote(outbox, key.slot, Taken { frames, bytes, moved });
        let (empty, left) = (outbox.is_empty(), outbox.cost_bytes());
        connection.shrink();
        // A write takes only so many bytes. The rest goes out in the next visit.
        if !empty && !connection.flags.has(Flags::BLOCKED) {
            self.fanout.mark(key.slot);
        }
        if empty
            && connection.state == State::Connected
            && self.outboxes.tell_skips(&mut self.channels, connection, key.slot)
        {
            self.fanout.mark(key.slot);
        }
        WriteOutcome::Sent { blocks, left }
    }
}
