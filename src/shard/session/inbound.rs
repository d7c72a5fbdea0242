//! Input that has not been carried out: the list of connections that go on, and memory for what is
//! unfinished, which is charged to the connection that causes it, and bounded for the shard.

use std::collections::VecDeque;

use crate::connection::{Flags, Slots};
use crate::ids::Tick;
use crate::kernel::ConnectionKey;
use crate::limits::RECEIVE_BYTES_MAX;

/// Input that has not been carried out, of all connections.
pub struct Input {
    /// Connections with something to read, or with parked input that may go on.
    readable: VecDeque<ConnectionKey>,
    /// Memory for input that is not complete.
    unfinished: Unfinished,
    /// Clients that have been given more history than they may have for the time being.
    owing: VecDeque<ConnectionKey>,
    /// What the next read goes into.
    buffer: Vec<u8>,
    /// What the next answer is encoded in; empty between two.
    reply_buffer: Vec<u8>,
}

impl Input {
    /// None yet, and at most `unfinished_bytes_max` that is not complete.
    pub fn new(unfinished_bytes_max: usize) -> Input {
        Input {
            readable: VecDeque::new(),
            unfinished: Unfinished::new(unfinished_bytes_max),
            owing: VecDeque::new(),
            buffer: vec![0; RECEIVE_BYTES_MAX],
            reply_buffer: Vec::new(),
        }
    }

    /// Puts a connection on the list of those that go on: with parked input, or by reading.
    pub fn list(&mut self, slots: &mut Slots, key: ConnectionKey) {
        let flags = &mut slots.connection(key).flags;
        if !flags.has(Flags::LISTED) {
            flags.set(Flags::LISTED);
            self.readable.push_back(key);
        }
    }

    /// How many connections are on that list.
    pub fn listed_count(&self) -> usize {
        self.readable.len()
    }

    /// Takes the first connection from that list.
    pub fn take_listed(&mut self) -> Option<ConnectionKey> {
        self.readable.pop_front()
    }

    /// Notes that a socket may have bytes.
    pub fn mark_readable(&mut self, slots: &mut Slots, key: ConnectionKey) {
        slots.connection(key).flags.set(Flags::READABLE);
        self.list(slots, key);
    }

    /// Whether a client may be given publications of a history now. If not, the command is to be
    /// parked, and goes on when the client has waited long enough.
    pub fn may_replay(&mut self, slots: &mut Slots, key: ConnectionKey, now: Tick) -> bool {
        let connection = slots.connection(key);
        let may = connection.meter.may_replay(now);
        if !may {
            connection.flags.set(Flags::PARKED);
            if !connection.flags.has(Flags::OWING) {
                connection.flags.set(Flags::OWING);
                self.owing.push_back(key);
            }
        }
        may
    }

    /// Lets those try again who have been given too much history.
    pub fn on_tick_owing(&mut self, slots: &mut Slots) {
        for key in std::mem::take(&mut self.owing) {
            // It may have left meanwhile.
            if let Some(connection) = slots.get(key) {
                connection.flags.clear(Flags::OWING);
                self.list(slots, key);
            }
        }
    }

    /// Brings the account of a connection's unfinished input up to date.
    pub fn account(&mut self, slots: &mut Slots, key: ConnectionKey) {
        let connection = slots.connection(key);
        let Some(busy) = connection.busy.as_mut() else { return };
        let flags = &connection.flags;
        let left = [Flags::WAITING, Flags::PARKED, Flags::READABLE];
        if !left.iter().any(|flag| flags.has(*flag)) {
            busy.unserved = None;
        }
        let (before, after) = (busy.charged, busy.inbound_bytes());
        busy.charged = after;
        if let Some(begun) = self.unfinished.charge(key, before, after) {
            busy.begun = begun;
        }
        connection.shrink();
    }

    /// Gives back what a connection that ends has been charged.
    pub fn discharge(&mut self, key: ConnectionKey, charged: usize) {
        self.unfinished.charge(key, charged, 0);
    }

    /// Bytes of unfinished input of all connections.
    pub fn unfinished_bytes(&self) -> usize {
        self.unfinished.bytes()
    }

    /// The connection whose input has been unfinished longest, if all have too much. It is to be
    /// closed, and then this is to be asked again.
    pub fn take_beyond_bounds(&mut self, slots: &mut Slots) -> Option<ConnectionKey> {
        while self.unfinished.is_full() {
            let oldest = self.unfinished.take_oldest()?;
            if is_unfinished(slots, oldest) {
                return Some(oldest.key);
            }
        }
        let unfinished = &mut self.unfinished;
        unfinished.compact(|begun| is_unfinished(slots, *begun));
        None
    }

    /// Takes the buffer that a read goes into.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Gives it back.
    pub fn keep_buffer(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    /// Takes the buffer in which the next reply is encoded. It is empty.
    pub fn take_reply_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.reply_buffer)
    }

    /// Keeps the buffer of a reply that has been sent for the next one.
    pub fn keep_reply_buffer(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.reply_buffer = buffer;
    }
}

/// Whether input that has begun is still not finished.
fn is_unfinished(slots: &mut Slots, Begun { key, number }: Begun) -> bool {
    let busy = slots.get(key).and_then(|connection| connection.busy.as_ref());
    busy.is_some_and(|busy| busy.charged > 0 && busy.begun == number)
}

/// Input that a connection has begun to send.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// The connection.
    pub key: ConnectionKey,
    /// Number of the beginning.
    pub number: u64,
}

/// What all connections together have begun to send and not finished.
pub struct Unfinished {
    bytes: usize,
    bytes_max: usize,
    /// Connections with unfinished input, by the number of its beginning. May name inputs that
    /// have been finished.
    oldest: VecDeque<Begun>,
    live: usize,
    /// Number of the last beginning.
    begun: u64,
}

impl Unfinished {
    /// Nothing yet, of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Unfinished {
        Unfinished { bytes: 0, bytes_max, oldest: VecDeque::new(), live: 0, begun: 0 }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that a connection's unfinished input has changed from `before` to `after` bytes.
    /// Answers the number of its beginning if it has begun.
    pub fn charge(&mut self, key: ConnectionKey, before: usize, after: usize) -> Option<u64> {
        assert!(before <= self.bytes, "what is given back has been charged");
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

    /// The connection whose input has been unfinished longest; its input may be finished by now.
    pub fn take_oldest(&mut self) -> Option<Begun> {
        self.oldest.pop_front()
    }

    /// Drops entries for which `keep` says no, if they have become many.
    pub fn compact(&mut self, keep: impl FnMut(&Begun) -> bool) {
        if self.oldest.len() > 2 * self.live + 1024 {
            self.oldest.retain(keep);
        }
    }
}
