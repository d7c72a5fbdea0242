//! What one connection has still to be sent: replies of its own, and references to frames that
//! many share. An empty outbox holds no memory.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::limits::ENTRY_OVERHEAD_BYTES;

/// Bytes that wait, one or more complete frames.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Frames that other connections are sent as well.
    Shared(Rc<[u8]>),
    /// Frames for this connection alone.
    Own(Vec<u8>),
}

impl Piece {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Piece::Shared(bytes) => bytes,
            Piece::Own(bytes) => bytes,
        }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that the kernel has.
    sent: usize,
    /// Cost of all pieces.
    cost: usize,
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// What the waiting pieces cost, with a fixed overhead for each.
    pub fn cost_bytes(&self) -> usize {
        self.cost
    }

    /// Appends shared frames.
    pub fn push_shared(&mut self, bytes: Rc<[u8]>) {
        self.cost += bytes.len() + ENTRY_OVERHEAD_BYTES;
        self.pieces.push_back(Piece::Shared(bytes));
    }

    /// Appends frames of this connection alone. Small ones join the last piece.
    pub fn push_own(&mut self, bytes: &[u8]) {
        const JOIN_BYTES_MAX: usize = 4096;
        match self.pieces.back_mut() {
            Some(Piece::Own(last)) if last.len() + bytes.len() <= JOIN_BYTES_MAX => {
                last.extend_from_slice(bytes);
                self.cost += bytes.len();
            }
            _ => {
                self.cost += bytes.len() + ENTRY_OVERHEAD_BYTES;
                self.pieces.push_back(Piece::Own(bytes.to_vec()));
            }
        }
    }

    /// The first piece, how many of its bytes the kernel has, and whether anything follows it.
    pub fn front(&self) -> Option<(&Piece, usize, bool)> {
        self.pieces.front().map(|first| (first, self.sent, self.pieces.len() > 1))
    }

    /// Copies what is to be sent next to the end of `out`, at most `bytes_max` bytes of it.
    pub fn gather(&self, bytes_max: usize, out: &mut Vec<u8>) {
        let mut room = bytes_max;
        let mut skip = self.sent;
        for piece in &self.pieces {
            let bytes = &piece.bytes()[skip..];
            let count = bytes.len().min(room);
            out.extend_from_slice(&bytes[..count]);
            room -= count;
            skip = 0;
            if room == 0 {
                return;
            }
        }
    }

    /// Forgets the first `count` bytes: the kernel has them.
    pub fn consume(&mut self, count: usize) {
        self.sent += count;
        while let Some(first) = self.pieces.front() {
            let length = first.bytes().len();
            if self.sent < length {
                return;
            }
            self.sent -= length;
            self.cost -= length + ENTRY_OVERHEAD_BYTES;
            self.pieces.pop_front();
        }
        assert_eq!(self.sent, 0, "no more is sent than waits");
        *self = Outbox::default();
    }

    /// Forgets everything that has not begun to be sent, so that a close frame can follow. A
    /// piece that has begun stays, or its last frame would be torn.
    pub fn discard_unsent(&mut self) {
        let keep = usize::from(self.sent > 0);
        for piece in self.pieces.drain(keep..) {
            self.cost -= piece.bytes().len() + ENTRY_OVERHEAD_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_whatever_the_kernel_takes() {
        let mut outbox = Outbox::default();
        outbox.push_own(b"abc");
        outbox.push_own(b"de");
        outbox.push_shared(Rc::from(&b"fgh"[..]));
        outbox.push_own(b"i");
        let mut out = Vec::new();
        while !outbox.is_empty() {
            let mut gathered = Vec::new();
            outbox.gather(4, &mut gathered);
            out.extend_from_slice(&gathered[..gathered.len().min(3)]);
            outbox.consume(gathered.len().min(3));
        }
        assert_eq!(out, b"abcdefghi");
        assert_eq!(outbox.cost_bytes(), 0);
    }

    #[test]
    fn discarding_keeps_a_piece_that_has_begun() {
        let mut outbox = Outbox::default();
        outbox.push_shared(Rc::from(&b"abc"[..]));
        outbox.push_shared(Rc::from(&b"def"[..]));
        outbox.consume(1);
        outbox.discard_unsent();
        let front = outbox.front().map(|(piece, sent, more)| (piece.bytes().to_vec(), sent, more));
        assert_eq!(front, Some((b"abc".to_vec(), 1, false)));
        assert_eq!(outbox.cost_bytes(), 3 + ENTRY_OVERHEAD_BYTES);
        outbox.consume(2);
        assert!(outbox.is_empty());
    }
}
