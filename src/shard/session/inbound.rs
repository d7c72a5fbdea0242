//! Input that has not been handled: the list of connections that continue, and the memory for
//! unfinished messages. This memory is charged to the connection that causes it, and bounded for
//! the shard.

use std::collections::VecDeque;

use crate::connection::{Flags, Slots};
use crate::ids::Tick;
use crate::kernel::ConnectionKey;
use crate::limits::{INBOUND_SLACK, RECEIVE_BYTES_MAX};

/// Input that has not been handled, of all connections.
pub struct Input {
    /// Connections with something to read, or with parked input that may continue.
    readable: VecDeque<ConnectionKey>,
    /// Memory for unfinished messages.
    unfinished: Unfinished,
    /// Clients that have exceeded a rate, of frames or of bytes of histories.
    owing: VecDeque<ConnectionKey>,
    /// Buffer for the next read. All connections share it, so an idle connection needs none.
    buffer: Vec<u8>,
    /// Buffer in which the next answer is encoded. It is empty between answers.
    reply_buffer: Vec<u8>,
}

impl Input {
    /// Creates empty input. Unfinished messages may have at most `unfinished_bytes_max` bytes.
    pub fn new(unfinished_bytes_max: usize) -> Input {
        Input {
            readable: VecDeque::new(),
            unfinished: Unfinished::new(unfinished_bytes_max),
            owing: VecDeque::new(),
            buffer: vec![0; RECEIVE_BYTES_MAX],
            reply_buffer: Vec::new(),
        }
    }

    /// Adds a connection to the list of those that continue, with parked input or by reading.
    pub fn list(&mut self, slots: &mut Slots, key: ConnectionKey) {
        let flags = &mut slots.connection(key).flags;
        if !flags.has(Flags::LISTED) {
            flags.set(Flags::LISTED);
            self.readable.push_back(key);
        }
    }

    /// Number of connections on the list of those that continue.
    pub fn listed_count(&self) -> usize {
        self.readable.len()
    }

    /// Takes the first connection from that list.
    pub fn take_listed(&mut self) -> Option<ConnectionKey> {
        self.readable.pop_front()
    }

    /// Records that a socket may have bytes.
    pub fn mark_readable(&mut self, slots: &mut Slots, key: ConnectionKey) {
        slots.connection(key).flags.set(Flags::READABLE);
        self.list(slots, key);
    }

    /// Whether a client may receive publications of a history now. If not, the caller must park the
    /// command, which continues when the client has waited long enough.
    pub fn may_replay(&mut self, slots: &mut Slots, key: ConnectionKey, now: Tick) -> bool {
        let may = slots.connection(key).meter.may_replay(now);
        if !may {
            self.owe(slots, key);
        }
        may
    }

    /// Makes a client wait until the next tick with all its further input.
    pub fn owe(&mut self, slots: &mut Slots, key: ConnectionKey) {
        let connection = slots.connection(key);
        connection.flags.set(Flags::PARKED);
        if !connection.flags.has(Flags::OWING) {
            connection.flags.set(Flags::OWING);
            self.owing.push_back(key);
        }
    }

    /// Lets clients that have exceeded a rate try again.
    pub fn on_tick_owing(&mut self, slots: &mut Slots) {
        for key in std::mem::take(&mut self.owing) {
            // The client may have left in the meantime.
            if let Some(connection) = slots.get(key) {
                connection.flags.clear(Flags::OWING);
                self.list(slots, key);
            }
        }
    }

    /// Updates the charge for a connection's unfinished input.
    pub fn account(&mut self, slots: &mut Slots, key: ConnectionKey) {
        let connection = slots.connection(key);
        let Some(busy) = connection.busy.as_mut() else { return };
        let flags = &connection.flags;
        let left = [Flags::WAITING, Flags::PARKED, Flags::READABLE];
        if !left.iter().any(|flag| flags.has(*flag)) {
            // All input has been handled, so the next request waits with its own time.
            busy.unserved = None;
        }
        let (before, after) = (busy.charged, busy.inbound_bytes());
        busy.charged = after;
        if let Some(begun) = self.unfinished.charge(key, before, after) {
            busy.begun = begun;
        }
        connection.shrink();
    }

    /// Returns the memory of a connection that ends.
    pub fn discharge(&mut self, key: ConnectionKey, charged: usize) {
        self.unfinished.charge(key, charged, 0);
    }

    /// Bytes of unfinished input of all connections.
    pub fn unfinished_bytes(&self) -> usize {
        self.unfinished.bytes()
    }

    /// The connection whose input has been unfinished for the longest time, if the shard's limit is
    /// exceeded. The caller must close it and call this again.
    pub fn take_beyond_bounds(&mut self, slots: &mut Slots) -> Option<ConnectionKey> {
        while self.unfinished.is_full() {
            let oldest = self.unfinished.take_oldest()?;
            if is_unfinished(slots, oldest) {
                return Some(oldest.key);
            }
        }
        let unfinished = &mut self.unfinished;
        // Finished inputs leave stale entries in the queue, because removing each one would need a
        // search.
        unfinished.compact(|begun| is_unfinished(slots, *begun));
        None
    }

    /// Takes the buffer for reads.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Gives the buffer for reads back.
    pub fn keep_buffer(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    /// Takes the empty buffer in which the next reply is encoded.
    pub fn take_reply_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.reply_buffer)
    }

    /// Keeps the buffer of a sent reply for the next one.
    pub fn keep_reply_buffer(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.reply_buffer = buffer;
    }
}

/// Whether an input that had begun is still unfinished.
fn is_unfinished(slots: &mut Slots, Begun { key, number }: Begun) -> bool {
    let busy = slots.get(key).and_then(|connection| connection.busy.as_ref());
    busy.is_some_and(|busy| busy.charged > 0 && busy.begun == number)
}

/// The beginning of an input that is not complete.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// Key of the connection.
    pub key: ConnectionKey,
    /// Number of the beginning, in order of time.
    pub number: u64,
}

/// Unfinished input of all connections of a shard.
pub struct Unfinished {
    bytes: usize,
    bytes_max: usize,
    /// Connections with unfinished input, in the order in which it began. Some entries may have
    /// been finished in the meantime.
    oldest: VecDeque<Begun>,
    live: usize,
    /// Number of the last beginning.
    begun: u64,
}

impl Unfinished {
    /// Creates an empty account with a limit of `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Unfinished {
        Unfinished { bytes: 0, bytes_max, oldest: VecDeque::new(), live: 0, begun: 0 }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records that a connection's unfinished input has changed from `before` to `after` bytes.
    /// Returns the number of its beginning if it has just begun.
    pub fn charge(&mut self, key: ConnectionKey, before: usize, after: usize) -> Option<u64> {
        assert!(before <= self.bytes, "a connection returned more bytes than were charged");
        self.bytes = self.bytes - before + after;
        match (before, after) {
            (0, 1..) => {
                self.live += 1;
                self.begun += 1;
                self.oldest.push_back(Begun { key, number: self.begun });
                return Some(self.begun);
            }
            (1.., 0) => self.live -= 1,
            _ => {}
        }
        None
    }

    /// Whether connections must be closed to make room.
    pub fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// The connection whose input has been unfinished for the longest time. The input may be
    /// finished by now.
    pub fn take_oldest(&mut self) -> Option<Begun> {
        self.oldest.pop_front()
    }

    /// Removes entries for which `keep` returns false, if there are many.
    pub fn compact(&mut self, keep: impl FnMut(&Begun) -> bool) {
        if self.oldest.len() > 2 * self.live + INBOUND_SLACK {
            self.oldest.retain(keep);
        }
    }
}
