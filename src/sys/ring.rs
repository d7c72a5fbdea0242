//! A shard's own io_uring, as a batching engine with one rule: every operation that carries a
//! buffer is `MSG_DONTWAIT` and completes inside the call that submits it; only polls stay in
//! flight. So no buffer outlives a call, and a sweep of 256 sends is one system call.

use std::os::fd::{AsRawFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::calls::SysError;
use super::{Driver, EventFd, TimerFd};
use crate::ids::{Moment, Tick};
use crate::limits::{RING_COMPLETIONS, RING_ENTRIES, SWEEP_SENDS_MAX};
use crate::shard::{Ready, Received, Release, Socket, Sockets, Token, Write, Wrote};

/// What a completion is about: the high byte of its `user_data`.
const KIND_SHIFT: u32 = 56;
const KIND_POLL: u64 = 0;
const KIND_SEND: u64 = 1;
const KIND_CANCEL: u64 = 2;
const KIND_TIMER: u64 = 3;
const KIND_LISTENER: u64 = 4;
const KIND_WAKE: u64 = 5;

/// One poll for the life of a socket: readable, writable, half-closed. With `POLLOUT` it speaks
/// once when armed, and then only after a send found no room, so blocked sockets need no second
/// poll (256 B of kernel memory each).
const WATCH: u32 = (libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP) as u32;

/// The ring. It must be used by the thread that made it (SINGLE_ISSUER).
pub struct Ring {
    ring: IoUring,
    wake: EventFd,
    timer: TimerFd,
    /// News that came up while sends were awaited.
    news: Vec<Ready>,
    ticked: bool,
    incoming: bool,
}

impl Ring {
    /// Makes a ring whose sleep `wake` ends, and a tick every `Tick::NANOS`.
    ///
    /// # Errors
    /// The kernel's: io_uring is refused (containers, `kernel.io_uring_disabled`), or too old
    /// (before 6.1 there is no DEFER_TASKRUN).
    pub fn new(wake: EventFd) -> Result<Ring, SysError> {
        let failed = |call| move |source| SysError { call, source };
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(RING_COMPLETIONS)
            .build(RING_ENTRIES)
            .map_err(failed("io_uring_setup"))?;
        let timer = TimerFd::every(Tick::PERIOD)?;
        let mut ring = Ring { ring, wake, timer, news: Vec::new(), ticked: false, incoming: false };
        ring.arm_timer();
        ring.arm_wake();
        Ok(ring)
    }

    fn arm_timer(&mut self) {
        self.arm(self.timer.number(), libc::POLLIN as u32, KIND_TIMER << KIND_SHIFT);
    }

    /// Each signal is an event of its own, so the count behind it is never read: it would take
    /// 2^64 signals to fill it.
    fn arm_wake(&mut self) {
        self.arm(self.wake.number(), libc::POLLIN as u32, KIND_WAKE << KIND_SHIFT);
    }

    fn arm(&mut self, fd: RawFd, mask: u32, user_data: u64) {
        let entry = opcode::PollAdd::new(types::Fd(fd), mask).multi(true).build();
        self.push(&entry.user_data(user_data));
    }

    /// Ends a poll. POLL_REMOVE would fail with EALREADY while an event of the poll waits to be
    /// handed out, which a shutdown just before makes certain; ASYNC_CANCEL ends it even then.
    fn cancel(&mut self, poll: u64) {
        let entry = opcode::AsyncCancel::new(poll).build();
        self.push(&entry.user_data(KIND_CANCEL << KIND_SHIFT));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: polls and cancellations carry no buffer, so nothing must outlive this call. Sends
        // are pushed in `send`, which does not return before all of them have completed.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.enter(0);
        }
    }

    /// Hands what is queued to the kernel, and runs what the kernel has deferred. A failure
    /// (EINTR, EAGAIN, EBUSY) leaves the queue as it was; the caller comes again.
    fn enter(&mut self, want: usize) {
        if let Err(error) = self.ring.submitter().submit_and_wait(want) {
            tracing::debug!(%error, "io_uring_enter");
        }
    }

    /// Takes completions until there are none: DEFER_TASKRUN hands out about 20 at a time.
    fn reap(&mut self) {
        loop {
            let submission = self.ring.submission();
            let due = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
            drop(submission);
            if due {
                self.enter(0);
            }
            if self.reap_queue(&mut []) == 0 {
                return;
            }
        }
    }

    /// Sorts the completion queue into news and results of sends; answers how many there were.
    fn reap_queue(&mut self, results: &mut [i32]) -> usize {
        let mut count = 0;
        let (mut rearm_timer, mut rearm_wake, mut rearm_listeners) = (false, false, Vec::new());
        for entry in self.ring.completion() {
            count += 1;
            let user_data = entry.user_data();
            match user_data >> KIND_SHIFT {
                KIND_SEND => {
                    results[user_data as usize & (SWEEP_SENDS_MAX * 2 - 1)] = entry.result()
                }
                KIND_POLL => self.news.push(ready(user_data, &entry)),
                KIND_TIMER => {
                    self.ticked = true;
                    rearm_timer |= !cqueue::more(entry.flags());
                }
                KIND_WAKE => rearm_wake |= !cqueue::more(entry.flags()),
                KIND_LISTENER => {
                    self.incoming = true;
                    if !cqueue::more(entry.flags()) && entry.result() >= 0 {
                        rearm_listeners.push(user_data as u32 as RawFd);
                    }
                }
                _ => {} // A cancellation's own completion: the poll's says all.
            }
        }
        if self.ticked {
            self.timer.clear();
        }
        for listener in rearm_listeners {
            self.watch_listener(listener);
        }
        if rearm_timer {
            self.arm_timer();
        }
        if rearm_wake {
            self.arm_wake();
        }
        count
    }
}

