//! The driver for hosts that refuse io_uring: each shard has its own epoll.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::calls::{SysError, TimerFd, check};
use super::owned::OwnedSockets;
use super::{Driver, EventFd, Listener, sockets};
use crate::ids::{Moment, Tick};
use crate::kernel::{ConnectionKey, Ready, Received, Release, Socket, Sockets, Write, Wrote};
use crate::limits::EPOLL_EVENTS_MAX;
use crate::proxies::Peer;

/// No timeout for `epoll_wait`. The timer ends each wait after a tenth of a second anyway.
const FOREVER: i32 = -1;

/// The data of events of the timer, the wake and the listeners. A key has only 56 bits, so no key
/// equals one of these.
const DATA_TIMER: u64 = u64::MAX;
const DATA_WAKE: u64 = u64::MAX - 1;
const DATA_LISTENER: u64 = u64::MAX - 2;

/// The events of a socket: edge-triggered, and registered once for its whole life.
const WATCH: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP) as u32 | libc::EPOLLET as u32;

/// A driver on top of epoll.
pub struct Epoll {
    epoll: OwnedFd,
    timer: TimerFd,
    owned: OwnedSockets,
    events: Vec<libc::epoll_event>,
    news: Vec<Ready>,
    ticked: bool,
    incoming: bool,
}

impl Epoll {
    /// Creates an epoll that also watches `wake`, with a tick every [`Tick::PERIOD`].
    ///
    /// # Errors
    /// The kernel's, when descriptors or memory are short.
    pub fn new(wake: EventFd) -> Result<Epoll, SysError> {
        // SAFETY: epoll_create1 takes no pointers.
        let number = check("epoll_create1", unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(number) };
        let timer = TimerFd::every(Tick::PERIOD)?;
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EPOLL_EVENTS_MAX];
        let news = Vec::new();
        let (ticked, incoming) = (false, false);
        let owned = OwnedSockets::default();
        let epoll = Epoll { epoll, timer, owned, events, news, ticked, incoming };
        let edge = libc::EPOLLIN as u32 | libc::EPOLLET as u32;
        // With edge triggering each signal is an event of its own, so the counter is never read.
        epoll.control(libc::EPOLL_CTL_ADD, wake.as_fd(), edge, DATA_WAKE)?;
        epoll.control(libc::EPOLL_CTL_ADD, epoll.timer.as_fd(), edge, DATA_TIMER)?;
        Ok(epoll)
    }

    fn control(&self, op: i32, fd: BorrowedFd<'_>, events: u32, data: u64) -> Result<(), SysError> {
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: `event` is a valid epoll_event for the time of the call.
        let result =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), op, fd.as_raw_fd(), &raw mut event) };
        check("epoll_ctl", result).map(|_| ())
    }

    /// Takes events until there are none. If there are none at first, it waits for them for up to
    /// `patience` milliseconds.
    fn reap(&mut self, mut patience: i32) {
        loop {
            let capacity = self.events.len() as i32;
            // SAFETY: the kernel writes at most `capacity` events into a buffer of that many.
            let count = unsafe {
                let events = self.events.as_mut_ptr();
                libc::epoll_wait(self.epoll.as_raw_fd(), events, capacity, patience)
            };
            patience = 0;
            let Ok(count) = usize::try_from(count) else {
                let error = io::Error::last_os_error();
                let interrupted = error.kind() == io::ErrorKind::Interrupted;
                // Other errors are permanent. A shard can't serve clients without its epoll, so its
                // panic ends the process.
                assert!(interrupted, "epoll_wait: {error}");
                return;
            };
            for event in &self.events[..count] {
                match event.u64 {
                    DATA_WAKE => {}
                    DATA_LISTENER => self.incoming = true,
                    DATA_TIMER => {
                        self.timer.clear();
                        self.ticked = true;
                    }
                    bits => self.news.push(ready(bits, event.events)),
                }
            }
            // A full buffer means that there may be more events.
            if count < self.events.len() {
                return;
            }
        }
    }
}

fn ready(bits: u64, events: u32) -> Ready {
    let has = |mask: i32| events & mask as u32 != 0;
    let failed = has(libc::EPOLLERR | libc::EPOLLHUP);
    Ready {
        key: ConnectionKey::from_bits(bits),
        readable: has(libc::EPOLLIN | libc::EPOLLRDHUP) || failed,
        hangup: has(libc::EPOLLRDHUP) || failed,
        writable: has(libc::EPOLLOUT) || failed,
        ended: false,
    }
}

impl Driver for Epoll {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn adopt(&mut self, socket: OwnedFd) -> Socket {
        self.owned.adopt(socket)
    }

