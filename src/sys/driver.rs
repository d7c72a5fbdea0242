//! What a shard's thread asks of its kernel beside sockets: sleep, ticks and listeners.

use std::os::fd::RawFd;

use crate::kernel::Sockets;

/// A ring or an epoll, owned by one shard's thread.
pub trait Driver: Sockets {
    /// What users call it.
    fn name(&self) -> &'static str;

    /// Watches a listener.
    fn watch_listener(&mut self, listener: RawFd);

    /// Watches a listener no longer. It may then be closed.
    fn forget_listener(&mut self, listener: RawFd);

    /// Whether a listener may have clients in its queue since the last call.
    fn take_incoming(&mut self) -> bool;

    /// Sleeps until there is news, a tick or another thread's wake. Returns at once if one of them
    /// came since the last look; a wake that was taken by that look is over.
    fn wait(&mut self);
}
