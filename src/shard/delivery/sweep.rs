//! The sweep: connections with something to send are visited in the order of their slots, each
//! gets everything that it has not seen in one write, and 256 writes are one system call. Between
//! two such chunks the rest of the turn has its place.

use std::ops::Range;
use std::rc::Rc;

use super::fanout::Fanout;
use super::subscribers::Channels;
use crate::connection::{Connection, DeliveryMode, Flags, Frames, Outbox, Piece, State};
use crate::ids::{Moment, Slot};
use crate::kernel::{ConnectionKey, Socket, Sockets, Write, Wrote};
use crate::limits::{
    COPY_BYTES_MAX, GATHER_BYTES_MAX, SWEEP_LOOKS_MAX, SWEEP_OUTBOX_BYTES_MAX, SWEEP_SENDS_MAX,
};
use crate::metrics::ShardCounters;

/// Where the sweep is, and its buffers.
#[derive(Default)]
pub(super) struct Sweep {
    position: usize,
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

    /// The next connection that the chunk looks at.
    pub(super) fn next(&mut self, fanout: &mut Fanout, channels: &mut Channels) -> Option<Slot> {
        while !fanout.is_clean() && self.has_room() {
            if let Some(index) = fanout.take_marked_from(self.position) {
                self.looks += 1;
                self.position = index + 1;
                return Some(Slot::new(index));
            }
            self.wrap(fanout, channels);
        }
        None
    }

    /// Begins another round.
    fn wrap(&mut self, fanout: &mut Fanout, channels: &mut Channels) {
        self.position = 0;
        fanout.end_round(channels);
    }

    /// Counts a gap that a connection has come to: it may come to many.
    pub(super) fn count_gap(&mut self) {
        self.looks += 1;
    }

    /// When the oldest publication of the chunk was accepted.
    pub(super) fn oldest(&mut self) -> &mut Option<Moment> {
        &mut self.oldest
    }

    /// Decides what a connection is sent that has nothing in its outbox and has not been given a
    /// single segment. Returns whether it is such a connection.
    pub(super) fn gather_segment(
        &mut self,
        connection: &mut Connection,
        key: ConnectionKey,
        channels: &mut Channels,
        counters: &ShardCounters,
    ) -> bool {
        let quiet = connection.busy.as_ref().is_none_or(|busy| busy.outbox.is_empty());
        if !quiet || connection.state != State::Connected || connection.flags.has(Flags::BLOCKED) {
            return false;
        }
        let Some(source) = take_only_segment(connection, channels, &mut self.oldest, counters)
        else {
            return false;
        };
        self.entries.push(Entry { key, socket: connection.socket, source });
        true
    }

    /// Decides what a connection is sent of its outbox. Returns whether it is sent anything.
    pub(super) fn gather_outbox(&mut self, connection: &Connection, key: ConnectionKey) -> bool {
        // The channels forget what everybody has been given; until its upgrade ends, a client has
        // been given it in its outbox.
        let upgrading = connection.state == State::Upgrading && !crate::sabotage!(EarlyUpgrade);
        let released = connection.state == State::Released;
        if upgrading || released || connection.flags.has(Flags::BLOCKED) {
            return false;
        }
        let Some(busy) = connection.busy.as_ref() else { return false };
        let Some(source) = take_from_outbox(&busy.outbox, self) else { return false };
        self.entries.push(Entry { key, socket: connection.socket, source });
        true
    }

    /// Ends the chunk: hands all of its writes to the kernel, in one system call.
    pub(super) fn send(
        &mut self,
        io: &mut impl Sockets,
        fanout: &mut Fanout,
        channels: &mut Channels,
        counters: &ShardCounters,
    ) {
        if fanout.is_clean() && self.looks > 0 {
            self.wrap(fanout, channels);
        }
        self.looks = 0;
        if !self.entries.is_empty() {
            let writes: Vec<Write<'_>> = self
                .entries
                .iter()
                .map(|entry| Write { socket: entry.socket, bytes: entry.source.bytes(&self.cork) })
                .collect();
            io.send(&writes, &mut self.results);
        }
        assert_eq!(self.results.len(), self.entries.len(), "each write has a result");
        if let Some(oldest) = self.oldest.take() {
            let age = io.now().since(oldest);
            counters.delivery.record(age, self.entries.len() as u64);
        }
    }

    /// The next write that changed more than a cursor. `None` when the chunk is done.
    pub(super) fn next_attempt(&mut self, counters: &ShardCounters) -> Option<Attempt> {
        let (count, bytes) = written_whole(&self.entries[self.done..], &self.results[self.done..]);
        counters.delivered_bytes.add(bytes as u64);
        self.done += count;
        let Some(entry) = self.entries.get(self.done) else {
            self.begin_chunk();
            return None;
        };
        let wrote = self.results[self.done];
        self.done += 1;
        if let Wrote::Bytes(count) = wrote {
            counters.delivered_bytes.add(count as u64);
        }
        let length = entry.source.bytes(&self.cork).len();
        Some(Attempt { key: entry.key, frames: entry.source.frames(), length, wrote })
    }
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
pub(super) struct Attempt {
    /// Whose write it was.
    pub(super) key: ConnectionKey,
    /// What was written, if it is not in the outbox.
    pub(super) frames: Option<Rc<Frames>>,
    /// Bytes that there were.
    pub(super) length: usize,
    /// The kernel's answer.
    pub(super) wrote: Wrote,
}

/// The one segment that the connection has not been given, if it is one and no more.
fn take_only_segment(
    connection: &mut Connection,
    channels: &mut Channels,
    oldest: &mut Option<Moment>,
    counters: &ShardCounters,
) -> Option<Source> {
    let single = connection.session.is_none();
    let subscription = connection.first.as_mut()?;
    let live = subscription.mode == DeliveryMode::Live;
    if !single || !live {
        return None;
    }
    let local = channels.local(subscription.channel);
    if local.head().wrapping_sub(subscription.cursor) != 1 {
        return None;
    }
    let head = local.head();
    let (frames, count, accepted) = local.last_segment(connection.wire)?;
    let frames = Rc::clone(frames);
    subscription.cursor = head;
    counters.deliveries.add(count as u64);
    *oldest = Some(oldest.map_or(accepted, |before| before.min(accepted)));
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
