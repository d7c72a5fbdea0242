//! What a shard asks of the kernel. A ring, an epoll and a simulated network answer alike, so the
//! shard's logic is the same in all three.

use crate::ids::{Generation, Moment, Slot};

/// A descriptor's number in its shard's own table. It means nothing in any other thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket(i32);

impl Socket {
    /// The socket with descriptor `number`.
    pub const fn new(number: i32) -> Socket {
        Socket(number)
    }

    /// The descriptor's number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// Tells whose event it is: slot and generation, so that an event for a slot's last tenant is
/// never taken for its present one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionKey {
    /// The connection's place.
    pub slot: Slot,
    /// Which tenant.
    pub generation: Generation,
}

impl ConnectionKey {
    const SLOT_BITS: u32 = Slot::COUNT_MAX.trailing_zeros();

    /// The key in the low 56 bits of a number, for a ring's `user_data`.
    pub const fn to_bits(self) -> u64 {
        (self.generation.value() as u64) << Self::SLOT_BITS | self.slot.index() as u64
    }

    /// The key that [`ConnectionKey::to_bits`] wrote.
    pub const fn from_bits(bits: u64) -> ConnectionKey {
        ConnectionKey {
            slot: Slot::new(bits as usize & (Slot::COUNT_MAX - 1)),
            generation: Generation::new((bits >> Self::SLOT_BITS) as u32),
        }
    }
}

/// News of a watched socket. Edge-like: it is told once, when it becomes so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Whose.
    pub key: ConnectionKey,
    /// There may be bytes, or the end of the stream.
    pub readable: bool,
    /// There may be room again.
    pub writable: bool,
    /// The peer has ended its stream, or the connection is dead: reading on will show it.
    pub hangup: bool,
    /// The watch has ended, by request or because the kernel could not keep it: nothing more will
    /// come for this key until it is watched again. With `hangup`, the kernel can't watch it.
    pub ended: bool,
}

/// Bytes for one socket.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Where to.
    pub socket: Socket,
    /// What; never empty.
    pub bytes: &'a [u8],
}

/// What became of a [`Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// The kernel took this many bytes, at least one.
    Bytes(usize),
    /// There is no room, or no memory. `writable` will be told, unless nothing is on its way to the
    /// peer: see [`Sockets::has_sent_all`].
    Blocked,
    /// The connection is dead.
    Gone,
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// This many bytes, at least one.
    Bytes(usize),
    /// The peer will send no more.
    End,
    /// Nothing now; `readable` will be told.
    Nothing,
    /// The connection is dead.
    Gone,
}

/// How a socket is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// What was sent still arrives; then the peer sees the end.
    Graceful,
    /// The peer sees a reset, and the kernel forgets the connection at once. For peers that may
    /// be dead.
    Abort,
}

/// The kernel, as a shard sees it. No call blocks.
pub trait Sockets {
    /// Watches a socket for as long as it is open.
    fn watch(&mut self, socket: Socket, key: ConnectionKey);

    /// Takes bytes from a socket.
    fn receive(&mut self, socket: Socket, buffer: &mut [u8]) -> Received;

    /// Hands each write to its socket and puts what became of it into `results`, in order. At
    /// most [`crate::limits::SWEEP_SENDS_MAX`] writes, no socket twice: one system call.
    fn send(&mut self, writes: &[Write<'_>], results: &mut Vec<Wrote>);

    /// Whether all that the socket took has been sent and acknowledged: if it takes nothing even
    /// so, no news will say that it does again.
    fn has_sent_all(&self, socket: Socket) -> bool;

    /// Tells the peer that nothing more will be sent.
    fn finish(&mut self, socket: Socket);

    /// Shuts a socket down and stops watching it. `Ready::ended` follows; only then may it be
    /// closed: closing earlier would leave the kernel's watch holding it open.
    fn release(&mut self, socket: Socket, key: ConnectionKey, how: Release);

    /// Closes a released socket.
    fn close(&mut self, socket: Socket);

    /// Moves all news that there is to the end of `ready`, oldest first.
    fn poll(&mut self, ready: &mut Vec<Ready>);

    /// Whether a tenth of a second has passed since the last call.
    fn take_tick(&mut self) -> bool;

    /// The time.
    fn now(&self) -> Moment;

    /// Whether the descriptor is open: for audits.
    fn is_open(&self, socket: Socket) -> bool;
}
