//! What a shard's thread asks of its kernel beside sockets: sleep, ticks and listeners.

use std::os::fd::RawFd;

use crate::shard::Sockets;

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

    /// Makes news end the coming sleep. Answers whether the thread may sleep: not if there is news
    /// already.
    fn prepare_sleep(&mut self) -> bool;

    /// The thread is awake.
    fn woke(&mut self);

    /// The descriptor that becomes readable when there is news during a sleep.
    fn sleeps_on(&self) -> RawFd;
}
