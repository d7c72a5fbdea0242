//! The sweep visits connections with data to send in the order of their slots. Each gets all unseen
//! publications in one write, and 256 writes are one system call. Between two such chunks the rest
//! of the turn runs.

use std::ops::Range;
use std::rc::Rc;

use super::fanout::Fanout;
use super::subscribers::LocalChannels;
use crate::connection::{Connection, DeliveryMode, Flags, Frames, Outbox, Piece, State};
use crate::ids::{Moment, Slot};
use crate::kernel::{ConnectionKey, Socket, Sockets, Write, Wrote};
use crate::limits::{
    COPY_BYTES_MAX, GATHER_BYTES_MAX, SWEEP_LOOKS_MAX, SWEEP_OUTBOX_BYTES_MAX, SWEEP_SENDS_MAX,
};
use crate::metrics::{DeliveryTimes, ShardCounters};

/// The position of the sweep, and its buffers.
#[derive(Default)]
pub(super) struct Sweep {
    position: usize,
    /// Connections that the current chunk has visited, and gaps that they have reached.
    looks: usize,
    /// Bytes of the chunk's writes that come from outboxes.
    outbox_bytes: usize,
    /// Number of writes of the chunk whose results have been handled.
    done: usize,
    cork: Vec<u8>,
    entries: Vec<Entry>,
    results: Vec<Wrote>,
    /// Time at which the oldest publication of the chunk was accepted.
    oldest: Option<Moment>,
    /// Delivery times of the last seconds.
    times: DeliveryTimes,
}

impl Sweep {
    /// Begins an empty chunk.
    fn begin_chunk(&mut self) {
        self.done = 0;
        self.outbox_bytes = 0;
        self.cork.clear();
        self.entries.clear();
        self.results.clear();
    }

    /// Whether the current chunk may visit one more connection.
    fn has_room(&self) -> bool {
        self.looks < SWEEP_LOOKS_MAX
            && self.entries.len() < SWEEP_SENDS_MAX
            && self.outbox_bytes + GATHER_BYTES_MAX <= SWEEP_OUTBOX_BYTES_MAX
    }

    /// The next connection for the chunk to visit.
    pub(super) fn next(
        &mut self,
        fanout: &mut Fanout,
        channels: &mut LocalChannels,
    ) -> Option<Slot> {
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

    /// Ends the pass and starts at the first slot again.
    fn wrap(&mut self, fanout: &mut Fanout, channels: &mut LocalChannels) {
        self.position = 0;
        fanout.end_round(channels);
    }

    /// Counts a gap like a visit, because one connection may reach many gaps.
    pub(super) fn count_gap(&mut self) {
        self.looks += 1;
    }

    /// Time at which the oldest publication of the chunk was accepted.
    pub(super) fn oldest(&mut self) -> &mut Option<Moment> {
        &mut self.oldest
    }

    /// Queues the write of a connection whose outbox is empty and which lacks exactly one segment.
    /// Returns true if it is such a connection.
    pub(super) fn gather_segment(
        &mut self,
        connection: &mut Connection,
        key: ConnectionKey,
        channels: &mut LocalChannels,
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

    /// Queues a write from a connection's outbox. Returns true if there is something to write.
    pub(super) fn gather_outbox(&mut self, connection: &Connection, key: ConnectionKey) -> bool {
        // Nothing is sent before the response to the upgrade or the reply to `connect`. But
        // channels drop a segment after a pass, so it must be in the outbox by then.
        let begins = match connection.state {
            State::Upgrading => !crate::sabotage!(EarlyUpgrade),
            State::Resuming => true,
            _ => false,
        };
        let released = connection.state == State::Released;
        if begins || released || connection.flags.has(Flags::BLOCKED) {
            return false;
        }
        // The connection may have been marked for another reason than bytes in its outbox.
        let Some(busy) = connection.busy.as_ref() else { return false };
        let Some(source) = take_from_outbox(&busy.outbox, self) else { return false };
        self.entries.push(Entry { key, socket: connection.socket, source });
        true
    }

    /// Ends the chunk: hands all of its writes to the kernel in one system call.
    pub(super) fn send(
        &mut self,
        io: &mut impl Sockets,
        fanout: &mut Fanout,
        channels: &mut LocalChannels,
        counters: &ShardCounters,
    ) {
        // When no connection is marked, the pass has ended, and its segments can be dropped
        // immediately.
        if fanout.is_clean() && self.looks > 0 {
            self.wrap(fanout, channels);
        }
        self.looks = 0;
        assert!(self.entries.len() <= SWEEP_SENDS_MAX, "a chunk has a bounded number of writes");
        assert!(
            self.outbox_bytes <= SWEEP_OUTBOX_BYTES_MAX,
            "a chunk has a bounded number of bytes from outboxes"
        );
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
            self.times.record(age, self.entries.len() as u64);
        }
    }

    /// Delivery times of the last seconds.
    pub(super) fn times(&mut self) -> &mut DeliveryTimes {
        &mut self.times
    }

    /// The next write that changed more than a cursor. `None` at the end of the chunk.
    pub(super) fn next_attempt(&mut self, counters: &ShardCounters) -> Option<Attempt> {
        let (count, bytes) = written_whole(&self.entries[self.done..], &self.results[self.done..]);
        counters.delivered_bytes.add(bytes as u64);
        self.done += count;
        assert!(self.done <= self.entries.len(), "each write is handled once");
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

/// Where the bytes of a write are.
enum Source {
    /// A segment that the connection has not received, straight from the channel's log.
    Frames(Rc<Frames>),
    /// This range of the first piece of the outbox.
    Front(Rc<Frames>, Range<usize>),
    /// Several pieces of the outbox, copied into the cork.
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

    /// The frames of a segment. They go into the outbox if the kernel did not take all of them.
    fn frames(&self) -> Option<Rc<Frames>> {
        match self {
            Source::Frames(frames) => Some(Rc::clone(frames)),
            Source::Front(..) | Source::Cork(_) => None,
        }
    }
}

/// Counts the leading writes that are segments which the kernel took completely, and their bytes.
/// These are by far the most common writes, and they need no further work.
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

/// A write and its result.
pub(super) struct Attempt {
    /// Key of the connection.
    pub(super) key: ConnectionKey,
    /// The written frames, if they are not in the outbox.
    pub(super) frames: Option<Rc<Frames>>,
    /// Length of the write in bytes.
    pub(super) length: usize,
    /// The kernel's result.
    pub(super) wrote: Wrote,
}

/// Returns the segment that the connection has not received, if there is exactly one.
fn take_only_segment(
    connection: &mut Connection,
    channels: &mut LocalChannels,
    oldest: &mut Option<Moment>,
    counters: &ShardCounters,
) -> Option<Source> {
    // For a client with several channels, all of them must be checked, which `collect` does.
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
    // The last segment may be a gap. `collect` then finds it.
    let (frames, count, accepted) = local.last_segment(connection.wire)?;
    let frames = Rc::clone(frames);
    // The cursor moves before the write. If the kernel takes only a part, the rest goes into the
    // outbox.
    subscription.cursor = head;
    counters.deliveries.add(count as u64);
    *oldest = Some(oldest.map_or(accepted, |before| before.min(accepted)));
    (!frames.bytes().is_empty()).then_some(Source::Frames(frames))
}

/// Returns the next write from an outbox: a large shared piece as it is, or small pieces gathered.
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