fn ready(user_data: u64, entry: &cqueue::Entry) -> Ready {
    let mask = entry.result();
    let token = Token::from_bits(user_data & ((1 << KIND_SHIFT) - 1));
    let ended = !cqueue::more(entry.flags());
    if mask < 0 {
        // Ended by request, or refused for want of memory.
        let hangup = mask != -libc::ECANCELED;
        return Ready { token, readable: false, writable: false, hangup, ended: true };
    }
    let mask = mask as i16;
    let failed = mask & (libc::POLLERR | libc::POLLHUP) != 0;
    Ready {
        token,
        readable: mask & (libc::POLLIN | libc::POLLRDHUP) != 0 || failed,
        hangup: mask & libc::POLLRDHUP != 0 || failed,
        writable: mask & libc::POLLOUT != 0 || failed,
        ended,
    }
}

/// A result that no system call has.
const PENDING: i32 = i32::MIN;

impl Driver for Ring {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn watch_listener(&mut self, listener: RawFd) {
        let user_data = KIND_LISTENER << KIND_SHIFT | listener as u64;
        self.arm(listener, libc::POLLIN as u32, user_data);
    }

    fn forget_listener(&mut self, listener: RawFd) {
        self.cancel(KIND_LISTENER << KIND_SHIFT | listener as u64);
        self.enter(0);
    }

    fn take_incoming(&mut self) -> bool {
        std::mem::take(&mut self.incoming)
    }

    fn wait(&mut self) {
        if self.news.is_empty() && !self.ticked && !self.incoming {
            self.enter(1);
        }
    }
}

impl Sockets for Ring {
    fn watch(&mut self, socket: Socket, token: Token) {
        self.arm(socket.number(), WATCH, KIND_POLL << KIND_SHIFT | token.to_bits());
    }

    fn receive(&mut self, socket: Socket, buffer: &mut [u8]) -> Received {
        super::sockets::receive(socket, buffer)
    }

    fn send(&mut self, writes: &[Write<'_>], results: &mut Vec<Wrote>) {
        assert!(writes.len() <= SWEEP_SENDS_MAX, "a batch must fit the ring");
        let mut codes = [PENDING; SWEEP_SENDS_MAX * 2];
        for (at, write) in writes.iter().enumerate() {
            let bytes = write.bytes.len().min(u32::MAX as usize) as u32;
            let entry =
                opcode::Send::new(types::Fd(write.socket.number()), write.bytes.as_ptr(), bytes)
                    .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                    .build()
                    .user_data(KIND_SEND << KIND_SHIFT | at as u64);
            self.push(&entry);
        }
        let codes = &mut codes[..];
        // This loop ends: a send with MSG_DONTWAIT never waits. It must not end earlier, for the
        // kernel may read the buffers until the last completion is here.
        while codes[..writes.len()].contains(&PENDING) {
            self.enter(1);
            self.reap_queue(codes);
        }
        results.extend(codes[..writes.len()].iter().map(|&code| match code {
            1.. => Wrote::Bytes(code as usize),
            _ if code == -libc::EAGAIN || code == -libc::EINTR => Wrote::Blocked,
            _ => Wrote::Gone,
        }));
    }

    fn finish(&mut self, socket: Socket) {
        super::sockets::shutdown_write(socket);
    }

    fn release(&mut self, socket: Socket, token: Token, how: Release) {
        super::sockets::shutdown(socket, how);
        self.cancel(KIND_POLL << KIND_SHIFT | token.to_bits());
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
        super::sockets::is_open(socket)
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("fd", &self.ring.as_raw_fd()).finish_non_exhaustive()
    }
}
