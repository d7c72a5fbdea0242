//! The bytes that one connection still has to receive: its own replies, and references to shared
//! frames. An empty outbox uses no memory. The memory of the others is charged to the shard.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::Busy;
use crate::ids::Tick;
use crate::limits::{PIECE_JOIN_BYTES_MAX, PIECE_SHARED_BYTES_MIN};
use crate::wire::Wire;

/// Frames for many connections.
#[derive(Debug)]
pub struct Frames {
    bytes: Box<[u8]>,
    /// Number of references in outboxes. The count of the `Rc` also includes references of
    /// segments, which are not charged to outboxes.
    holders: Cell<u32>,
}

impl Frames {
    /// Creates shared frames from complete encoded frames.
    pub fn new(bytes: Vec<u8>) -> Rc<Frames> {
        Rc::new(Frames { bytes: bytes.into_boxed_slice(), holders: Cell::new(0) })
    }

    /// Returns the encoded frames.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the memory of the frames and their reference counts.
    fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Frames>() + 2 * size_of::<usize>()
    }
}

/// Waiting bytes: one or more complete frames.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Frames that other connections receive as well.
    Shared(Rc<Frames>),
    /// Frames for this connection alone.
    Own(Vec<u8>),
    /// Many bytes for this connection alone, which are sent from where they were encoded.
    Long(Rc<Frames>),
}

const PIECE_BYTES: usize = size_of::<Piece>();

impl Piece {
    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Piece::Shared(frames) | Piece::Long(frames) => frames.bytes(),
            Piece::Own(bytes) => bytes,
        }
    }

    /// Memory that only this connection uses.
    fn own_bytes(&self) -> usize {
        match self {
            Piece::Shared(_) => 0,
            Piece::Own(bytes) => bytes.capacity(),
            Piece::Long(frames) => frames.memory_bytes(),
        }
    }
}

/// The memory of all outboxes of a shard. Frames that are in several of them count once.
#[derive(Debug, Default)]
pub struct Accounts {
    own: usize,
    shared: usize,
}

impl Accounts {
    /// Returns the bytes that belong to single outboxes, including references to shared frames.
    pub fn own_bytes(&self) -> usize {
        self.own
    }

    /// Returns the bytes of shared frames.
    pub fn shared_bytes(&self) -> usize {
        self.shared
    }

    /// Returns the sum of both.
    pub fn bytes(&self) -> usize {
        self.own + self.shared
    }

    fn hold(&mut self, frames: &Frames) {
        let holders = frames.holders.get();
        frames.holders.set(holders + 1);
        if holders == 0 {
            self.shared += frames.memory_bytes();
        }
    }

    fn let_go(&mut self, frames: &Frames) {
        let holders = frames.holders.get();
        assert!(holders > 0, "shared frames were released too often");
        frames.holders.set(holders - 1);
        if holders == 1 && !crate::sabotage!(ForgottenRelease) {
            assert!(frames.memory_bytes() <= self.shared, "held frames are charged");
            self.shared -= frames.memory_bytes();
        }
    }
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    /// Number of bytes of the first piece that the kernel has accepted.
    sent: usize,
    /// Cost of all pieces: their bytes, and a fixed overhead for each.
    cost: usize,
    /// Capacities of this connection's own pieces.
    own: usize,
    /// Bytes that the shard's accounts have been charged for this outbox alone.
    charged: usize,
    /// Number of bytes that the kernel has accepted since the outbox was last empty.
    taken: usize,
    /// The time at which the kernel last accepted bytes, or began to refuse them.
    moved: Tick,
    /// The ranks of the outbox within its shard, by memory and by cost.
    ranks: [u8; 2],
}

impl Outbox {
    /// Whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Returns the cost of the waiting pieces: their bytes, and a fixed overhead for each.
    pub fn cost_bytes(&self) -> usize {
        self.cost
    }

    /// Returns the memory that would be free without this outbox. Shared frames are not included,
    /// because other outboxes may contain them.
    pub fn memory_bytes(&self) -> usize {
        self.charged
    }

    /// Number of bytes that the kernel has accepted since the outbox was last empty.
    pub fn taken_bytes(&self) -> usize {
        self.taken
    }

    /// Returns the time at which the kernel last accepted bytes, or began to refuse them.
    pub fn moved(&self) -> Tick {
        self.moved
    }

    /// Records that the kernel has accepted bytes, or has begun to refuse them.
    pub fn set_moved(&mut self, now: Tick) {
        self.moved = now;
    }

    /// Returns the ranks of the outbox within its shard, which the shard's budget stores here.
    pub fn ranks_mut(&mut self) -> &mut [u8; 2] {
        &mut self.ranks
    }

    /// Appends shared frames. Short ones are copied, because a reference would cost more.
    pub fn push_shared(&mut self, frames: Rc<Frames>, accounts: &mut Accounts) {
        if frames.bytes().len() < PIECE_SHARED_BYTES_MIN {
            return self.push_own(frames.bytes(), accounts);
        }
        accounts.hold(&frames);
        self.push_piece(Piece::Shared(frames), accounts);
    }

    /// Appends frames of this connection alone. Small ones join the last piece.
    pub fn push_own(&mut self, bytes: &[u8], accounts: &mut Accounts) {
        match self.pieces.back_mut() {
            Some(Piece::Own(last)) if last.len() + bytes.len() <= PIECE_JOIN_BYTES_MAX => {
                let (length, before) = (last.len() + bytes.len(), last.capacity());
                if length > before {
                    // The capacity doubles, but never beyond the maximum of a joined piece, because
                    // it is charged.
                    let wanted = length.max((2 * before).min(PIECE_JOIN_BYTES_MAX));
                    last.reserve_exact(wanted - last.len());
                }
                last.extend_from_slice(bytes);
                self.own += last.capacity() - before;
                self.cost += bytes.len();
            }
            _ => return self.push_piece(Piece::Own(bytes.to_vec()), accounts),
        }
        self.charge(accounts);
    }

