//! The trait through which a shard uses the kernel. A ring, an epoll and a simulated network
//! implement it, so the logic of a shard is the same on all three.

use crate::ids::{ConnectionId, Generation, Moment, Slot};
use crate::proxies::Peer;

/// A descriptor's number in the table of its shard. It has no meaning in other threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket(i32);

impl Socket {
    /// Creates the name of the socket with descriptor `number`.
    pub const fn new(number: i32) -> Socket {
        Socket(number)
    }

    /// Returns the descriptor's number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// Identifies the connection of an event. The generation distinguishes it from earlier connections
/// in the same slot, whose events may still arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionKey {
    /// The slot of the connection.
    pub slot: Slot,
    /// The generation of the slot.
    pub generation: Generation,
}

impl ConnectionKey {
    const SLOT_BITS: u32 = Slot::COUNT_MAX.trailing_zeros();

    /// The key of a connection of this shard.
    pub const fn of(connection: ConnectionId) -> ConnectionKey {
        ConnectionKey { slot: connection.slot, generation: connection.generation }
    }

    /// The key in the low 56 bits of a number, for a ring's `user_data`.
    pub const fn to_bits(self) -> u64 {
        (self.generation.value() as u64) << Self::SLOT_BITS | self.slot.index() as u64
    }

    /// Returns the key that [`ConnectionKey::to_bits`] encoded.
    pub const fn from_bits(bits: u64) -> ConnectionKey {
        ConnectionKey {
            slot: Slot::new(bits as usize & (Slot::COUNT_MAX - 1)),
            generation: Generation::new((bits >> Self::SLOT_BITS) as u32),
        }
    }
}

/// An event of a watched socket. Events are edge-triggered: each change is reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The connection of the socket.
    pub key: ConnectionKey,
    /// There may be bytes to read, or the end of the stream.
    pub readable: bool,
    /// There may be room for writes again.
    pub writable: bool,
    /// The peer has ended its stream, or the connection is dead. Further reads show which.
    pub hangup: bool,
    /// The watch has ended, so there are no further events for this key until the socket is watched
    /// again. With `hangup` as well, the kernel could not keep the watch.
    pub ended: bool,
}

/// Bytes for one socket.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The socket.
    pub socket: Socket,
    /// The bytes, at least one.
    pub bytes: &'a [u8],
}

/// The result of a [`Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// The kernel accepted this many bytes, at least one.
    Bytes(usize),
    /// There is no room, or no memory. `writable` is reported later, unless no bytes are on their
    /// way to the peer; see [`Sockets::has_sent_all`].
    Blocked,
    /// The connection is dead.
    Gone,
}

/// The result of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// This many bytes were received, at least one.
    Bytes(usize),
    /// The peer has ended its stream.
    End,
    /// There are no bytes at the moment. `readable` is reported later.
    Nothing,
    /// The connection is dead.
    Gone,
}

/// The way in which a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Bytes that were sent still arrive, and then the peer sees the end of the stream.
    Graceful,
    /// The peer sees a reset, and the kernel drops the connection immediately. This is for peers
    /// that may be dead.
    Abort,
}

/// The operations of the kernel on client sockets. No call blocks.
pub trait Sockets {
    /// Watches a socket until it is released.
    fn watch(&mut self, socket: Socket, key: ConnectionKey);

    /// Returns the other end of a socket. `None` if the connection is dead.
    fn peer(&self, socket: Socket) -> Option<Peer>;

    /// Receives bytes from a socket.
    fn receive(&mut self, socket: Socket, buffer: &mut [u8]) -> Received;

    /// Sends each write to its socket, and appends the results in the same order. There may be at
    /// most [`crate::limits::SWEEP_SENDS_MAX`] writes, each to another socket. With a ring this is
    /// one system call.
    fn send(&mut self, writes: &[Write<'_>], results: &mut Vec<Wrote>);

    /// Whether everything that the socket accepted has been sent and acknowledged. If it is blocked
    /// nevertheless, the kernel lacked memory. Then no event will report that it is writable, so
    /// the caller must try again by itself.
    fn has_sent_all(&self, socket: Socket) -> bool;

    /// Ends the stream to the peer.
    fn finish(&mut self, socket: Socket);

    /// Shuts a socket down and stops watching it. It may be closed only after the event
    /// `Ready::ended`, because until then the watch would keep it open in the kernel.
    fn release(&mut self, socket: Socket, key: ConnectionKey, how: Release);

    /// Closes a released socket.
    fn close(&mut self, socket: Socket);

    /// Appends all new events to `ready`, oldest first.
    fn poll(&mut self, ready: &mut Vec<Ready>);

    /// Whether a tenth of a second has passed since the last call.
    fn take_tick(&mut self) -> bool;

    /// Returns the current time.
    fn now(&self) -> Moment;

    /// Whether the descriptor is open. For audits.
    fn is_open(&self, socket: Socket) -> bool;
}
