//! Memory for unfinished input: charged to the connection that causes it, bounded for the shard.

use std::collections::VecDeque;

use crate::kernel::ConnectionKey;

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
