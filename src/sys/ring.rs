//! The driver with io_uring: each shard has its own ring. Every operation with a buffer is
//! `MSG_DONTWAIT`, and completes within the call that submits it; only polls stay in flight. So the
//! kernel never uses a buffer after that call ([`Batch`] waits for this), and 256 sends are one
//! system call.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::calls::{SysError, now};
use super::owned::OwnedSockets;
use super::{Driver, EventFd, Listener, TimerFd};
use crate::ids::{Moment, Tick};
use crate::kernel::{ConnectionKey, Ready, Received, Release, Socket, Sockets, Write, Wrote};
use crate::limits::{
    RING_COMPLETIONS, RING_CREATION_PAUSE, RING_CREATION_TIMEOUT, RING_ENTRIES, RING_FAILURES_MAX,
    RING_PATIENCE, SWEEP_SENDS_MAX,
};
use crate::proxies::Peer;

/// The kind of a completion, in the high byte of its `user_data`.
const KIND_SHIFT: u32 = 56;
const KIND_POLL: u64 = 0;
const KIND_SEND: u64 = 1;
const KIND_CANCEL: u64 = 2;
const KIND_TIMER: u64 = 3;
const KIND_LISTENER: u64 = 4;
const KIND_WAKE: u64 = 5;

/// The events of the one poll that a socket has for its whole life. `POLLOUT` is reported once when
/// the poll is armed, and then only after a send found no room. So a blocked socket needs no second
/// poll, which would cost 256 bytes of kernel memory.
const WATCH: u32 = (libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP) as u32;

/// A driver on top of io_uring. Only the thread that created the ring may use it (SINGLE_ISSUER).
pub struct Ring {
    ring: IoUring,
    wake: EventFd,
    timer: TimerFd,
    owned: OwnedSockets,
    /// Events for the next poll. Some of them arrive while sends are awaited.
    news: Vec<Ready>,
    ticked: bool,
    incoming: bool,
    failures: Failures,
}

impl Ring {
    /// Creates a ring that also watches `wake`, with a tick every [`Tick::PERIOD`].
    ///
    /// # Errors
    /// The error of the kernel: it refuses io_uring (containers, `kernel.io_uring_disabled`), or is
    /// older than 6.1 and lacks DEFER_TASKRUN.
    pub fn new(wake: EventFd) -> Result<Ring, SysError> {
        let failed = |call| move |source| SysError { call, source };
        // Deferred work runs only when this thread enters the ring, so completions never interrupt
        // a turn. The taskrun flag shows without a system call that there is such work. With
        // `submit_all`, an entry that fails does not keep the rest of its batch from being
        // submitted.
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(RING_COMPLETIONS);
        let ring = once_there_is_memory(|| builder.build(RING_ENTRIES))
            .map_err(failed("io_uring_setup"))?;
        let timer = TimerFd::every(Tick::PERIOD)?;
        let (ticked, incoming, failures) = (false, false, Failures::default());
        let (owned, news) = (OwnedSockets::default(), Vec::new());
        let mut ring = Ring { ring, wake, timer, owned, news, ticked, incoming, failures };
        ring.arm_timer();
        ring.arm_wake();
        // Some hosts allow io_uring_setup but refuse io_uring_enter, so try that here as well.
        ring.ring.submit().map_err(failed("io_uring_enter failed"))?;
        Ok(ring)
    }

    fn arm_timer(&mut self) {
        self.arm(self.timer.number(), libc::POLLIN as u32, KIND_TIMER << KIND_SHIFT);
    }

    /// Each signal is an event of its own, so the counter is never read. It would take 2^64 signals
    /// to fill it.
    fn arm_wake(&mut self) {
        self.arm(self.wake.number(), libc::POLLIN as u32, KIND_WAKE << KIND_SHIFT);
    }

    fn arm_listener(&mut self, listener: RawFd) {
        let user_data = KIND_LISTENER << KIND_SHIFT | listener as u64;
        self.arm(listener, libc::POLLIN as u32, user_data);
    }

    fn arm(&mut self, fd: RawFd, mask: u32, user_data: u64) {
        let entry = opcode::PollAdd::new(types::Fd(fd), mask).multi(true).build();
        self.push(&entry.user_data(user_data));
    }

