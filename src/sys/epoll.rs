//! The same sockets over an epoll of the shard's own, for hosts that refuse io_uring.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::calls::{SysError, TimerFd, check};
use super::{Driver, EventFd, sockets};
use crate::ids::{Moment, Tick};
use crate::shard::{Ready, Received, Release, Socket, Sockets, Token, Write, Wrote};

/// Events taken from the kernel in one call.
const EVENTS_MAX: usize = 1024;

/// What stands in an event's data for the timer and the wake; no token has these bits.
const DATA_TIMER: u64 = u64::MAX;
const DATA_WAKE: u64 = u64::MAX - 1;
const DATA_LISTENER: u64 = u64::MAX - 2;

/// Edge-triggered, armed once for the life of a socket.
const WATCH: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP) as u32 | libc::EPOLLET as u32;

/// The epoll.
pub struct Epoll {
    epoll: OwnedFd,
    wake: EventFd,
    timer: TimerFd,
    events: Vec<libc::epoll_event>,
    news: Vec<Ready>,
    ticked: bool,
    incoming: bool,
    /// Another thread's wake has been taken.
    woken: bool,
}

impl Epoll {
    /// Makes an epoll that also watches `wake`, and ticks every `Tick::NANOS`.
    ///
    /// # Errors
    /// The kernel's, when descriptors or memory are short.
    pub fn new(wake: EventFd) -> Result<Epoll, SysError> {
        // SAFETY: epoll_create1 takes no pointers.
        let number = check("epoll_create1", unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(number) };
        let timer = TimerFd::every(Tick::PERIOD)?;
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let news = Vec::new();
        let (ticked, incoming, woken) = (false, false, false);
        let epoll = Epoll { epoll, wake, timer, events, news, ticked, incoming, woken };
        let edge = libc::EPOLLIN as u32 | libc::EPOLLET as u32;
        epoll.control(libc::EPOLL_CTL_ADD, wake.number(), edge, DATA_WAKE)?;
        epoll.control(libc::EPOLL_CTL_ADD, epoll.timer.number(), edge, DATA_TIMER)?;
        Ok(epoll)
    }

    fn control(&self, op: i32, fd: RawFd, events: u32, data: u64) -> Result<(), SysError> {
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: `event` is a valid epoll_event for the time of the call.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), op, fd, &raw mut event) };
        check("epoll_ctl", result).map(|_| ())
    }

    fn reap(&mut self) {
        loop {
            let capacity = self.events.len() as i32;
            // SAFETY: the kernel writes at most `capacity` events into a buffer of that many.
            let count = unsafe {
                libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), capacity, 0)
            };
            let Ok(count) = usize::try_from(count) else { return };
            for event in &self.events[..count] {
                match event.u64 {
                    DATA_WAKE => self.woken = true,
                    DATA_LISTENER => self.incoming = true,
                    DATA_TIMER => {
                        self.timer.clear();
                        self.ticked = true;
                    }
                    bits => self.news.push(ready(bits, event.events)),
                }
            }
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
        token: Token::from_bits(bits),
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

    fn watch_listener(&mut self, listener: RawFd) {
        let edge = libc::EPOLLIN as u32 | libc::EPOLLET as u32;
        let added = self.control(libc::EPOLL_CTL_ADD, listener, edge, DATA_LISTENER);
        if let Err(error) = added {
            tracing::error!(%error, "the listener can't be watched");
        }
        self.incoming = true; // Those who came before the watch.
    }

    fn forget_listener(&mut self, listener: RawFd) {
        if let Err(error) = self.control(libc::EPOLL_CTL_DEL, listener, 0, 0) {
            tracing::warn!(%error, "the listener was not watched");
        }
    }

    fn take_incoming(&mut self) -> bool {
        std::mem::take(&mut self.incoming)
    }

    fn prepare_sleep(&mut self) -> bool {
        // A wake that is taken here does not end the sleep any more: its sender has seen that the
        // thread is about to sleep, and what it sent lies in the inbox.
        self.woken = false;
        self.reap();
        self.news.is_empty() && !self.ticked && !self.incoming && !self.woken
    }

    fn woke(&mut self) {
        self.wake.clear();
    }

    fn sleeps_on(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

impl Sockets for Epoll {
    fn watch(&mut self, socket: Socket, token: Token) {
        let added = self.control(libc::EPOLL_CTL_ADD, socket.number(), WATCH, token.to_bits());
        if let Err(error) = added {
            // Without a watch the connection can't be served: say that it has ended.
            tracing::warn!(%error, "a socket can't be watched");
            self.news.push(Ready {
                token,
                readable: false,
                writable: false,
                hangup: true,
                ended: true,
            });
        }
    }

    fn receive(&mut self, socket: Socket, buffer: &mut [u8]) -> Received {
        sockets::receive(socket, buffer)
    }

    fn send(&mut self, writes: &[Write<'_>], results: &mut Vec<Wrote>) {
        results.extend(writes.iter().map(|write| sockets::send(write.socket, write.bytes)));
    }

    fn finish(&mut self, socket: Socket) {
        sockets::shutdown_write(socket);
    }

    fn release(&mut self, socket: Socket, token: Token, how: Release) {
        sockets::shutdown(socket, how);
        if let Err(error) = self.control(libc::EPOLL_CTL_DEL, socket.number(), 0, 0)
            && error.source.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a socket was not watched");
        }
        self.news.push(Ready {
            token,
            readable: false,
            writable: false,
            hangup: false,
            ended: true,
        });
    }

    fn close(&mut self, socket: Socket) {
        super::close_socket(socket);
    }

    fn poll(&mut self, ready: &mut Vec<Ready>) {
        self.reap();
        ready.append(&mut self.news);
    }

    fn take_tick(&mut self) -> bool {
        std::mem::take(&mut self.ticked)
    }

    fn now(&self) -> Moment {
        super::now()
    }

    fn is_open(&self, socket: Socket) -> bool {
        sockets::is_open(socket)
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

    #[test]
    fn a_wake_just_before_the_sleep_is_not_slept_over() {
        let wake = EventFd::new().unwrap();
        let mut epoll = Epoll::new(wake).unwrap();
        wake.signal();
        assert!(!epoll.prepare_sleep(), "somebody has sent something");
        epoll.woke();
        epoll.prepare_sleep(); // Its answer depends on whether a tick has passed.
        assert!(!epoll.woken, "it has been seen to");
    }
}
