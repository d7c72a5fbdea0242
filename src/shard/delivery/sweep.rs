//! The sweep: connections with something to send are visited in the order of their slots, each
//! gets everything that it has not seen in one write, and 256 writes are one system call. Between
//! two such chunks the rest of the turn has its place.

use std::ops::Range;
use std::rc::Rc;

use super::Delivery;
use super::channels::Locals;
use super::outboxes::Halt;
use crate::connection::{
    Connection, DeliveryMode, Flags, Frames, Outbox, Piece, Slots, State, Subscription,
};
use crate::ids::{Moment, Slot, Tick};
use crate::kernel::{ConnectionKey, Socket, Sockets, Write, Wrote};
use crate::limits::{
    COPY_BYTES_MAX, GATHER_BYTES_MAX, SWEEP_LOOKS_MAX, SWEEP_OUTBOX_BYTES_MAX, SWEEP_SENDS_MAX,
};
use crate::metrics::ShardCounters;

/// Where the sweep is, and its buffers.
#[derive(Default)]
pub(super) struct Sweep {
    position: usize,
    pass: u64,
    /// Connections that the present chunk has looked at, and gaps that they have come to.
    looks: usize,
    /// Bytes of the chunk's writes that come from outboxes.
    outbox_bytes: usize,
    /// Writes of the chunk whose results have been seen to.
    done: usize,
    cork: Vec<u8>,
    entries: Vec<Entry>,
    results: Vec<Wrote>,
    /// When the oldest publication of the chunk was accepted.
    oldest: Option<Moment>,
}

impl Sweep {
    /// Number of the round that is under way.
    pub(super) fn pass(&self) -> u64 {
        self.pass
    }

    /// Begins a chunk: nothing has been written in it.
    fn begin_chunk(&mut self) {
        self.done = 0;
        self.outbox_bytes = 0;
        self.cork.clear();
        self.entries.clear();
        self.results.clear();
    }

    /// Whether the present chunk may look at one more connection.
    fn has_room(&self) -> bool {
        self.looks < SWEEP_LOOKS_MAX
            && self.entries.len() < SWEEP_SENDS_MAX
            && self.outbox_bytes + GATHER_BYTES_MAX <= SWEEP_OUTBOX_BYTES_MAX
    }
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

/// One write of a chunk.
struct Entry {
    key: ConnectionKey,
    socket: Socket,
    source: Source,
}

/// Where a write's bytes are.
enum Source {
    /// A segment that the connection has not been given, straight from the channel's log.
    Frames(Rc<Frames>),
    /// These bytes of the first piece of the outbox.
    Front(Rc<Frames>, Range<usize>),
    /// Pieces of the outbox, gathered in the cork.
    Cork(Range<usize>),
}

impl Source {
    fn bytes<'a>(&'a self, cork: &'a [u8]) -> &'a [u8] {
        match self {
            Source::Frames(frames) => frames.bytes(),
            Source::Front(frames, range) => &frames.bytes()[range.clone()],
            Source::Cork(range) => &cork[range.clone()],
        }
    }