    /// Ends a poll. POLL_REMOVE would fail with EALREADY if the poll has an event that has not been
    /// delivered, and a shutdown just before causes such an event. ASYNC_CANCEL works even then.
    fn cancel(&mut self, poll: u64) {
        let entry = opcode::AsyncCancel::new(poll).build();
        self.push(&entry.user_data(KIND_CANCEL << KIND_SHIFT));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: polls and cancellations have no buffer, so nothing must outlive this call. Sends
        // are pushed by a `Batch`, which borrows their buffers until they have completed.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.enter(0);
        }
    }

    /// Submits the queued entries, and runs the work that the kernel has deferred to this thread. A
    /// failure leaves the queue as it was, and the caller tries again.
    ///
    /// # Panics
    /// If it keeps failing. A shard can't serve clients without its ring, so the panic ends the
    /// process.
    fn enter(&mut self, want: usize) {
        match self.ring.submitter().submit_and_wait(want) {
            Ok(_) => self.failures = Failures::default(),
            Err(error) => self.failures.note(&error, super::now()),
        }
    }

    /// Takes completions until there are none. With DEFER_TASKRUN one call yields only about 20.
    fn reap(&mut self) {
        loop {
            let submission = self.ring.submission();
            // Each turn polls, so the system call is skipped if the kernel has nothing to do for
            // this ring.
            let due = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
            drop(submission);
            if due {
                self.enter(0);
            }
            // No send is in flight outside of a `Batch`, so no result can arrive here.
            if self.reap_queue(&mut []) == 0 {
                return;
            }
        }
    }

    /// Sorts the completions into events and results of sends. Returns the number of completions.
    fn reap_queue(&mut self, results: &mut [i32]) -> usize {
        let mut count = 0;
        let (mut rearm_timer, mut rearm_wake, mut rearm_listeners) = (false, false, Vec::new());
        for entry in self.ring.completion() {
            count += 1;
            let user_data = entry.user_data();
            match user_data >> KIND_SHIFT {
                KIND_SEND => results[user_data as usize & (Batch::CODES - 1)] = entry.result(),
                KIND_POLL => self.news.push(ready(user_data, &entry)),
                KIND_TIMER => {
                    self.ticked = true;
                    // The kernel may end a multishot poll at any time; the missing MORE flag says
                    // so.
                    rearm_timer |= !cqueue::more(entry.flags());
                }
                KIND_WAKE => rearm_wake |= !cqueue::more(entry.flags()),
                KIND_LISTENER => {
                    self.incoming = true;
                    // A cancelled poll has a negative result. It must not be armed again.
                    if !cqueue::more(entry.flags()) && entry.result() >= 0 {
                        rearm_listeners.push(user_data as u32 as RawFd);
                    }
                }
                _ => {} // The cancellation itself. The completion of the poll has the result.
            }
        }
        if self.ticked {
            self.timer.clear();
        }
        for listener in rearm_listeners {
            self.arm_listener(listener);
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

/// The failures of `io_uring_enter` since the last success.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    began: Moment,
}

impl Failures {
    fn note(&mut self, error: &io::Error, now: Moment) {
        if error.kind() == io::ErrorKind::Interrupted {
            return;
        }
        if self.count == 0 {
            self.began = now;
        }
        self.count = self.count.saturating_add(1);
        let passes = matches!(
            error.raw_os_error(),
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM | libc::ENOBUFS)
        );
        // A lack of memory may pass, so it is limited by time. For other errors a few attempts are
        // enough.
        let over = if passes {
            now.since(self.began) >= RING_PATIENCE
        } else {
            self.count >= RING_FAILURES_MAX
        };
        assert!(!over, "io_uring_enter has failed {} times in a row: {error}", self.count);
        tracing::debug!(%error, "io_uring_enter failed");
    }
}

/// Creates a ring. While the kernel lacks memory, tries again for [`RING_CREATION_TIMEOUT`].
///
/// # Errors
/// The error of the last attempt.
pub fn once_there_is_memory<R>(create: impl Fn() -> io::Result<R>) -> io::Result<R> {
    let began = now();
    loop {
        match create() {
            Err(error)
                if error.raw_os_error() == Some(libc::ENOMEM)
                    && now().since(began) < RING_CREATION_TIMEOUT =>
            {
                std::thread::sleep(RING_CREATION_PAUSE);
            }
            result => return result,
        }
    }
}

