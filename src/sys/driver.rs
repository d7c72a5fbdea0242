//! What a shard's thread asks of its kernel beside sockets: sleep, ticks and listeners.

use std::os::fd::OwnedFd;

use super::Listener;
use crate::kernel::{Socket, Sockets};

/// A ring or an epoll, owned by one shard's thread.
pub trait Driver: Sockets {
    /// What users call it.
    fn name(&self) -> &'static str;

    /// Takes over a client's socket, and names it. Only such sockets may be watched, read and so
    /// on; it is closed by [`Sockets::close`], or with the driver.
    fn adopt(&mut self, socket: OwnedFd) -> Socket;

    /// Watches a listener.
    fn watch_listener(&mut self, listener: &Listener);

    /// Watches a listener no longer. It may then be closed.
    fn forget_listener(&mut self, listener: &Listener);

    /// Whether a listener may have clients in its queue since the last call.
    fn take_incoming(&mut self) -> bool;

    /// Sleeps until there is news, a tick or another thread's wake. Returns at once if one of them
    /// came since the last look; a wake that was taken by that look is over.
    fn wait(&mut self);
}