    /// Appends many bytes for this connection alone, without copying them.
    pub fn push_long(&mut self, frames: Rc<Frames>, accounts: &mut Accounts) {
        self.push_piece(Piece::Long(frames), accounts);
    }

    /// Puts frames of this connection alone before all others, of which nothing may have been sent.
    pub fn push_first(&mut self, bytes: &[u8], accounts: &mut Accounts) {
        assert_eq!(self.sent, 0, "nothing comes before a frame that has begun");
        let piece = Piece::Own(bytes.to_vec());
        self.count(&piece);
        self.pieces.push_front(piece);
        self.charge(accounts);
    }

    fn push_piece(&mut self, piece: Piece, accounts: &mut Accounts) {
        self.count(&piece);
        self.pieces.push_back(piece);
        self.charge(accounts);
    }

    fn count(&mut self, piece: &Piece) {
        self.own += piece.own_bytes();
        self.cost += piece.bytes().len() + PIECE_BYTES;
    }

    /// Returns the first piece, the number of its bytes that the kernel has accepted, and whether
    /// other pieces follow.
    pub fn front(&self) -> Option<(&Piece, usize, bool)> {
        self.pieces.front().map(|first| (first, self.sent, self.pieces.len() > 1))
    }

    /// Appends the next bytes to send to `out`, at most `bytes_max`.
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

    /// Removes the first `count` bytes, because the kernel has accepted them.
    pub fn consume(&mut self, count: usize, accounts: &mut Accounts) {
        self.sent += count;
        self.taken += count;
        while let Some(first) = self.pieces.front() {
            let length = first.bytes().len();
            if self.sent < length {
                break;
            }
            self.sent -= length;
            let first = self.pieces.pop_front();
            self.let_go(first, accounts);
        }
        assert!(self.sent == 0 || !self.is_empty(), "more bytes were sent than the outbox had");
        self.charge(accounts);
    }

    /// Removes all frames of which no byte has been sent, so that a close frame can follow. The
    /// rest of a partly sent frame stays, because the client could not parse the close frame
    /// otherwise.
    pub fn discard_unsent(&mut self, wire: Wire, accounts: &mut Accounts) {
        let keep = usize::from(self.sent > 0);
        while self.pieces.len() > keep {
            let last = self.pieces.pop_back();
            self.let_go(last, accounts);
        }
        if let Some(rest) = self.rest_to_copy(wire) {
            let first = self.pieces.pop_front();
            self.let_go(first, accounts);
            self.sent = 0;
            if !rest.is_empty() {
                self.push_own(&rest, accounts);
            }
        }
        self.pieces.shrink_to_fit();
        self.charge(accounts);
    }

    /// Returns a copy of the rest of a partly sent frame, if that takes less memory than its piece.
    /// A small copy of a shared piece is worth it, because it releases the whole piece.
    fn rest_to_copy(&self, wire: Wire) -> Option<Vec<u8>> {
        let first = self.pieces.front()?;
        let left = &first.bytes()[self.sent..];
        let rest = wire.rest_of_frame(first.bytes(), self.sent);
        let cheaper = match first {
            Piece::Shared(_) => rest <= PIECE_JOIN_BYTES_MAX,
            Piece::Own(_) | Piece::Long(_) => rest < left.len(),
        };
        cheaper.then(|| left[..rest].to_vec())
    }

    /// Removes everything.
    pub fn clear(&mut self, accounts: &mut Accounts) {
        while let Some(piece) = self.pieces.pop_front() {
            self.let_go(Some(piece), accounts);
        }
        self.sent = 0;
        self.charge(accounts);
    }

    fn let_go(&mut self, piece: Option<Piece>, accounts: &mut Accounts) {
        let Some(piece) = piece else { return };
        self.cost -= piece.bytes().len() + PIECE_BYTES;
        self.own -= piece.own_bytes();
        if let Piece::Shared(frames) = piece {
            accounts.let_go(&frames);
        }
    }

    /// Updates the accounts, and frees the memory of an outbox that has become empty.
    fn charge(&mut self, accounts: &mut Accounts) {
        let memory = self.measure();
        accounts.own = accounts.own - self.charged + memory;
        self.charged = memory;
    }

    fn measure(&mut self) -> usize {
        if self.is_empty() {
            assert!(self.cost == 0 && self.own == 0, "an empty outbox must have no cost");
            self.pieces = VecDeque::new();
            self.taken = 0;
            return 0;
        }
        self.own + self.pieces.capacity() * PIECE_BYTES + size_of::<Busy>()
    }

    /// Whether the stored numbers agree with the pieces. For audits.
    pub fn is_consistent(&self) -> bool {
        let own = self.pieces.iter().map(Piece::own_bytes);
        let cost = self.pieces.iter().map(|piece| piece.bytes().len() + PIECE_BYTES);
        let memory = self.own + self.pieces.capacity() * PIECE_BYTES + size_of::<Busy>();
        own.sum::<usize>() == self.own
            && cost.sum::<usize>() == self.cost
            && self.charged == if self.is_empty() { 0 } else { memory }
    }

    /// Returns the address and memory of each waiting shared piece. For audits.
    pub fn shared(&self) -> impl Iterator<Item = (*const Frames, usize)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Shared(frames) => Some((Rc::as_ptr(frames), frames.memory_bytes())),
            Piece::Own(_) | Piece::Long(_) => None,
        })
    }
}

#[cfg(test)]
mod tests;