/// Sends that have been submitted and have not all completed. Until then the kernel may read their
/// buffers, so a batch borrows them, and waits for the last completion even when it is dropped
/// early.
struct Batch<'a> {
    ring: &'a mut Ring,
    codes: [i32; Batch::CODES],
    /// Number of submitted writes. Each has a code.
    count: usize,
    buffers: PhantomData<&'a [Write<'a>]>,
}

impl<'a> Batch<'a> {
    const CODES: usize = SWEEP_SENDS_MAX * 2;
    /// A code that no system call returns.
    const PENDING: i32 = i32::MIN;

    fn new(ring: &'a mut Ring, writes: &'a [Write<'a>]) -> Batch<'a> {
        assert!(writes.len() <= SWEEP_SENDS_MAX, "a batch must fit into the ring");
        let codes = [Batch::PENDING; Batch::CODES];
        let mut batch = Batch { ring, codes, count: 0, buffers: PhantomData };
        for write in writes {
            let bytes = write.bytes.len().min(u32::MAX as usize) as u32;
            let socket = types::Fd(batch.ring.owned.get(write.socket).as_raw_fd());
            let entry = opcode::Send::new(socket, write.bytes.as_ptr(), bytes)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(KIND_SEND << KIND_SHIFT | batch.count as u64);
            batch.ring.push(&entry);
            batch.count += 1;
        }
        batch
    }

    /// Waits for the last completion. Returns the codes of all writes.
    fn complete(&mut self) -> &[i32] {
        // This loop ends, because a send with MSG_DONTWAIT never waits.
        while self.codes[..self.count].contains(&Batch::PENDING) {
            self.ring.enter(1);
            self.ring.reap_queue(&mut self.codes);
        }
        &self.codes[..self.count]
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.complete();
    }
}

fn ready(user_data: u64, entry: &cqueue::Entry) -> Ready {
    let mask = entry.result();
    let key = ConnectionKey::from_bits(user_data & ((1 << KIND_SHIFT) - 1));
    let ended = !cqueue::more(entry.flags());
    if mask < 0 {
        // The poll was cancelled, or the kernel had no memory for it.
        let hangup = mask != -libc::ECANCELED;
        return Ready { key, readable: false, writable: false, hangup, ended: true };
    }
    let mask = mask as i16;
    let failed = mask & (libc::POLLERR | libc::POLLHUP) != 0;
    Ready {
        key,
        readable: mask & (libc::POLLIN | libc::POLLRDHUP) != 0 || failed,
        hangup: mask & libc::POLLRDHUP != 0 || failed,
        writable: mask & libc::POLLOUT != 0 || failed,
        ended,
    }
}

impl Driver for Ring {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn adopt(&mut self, socket: OwnedFd) -> Socket {
        self.owned.adopt(socket)
    }

    fn watch_listener(&mut self, listener: &Listener) {
        self.arm_listener(listener.as_fd().as_raw_fd());
    }

    fn forget_listener(&mut self, listener: &Listener) {
        let listener = listener.as_fd().as_raw_fd();
        // The cancellation is submitted immediately, because the caller closes the listener next,
        // and a poll would keep it open.
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
    fn watch(&mut self, socket: Socket, key: ConnectionKey) {
        let number = self.owned.get(socket).as_raw_fd();
        self.arm(number, WATCH, KIND_POLL << KIND_SHIFT | key.to_bits());
    }

    fn peer(&self, socket: Socket) -> Option<Peer> {
        super::sockets::peer(self.owned.get(socket))
    }

    fn receive(&mut self, socket: Socket, buffer: &mut [u8]) -> Received {
        super::sockets::receive(self.owned.get(socket), buffer)
    }

    fn send(&mut self, writes: &[Write<'_>], results: &mut Vec<Wrote>) {
        let mut batch = Batch::new(self, writes);
        results.extend(batch.complete().iter().map(|&code| match code {
            1.. => Wrote::Bytes(code as usize),
            error => super::sockets::wrote_nothing(-error),
        }));
    }

    fn has_sent_all(&self, socket: Socket) -> bool {
        super::sockets::has_sent_all(self.owned.get(socket))
    }

    fn finish(&mut self, socket: Socket) {
        super::sockets::shutdown_write(self.owned.get(socket));
    }

    fn release(&mut self, socket: Socket, key: ConnectionKey, how: Release) {
        super::sockets::shutdown(self.owned.get(socket), how);
        self.cancel(KIND_POLL << KIND_SHIFT | key.to_bits());
    }

    fn close(&mut self, socket: Socket) {
        drop(self.owned.take(socket));
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
        self.owned.contains(socket) && super::sockets::is_open(self.owned.get(socket))
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("fd", &self.ring.as_raw_fd()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::fd::FromRawFd as _;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use std::time::Duration;

    /// Returns a ring whose descriptor is another file, so that it can't be entered.
    fn broken() -> Option<Ring> {
        let ring = Ring::new(EventFd::new().unwrap()).ok()?;
        let other = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: dup2 takes no pointers, and the ring's descriptor is still its own.
        unsafe { libc::dup2(other.as_raw_fd(), ring.ring.as_raw_fd()) };
        Some(ring)
    }

    #[test]
    fn a_ring_that_can_not_be_entered_any_more_ends_its_thread_with_the_error() {
        let Some(mut ring) = broken() else { return };
        let waiting = catch_unwind(AssertUnwindSafe(|| (0..1000).for_each(|_| ring.wait())));
        let panic = waiting.expect_err("the loop must end");
        let text = panic.downcast_ref::<String>().expect("a message");
        assert!(text.starts_with("io_uring_enter has failed 16 times in a row: "), "{text}");
    }

    #[test]
    fn failures_that_pass_are_waited_for_and_those_that_do_not_are_the_end() {
        let at = |seconds| Moment::default().after(Duration::from_secs(seconds));
        let over = |code: i32, times: u64, failures: &mut Failures| {
            let error = io::Error::from_raw_os_error(code);
            let note = |time: u64| failures.note(&error, at(time));
            catch_unwind(AssertUnwindSafe(|| (0..times).for_each(note))).is_err()
        };
        assert!(!over(libc::EINTR, 1000, &mut Failures::default()));
        assert!(!over(libc::EAGAIN, 10, &mut Failures::default()));
        assert!(over(libc::EAGAIN, 11, &mut Failures::default()), "10 s are over");
        assert!(!over(libc::EPERM, 15, &mut Failures::default()));
        assert!(over(libc::EPERM, 16, &mut Failures::default()));
    }

    #[test]
    fn a_ring_waits_for_memory_and_for_nothing_else() {
        let tries = Cell::new(0);
        let fail = |code, times| {
            tries.set(0);
            once_there_is_memory(|| {
                tries.set(tries.get() + 1);
                if tries.get() > times { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
            })
        };
        assert!(fail(libc::ENOMEM, 2).is_ok());
        assert_eq!(tries.get(), 3);
        assert!(fail(libc::EPERM, 2).is_err());
        assert_eq!(tries.get(), 1);
    }

    #[test]
    fn a_batch_that_is_given_up_still_waits_for_the_kernel() {
        let Ok(mut ring) = Ring::new(EventFd::new().unwrap()) else { return };
        let mut numbers = [0; 2];
        // SAFETY: the kernel writes two descriptors.
        let made =
            unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, numbers.as_mut_ptr()) };
        assert_eq!(made, 0);
        // SAFETY: the kernel just made these descriptors for us.
        let ends = numbers.map(|number| unsafe { std::os::fd::OwnedFd::from_raw_fd(number) });
        let bytes = b"abc".to_vec();
        let [one, other] = ends;
        let writes = [Write { socket: ring.adopt(one), bytes: &bytes }];
        drop(Batch::new(&mut ring, &writes));
        drop(bytes);
        let mut buffer = [0; 8];
        let received = super::super::sockets::receive(other.as_fd(), &mut buffer);
        assert_eq!((received, &buffer[..3]), (Received::Bytes(3), &b"abc"[..]));
    }
}