    /// The frames of a segment: they come into the outbox if the kernel did not take all of them.
    fn frames(&self) -> Option<Rc<Frames>> {
        match self {
            Source::Frames(frames) => Some(Rc::clone(frames)),
            Source::Front(..) | Source::Cork(_) => None,
        }
    }
}

impl Delivery {
    /// Decides what connections are sent in this chunk, until it is full or nobody is left. Returns
    /// one that halts: do what is to be done, and go on with [`Delivery::gather_on`].
    pub fn gather_chunk(&mut self, slots: &mut Slots) -> Option<Halted> {
        while let Some(slot) = self.next_dirty() {
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

    /// The next connection that the chunk looks at.
    fn next_dirty(&mut self) -> Option<Slot> {
        while !self.dirty.is_empty() && self.sweep.has_room() {
            if let Some(index) = self.dirty.take_from(self.sweep.position) {
                self.sweep.looks += 1;
                self.sweep.position = index + 1;
                return Some(Slot::new(index));
            }
            self.sweep_wrap();
        }
        None
    }

    /// A round is over: what was sealed before it began has been given to everybody, and if nobody
    /// is left to visit, all has.
    fn sweep_wrap(&mut self) {
        let pass = self.sweep.pass;
        let done = if self.dirty.is_empty() { Some(pass) } else { pass.checked_sub(1) };
        self.sweep.position = 0;
        self.sweep.pass += 1;
        let Some(done) = done else { return };
        let locals = &mut self.locals;
        self.channels_with_segments.retain(|&place| {
            // The last subscriber may have left with segments still kept.
            let Some(local) = locals.at(place) else { return false };
            local.forget(done);
            local.holds_segments()
        });
    }

    /// Decides what one connection is sent in this chunk. Returns it if it halts.
    fn gather(&mut self, slots: &mut Slots, slot: Slot) -> Option<Halted> {
        // It may have left since it was marked, or its slot may have another tenant.
        let connection = slots.at(slot)?;
        if connection.state == State::Released {
            return None;
        }
        let key = ConnectionKey { slot, generation: connection.generation };
        let quiet = connection.busy.as_ref().is_none_or(|busy| busy.outbox.is_empty());
        if quiet && connection.state == State::Connected && !connection.flags.has(Flags::BLOCKED) {
            let (locals, sweep) = (&mut self.locals, &mut self.sweep);
            if let Some(source) = take_only_segment(connection, locals, sweep, &self.counters) {
                sweep.entries.push(Entry { key, socket: connection.socket, source });
                return None;
            }
        }
        self.gather_all(connection, key)
    }

    /// The same by way of its outbox, for one that has more to be sent than a single segment.
    fn gather_all(&mut self, connection: &mut Connection, key: ConnectionKey) -> Option<Halted> {
        if connection.is_served() {
            let mut oldest = self.sweep.oldest;
            let halt = self.collect_into(connection, key.slot, &mut oldest);
            self.sweep.oldest = oldest;
            if let Some(halt) = halt {
                // A connection may come to many gaps.
                self.sweep.looks += usize::from(matches!(halt, Halt::Gap(_)));
                return Some(Halted { key, halt });
            }
        }
        self.gather_outbox(connection, key);
        None
    }

    /// Decides what one connection is sent of its outbox.
    fn gather_outbox(&mut self, connection: &Connection, key: ConnectionKey) {
        // The channels forget what everybody has been given; until its upgrade ends, a client has
        // been given it in its outbox.
        let upgrading = connection.state == State::Upgrading && !crate::sabotage!(EarlyUpgrade);
        let released = connection.state == State::Released;
        if upgrading || released || connection.flags.has(Flags::BLOCKED) {
            return;
        }
        let Some(busy) = connection.busy.as_ref() else { return };
        if let Some(source) = take_from_outbox(&busy.outbox, &mut self.sweep) {
            self.sweep.entries.push(Entry { key, socket: connection.socket, source });
            // Whatever marked it meanwhile is in this write: one socket, one write.
            self.dirty.remove(key.slot.index());
        }
    }

    /// Ends the chunk: hands all of its writes to the kernel, in one system call.
    pub fn send(&mut self, io: &mut impl Sockets) {
        if self.dirty.is_empty() && self.sweep.looks > 0 {
            self.sweep_wrap();
        }
        let sweep = &mut self.sweep;
        sweep.looks = 0;
        if !sweep.entries.is_empty() {
            let writes: Vec<Write<'_>> = sweep
                .entries
                .iter()
                .map(|entry| Write { socket: entry.socket, bytes: entry.source.bytes(&sweep.cork) })
                .collect();
            io.send(&writes, &mut sweep.results);
        }
        assert_eq!(sweep.results.len(), sweep.entries.len(), "each write has a result");
        if let Some(oldest) = sweep.oldest.take() {
            let age = io.now().since(oldest);
            self.counters.delivery.record(age, sweep.entries.len() as u64);
        }
    }

    /// Brings outboxes up to what the kernel took, as far as the next connection of which a session
    /// has to know. `None` when the chunk is done.
    pub fn next_written(&mut self, slots: &mut Slots, now: Tick) -> Option<Written> {
        let sweep = &mut self.sweep;
        let (count, bytes) =
            written_whole(&sweep.entries[sweep.done..], &sweep.results[sweep.done..]);
        self.counters.delivered_bytes.add(bytes as u64);
        sweep.done += count;
        let Some(entry) = sweep.entries.get(sweep.done) else {
            sweep.begin_chunk();
            return None;
        };
        let wrote = sweep.results[sweep.done];
        sweep.done += 1;
        if let Wrote::Bytes(count) = wrote {
            self.counters.delivered_bytes.add(count as u64);
        }
        let (key, length) = (entry.key, entry.source.bytes(&sweep.cork).len());
        let frames = entry.source.frames();
        let outcome = self.wrote(slots, key, frames, Attempt { length, wrote, now });
        Some(Written { key, outcome })
    }

    /// Brings one outbox up to what the kernel took. `frames` were not in it yet.
    fn wrote(
        &mut self,
        slots: &mut Slots,
        key: ConnectionKey,
        frames: Option<Rc<Frames>>,
        Attempt { length, wrote, now }: Attempt,
    ) -> Outcome {
        let count = match wrote {
            Wrote::Gone => return Outcome::Gone,
            Wrote::Blocked => {
                self.retries.note(key);
                0
            }
            Wrote::Bytes(count) => count,
        };
        assert!(count <= length, "the kernel takes no more than it is given");
        let connection = slots.connection(key);
        let blocks = count < length && !connection.flags.has(Flags::BLOCKED);
        if blocks {
            connection.flags.set(Flags::BLOCKED);
        }
        let blocked = connection.flags.has(Flags::BLOCKED);
        let connected = connection.state == State::Connected;
        let outbox = &mut connection.busy().outbox;
        if let Some(frames) = frames {
            outbox.push_shared(frames, &mut self.budget.accounts);
        }
        if count > 0 {
            outbox.consume(count, &mut self.budget.accounts);
        }
        if count > 0 || blocks {
            outbox.set_moved(now);
        }
        self.budget.rank(key.slot, outbox);
        let (empty, left) = (outbox.is_empty(), outbox.cost_bytes());
        connection.shrink();
        if !empty && !blocked {
            self.mark_dirty(key.slot);
        }
        if empty && connected {
            self.tell_skips(slots, key);
        }
        Outcome::Sent { blocks, left }
    }
}

/// How many of the first writes are segments that the kernel took whole, and their bytes. They are
/// by far the most common, and nothing is left to do for them.
fn written_whole(entries: &[Entry], results: &[Wrote]) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for (entry, wrote) in entries.iter().zip(results) {
        let Source::Frames(frames) = &entry.source else { break };
        let length = frames.bytes().len();
        if *wrote != Wrote::Bytes(length) {
            break;
        }
        count += 1;
        bytes += length;
    }
    (count, bytes)
}

/// A write, and what the kernel said.
struct Attempt {
    length: usize,
    wrote: Wrote,
    now: Tick,
}

/// The one segment that the connection has not been given, if it is one and no more.
fn take_only_segment(
    connection: &mut Connection,
    locals: &mut Locals,
    sweep: &mut Sweep,
    counters: &ShardCounters,
) -> Option<Source> {
    let single = connection.session.is_none();
    let subscription = &mut connection.first;
    let live = subscription.mode == DeliveryMode::Live;
    if !single || subscription.channel == Subscription::NO_CHANNEL || !live {
        return None;
    }
    let local = locals.local(subscription.channel);
    if local.head().wrapping_sub(subscription.cursor) != 1 {
        return None;
    }
    let head = local.head();
    let (frames, count, accepted) = local.last_segment(connection.wire)?;
    let frames = Rc::clone(frames);
    subscription.cursor = head;
    counters.deliveries.add(count as u64);
    sweep.oldest = Some(sweep.oldest.map_or(accepted, |oldest| oldest.min(accepted)));
    (!frames.bytes().is_empty()).then_some(Source::Frames(frames))
}

/// What to send next from an outbox: a large shared piece as it is, or small ones gathered.
fn take_from_outbox(outbox: &Outbox, sweep: &mut Sweep) -> Option<Source> {
    let (first, sent, more) = outbox.front()?;
    let end = first.bytes().len();
    let alone = !more || end - sent > COPY_BYTES_MAX;
    match first {
        Piece::Shared(frames) if alone => Some(Source::Front(Rc::clone(frames), sent..end)),
        Piece::Long(frames) if alone => {
            let end = end.min(sent + GATHER_BYTES_MAX);
            sweep.outbox_bytes += end - sent;
            Some(Source::Front(Rc::clone(frames), sent..end))
        }
        _ => {
            let begin = sweep.cork.len();
            outbox.gather(GATHER_BYTES_MAX, &mut sweep.cork);
            sweep.outbox_bytes += sweep.cork.len() - begin;
            Some(Source::Cork(begin..sweep.cork.len()))
        }
    }
}