    fn watch_listener(&mut self, listener: &Listener) {
        let edge = libc::EPOLLIN as u32 | libc::EPOLLET as u32;
        let added = self.control(libc::EPOLL_CTL_ADD, listener.as_fd(), edge, DATA_LISTENER);
        if let Err(error) = added {
            tracing::error!(%error, "could not add the listener to epoll");
        }
        self.incoming = true; // Clients may have arrived before the watch began.
    }

    fn forget_listener(&mut self, listener: &Listener) {
        if let Err(error) = self.control(libc::EPOLL_CTL_DEL, listener.as_fd(), 0, 0) {
            tracing::warn!(%error, "the listener was not in epoll");
        }
    }

    fn take_incoming(&mut self) -> bool {
        std::mem::take(&mut self.incoming)
    }

    fn wait(&mut self) {
        if self.news.is_empty() && !self.ticked && !self.incoming {
            self.reap(FOREVER);
        }
    }
}

impl Sockets for Epoll {
    fn watch(&mut self, socket: Socket, key: ConnectionKey) {
        let fd = self.owned.get(socket);
        let added = self.control(libc::EPOLL_CTL_ADD, fd, WATCH, key.to_bits());
        if let Err(error) = added {
            // A connection without a watch can't be served, so report that it has ended.
            tracing::warn!(%error, "could not add a socket to epoll");
            self.news.push(Ready {
                key,
                readable: false,
                writable: false,
                hangup: true,
                ended: true,
            });
        }
    }

    fn peer(&self, socket: Socket) -> Option<Peer> {
        sockets::peer(self.owned.get(socket))
    }

    fn receive(&mut self, socket: Socket, buffer: &mut [u8]) -> Received {
        sockets::receive(self.owned.get(socket), buffer)
    }

    fn send(&mut self, writes: &[Write<'_>], results: &mut Vec<Wrote>) {
        let send = |write: &Write<'_>| sockets::send(self.owned.get(write.socket), write.bytes);
        results.extend(writes.iter().map(send));
    }

    fn has_sent_all(&self, socket: Socket) -> bool {
        sockets::has_sent_all(self.owned.get(socket))
    }

    fn finish(&mut self, socket: Socket) {
        sockets::shutdown_write(self.owned.get(socket));
    }

    fn release(&mut self, socket: Socket, key: ConnectionKey, how: Release) {
        let fd = self.owned.get(socket);
        sockets::shutdown(fd, how);
        if let Err(error) = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
            // A socket that could not be added was never in the epoll.
            && error.source.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a socket was not in epoll");
        }
        // Unlike a ring, epoll removes a watch immediately, so the socket may be closed after the
        // next poll.
        self.news.push(Ready { key, readable: false, writable: false, hangup: false, ended: true });
    }

    fn close(&mut self, socket: Socket) {
        drop(self.owned.take(socket));
    }

    fn poll(&mut self, ready: &mut Vec<Ready>) {
        self.reap(0);
        ready.append(&mut self.news);
    }

    fn take_tick(&mut self) -> bool {
        std::mem::take(&mut self.ticked)
    }

    fn now(&self) -> Moment {
        super::now()
    }

    fn is_open(&self, socket: Socket) -> bool {
        self.owned.contains(socket) && sockets::is_open(self.owned.get(socket))
    }
}

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoll").field("fd", &self.epoll.as_raw_fd()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that a wake before a wait ends that wait, and no later one.
    fn check_wait<D: Driver>(wake: EventFd, mut driver: D) {
        driver.poll(&mut Vec::new());
        driver.take_tick();
        let tick = Tick::PERIOD;
        for _ in 0..3 {
            wake.signal();
            let began = std::time::Instant::now();
            driver.wait();
            assert!(driver.take_tick() || began.elapsed() < tick, "a wake was lost");
            driver.poll(&mut Vec::new());
        }
        let mut waits = 0;
        while !driver.take_tick() {
            driver.wait();
            driver.poll(&mut Vec::new());
            waits += 1;
            assert!(waits < 10, "a wake is reported repeatedly");
        }
    }

    #[test]
    fn an_epoll_that_can_not_be_waited_for_any_more_ends_its_thread_with_the_error() {
        let mut epoll = Epoll::new(EventFd::new().unwrap()).unwrap();
        let other = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: dup2 takes no pointers, and the epoll's descriptor is still its own.
        unsafe { libc::dup2(other.as_raw_fd(), epoll.epoll.as_raw_fd()) };
        let waiting = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| epoll.wait()));
        let panic = waiting.expect_err("the loop must end");
        let text = panic.downcast_ref::<String>().expect("a message");
        assert!(text.starts_with("epoll_wait: "), "{text}");
    }

    #[test]
    fn a_wake_ends_the_next_wait_and_no_other() {
        let wake = EventFd::new().unwrap();
        check_wait(wake, Epoll::new(wake).unwrap());
        let wake = EventFd::new().unwrap();
        if let Ok(ring) = crate::sys::Ring::new(wake) {
            check_wait(wake, ring);
        }
    }
}
