//! What one connection has still to be sent: replies of its own, and references to frames that
//! many share. An empty outbox holds no memory; what the others hold is charged to the shard.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::Busy;
use crate::ids::Tick;
use crate::limits::{PIECE_JOIN_BYTES_MAX, PIECE_SHARED_BYTES_MIN};
use crate::wire::Wire;

/// Frames that many connections are sent.
#[derive(Debug)]
pub struct Frames {
    bytes: Box<[u8]>,
    /// References in outboxes.
    holders: Cell<u32>,
}

impl Frames {
    /// Complete frames, encoded once.
    pub fn new(bytes: Vec<u8>) -> Rc<Frames> {
        Rc::new(Frames { bytes: bytes.into_boxed_slice(), holders: Cell::new(0) })
    }

    /// The frames as they go onto the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Memory of the frames and of what counts the references to them.
    fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Frames>() + 2 * size_of::<usize>()
    }
}

/// Bytes that wait, one or more complete frames.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Frames that other connections are sent as well.
    Shared(Rc<Frames>),
    /// Frames for this connection alone.
    Own(Vec<u8>),
    /// Many bytes for this connection alone, which are sent from where they were encoded.
    Long(Rc<Frames>),
}

const PIECE_BYTES: usize = size_of::<Piece>();

impl Piece {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Piece::Shared(frames) | Piece::Long(frames) => frames.bytes(),
            Piece::Own(bytes) => bytes,
        }
    }

    /// Memory that is of use to this connection only.
    fn own_bytes(&self) -> usize {
        match self {
            Piece::Shared(_) => 0,
            Piece::Own(bytes) => bytes.capacity(),
            Piece::Long(frames) => frames.memory_bytes(),
        }
    }
}

/// Memory of all outboxes of a shard. Frames that several of them wait for count once.
#[derive(Debug, Default)]
pub struct Accounts {
    own: usize,
    shared: usize,
}

impl Accounts {
    /// Bytes that are of use to one connection only, references to shared ones among them.
    pub fn own_bytes(&self) -> usize {
        self.own
    }

    /// Bytes of shared frames.
    pub fn shared_bytes(&self) -> usize {
        self.shared
    }

    /// All of them.
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
        assert!(holders > 0, "who lets go has held");
        frames.holders.set(holders - 1);
        if holders == 1 && !crate::sabotage!(ForgottenRelease) {
            self.shared -= frames.memory_bytes();
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
    /// Capacities of this connection's own pieces.
    own: usize,
    /// What the shard's accounts have been charged for this outbox alone.
    charged: usize,
    /// Bytes that the kernel has taken since the outbox was last empty.
    taken: usize,
    /// When the kernel last took some, or first refused to.
    moved: Tick,
    /// Where the outbox stands among those of its shard, by memory and by cost.
    ranks: [u8; 2],
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

    /// Memory that would be free without this outbox, whoever else waits for the same frames.
    pub fn memory_bytes(&self) -> usize {
        self.charged
    }

    /// Bytes that the kernel has taken since the outbox was last empty.
    pub fn taken_bytes(&self) -> usize {
        self.taken
    }

    /// When the kernel last took bytes, or first refused to.
    pub fn moved(&self) -> Tick {
        self.moved
    }

    /// Notes that the kernel took bytes, or has begun to refuse them.
    pub fn set_moved(&mut self, now: Tick) {
        self.moved = now;
    }

    /// Where the outbox stands among those of its shard: kept here for the shard's budget.
    pub fn ranks_mut(&mut self) -> &mut [u8; 2] {
        &mut self.ranks
    }

    /// Appends shared frames. Short ones are copied: a reference would cost more.
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

    fn push_piece(&mut self, piece: Piece, accounts: &mut Accounts) {
        self.own += piece.own_bytes();
        self.cost += piece.bytes().len() + PIECE_BYTES;
        self.pieces.push_back(piece);
        self.charge(accounts);
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
        assert!(self.sent == 0 || !self.is_empty(), "no more is sent than waits");
        self.charge(accounts);
    }

    /// Forgets everything that has not begun to be sent, so that a close frame can follow. A
    /// frame that has begun stays, or it would be torn.
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

    /// A copy of what is left of the frame that has begun, where that takes less memory than the
    /// piece: what is shared is free for as long as others hold it.
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

    /// Forgets everything.
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

    /// Brings the accounts up to date; the memory of an outbox that has become empty is given back.
    fn charge(&mut self, accounts: &mut Accounts) {
        let memory = self.measure();
        accounts.own = accounts.own - self.charged + memory;
        self.charged = memory;
    }

    fn measure(&mut self) -> usize {
        if self.is_empty() {
            assert!(self.cost == 0 && self.own == 0, "what does not wait costs nothing");
            self.pieces = VecDeque::new();
            self.taken = 0;
            return 0;
        }
        self.own + self.pieces.capacity() * PIECE_BYTES + size_of::<Busy>()
    }

    /// Whether all that is kept of this outbox in numbers is true. For audits.
    pub fn is_consistent(&self) -> bool {
        let own = self.pieces.iter().map(Piece::own_bytes);
        let cost = self.pieces.iter().map(|piece| piece.bytes().len() + PIECE_BYTES);
        let memory = self.own + self.pieces.capacity() * PIECE_BYTES + size_of::<Busy>();
        own.sum::<usize>() == self.own
            && cost.sum::<usize>() == self.cost
            && self.charged == if self.is_empty() { 0 } else { memory }
    }

    /// The shared frames that wait, by their address, and their memory. For audits.
    pub fn shared(&self) -> impl Iterator<Item = (*const Frames, usize)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Shared(frames) => Some((Rc::as_ptr(frames), frames.memory_bytes())),
            Piece::Own(_) | Piece::Long(_) => None,
        })
    }
}

#[cfg(test)]
mod tests;
