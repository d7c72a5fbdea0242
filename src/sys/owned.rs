//! The client sockets that a driver owns.

use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use crate::collections::Bitmap;
use crate::kernel::Socket;

/// The sockets that a driver owns, by number. Any code can create a [`Socket`], so a driver checks
/// that it owns the descriptor before it uses one. Each socket takes one bit, because a shard has
/// up to a million.
#[derive(Default)]
pub(super) struct OwnedSockets(Bitmap);

impl OwnedSockets {
    /// Takes ownership of a socket, until [`OwnedSockets::take`].
    pub(super) fn adopt(&mut self, socket: OwnedFd) -> Socket {
        let number = socket.into_raw_fd();
        self.0.insert(number as usize);
        Socket::new(number)
    }

    /// Whether the set contains a socket.
    pub(super) fn contains(&self, socket: Socket) -> bool {
        usize::try_from(socket.number()).is_ok_and(|number| self.0.contains(number))
    }

    /// Returns the descriptor of a socket.
    ///
    /// # Panics
    /// If the set does not contain the socket, because the descriptor could have another owner.
    pub(super) fn get(&self, socket: Socket) -> BorrowedFd<'_> {
        assert!(self.contains(socket), "{socket:?} does not belong to this driver");
        // SAFETY: this set owns the descriptor. Only `take` gives it up, and that needs a mutable
        // borrow, so the descriptor stays open for the lifetime of the result.
        unsafe { BorrowedFd::borrow_raw(socket.number()) }
    }

    /// Removes and returns a socket.
    ///
    /// # Panics
    /// If the set does not contain the socket.
    pub(super) fn take(&mut self, socket: Socket) -> OwnedFd {
        assert!(self.contains(socket), "{socket:?} does not belong to this driver");
        self.0.remove(socket.number() as usize);
        // SAFETY: this set owned the descriptor, and has just forgotten it.
        unsafe { OwnedFd::from_raw_fd(socket.number()) }
    }
}

impl Drop for OwnedSockets {
    fn drop(&mut self) {
        while let Some(number) = self.0.first_from(0) {
            drop(self.take(Socket::new(number as i32)));
        }
    }
}

impl std::fmt::Debug for OwnedSockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnedSockets")
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn only_what_was_adopted_is_touched_or_closed() {
        let other = std::fs::File::open("/dev/null").unwrap();
        let mut owned = OwnedSockets::default();
        let mine = owned.adopt(std::fs::File::open("/dev/null").unwrap().into());
        assert_eq!(owned.get(mine).as_raw_fd(), mine.number());
        for stranger in [Socket::new(other.as_raw_fd()), Socket::new(-1), Socket::new(1 << 20)] {
            assert!(!owned.contains(stranger));
            let taken = catch_unwind(AssertUnwindSafe(|| drop(owned.take(stranger))));
            assert!(taken.is_err(), "{stranger:?} does not belong to this driver");
        }
        other.metadata().expect("it is open");
        drop(owned.take(mine));
        assert!(!owned.contains(mine), "the number may belong to another socket now");
    }
}
