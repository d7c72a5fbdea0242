//! The services of the kernel for a shard's thread besides client sockets: sleep, wakes and
//! listeners.

use std::os::fd::OwnedFd;

use super::Listener;
use crate::kernel::{Socket, Sockets};

/// A ring or an epoll, owned by one shard's thread.
pub trait Driver: Sockets {
    /// Returns the name that users know.
    fn name(&self) -> &'static str;

    /// Takes ownership of a client's socket, and returns its name. All other methods accept only
    /// such sockets. The socket is closed by [`Sockets::close`], or when the driver is dropped.
    fn adopt(&mut self, socket: OwnedFd) -> Socket;

    /// Begins to watch a listener.
    fn watch_listener(&mut self, listener: &Listener);

    /// Stops watching a listener, which may then be closed.
    fn forget_listener(&mut self, listener: &Listener);

    /// Whether clients may have arrived at a listener since the last call.
    fn take_incoming(&mut self) -> bool;

    /// Sleeps until there is an event, a tick or a wake from another thread. Returns immediately if
    /// one of them occurred since the last [`Sockets::poll`]. A wake before that poll no longer
    /// counts.
    fn wait(&mut self);
}
