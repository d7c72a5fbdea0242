//! Eventfds, timerfds, clocks and random bytes, and the conversion of return codes into results.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::ids::Moment;

/// A system call failed.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub struct SysError {
    /// The call's name.
    pub call: &'static str,
    /// The error of the kernel.
    pub source: io::Error,
}

/// Converts the -1 of a failed system call into the error in `errno`.
pub(super) fn check(call: &'static str, result: i32) -> Result<i32, SysError> {
    if result < 0 { Err(SysError { call, source: io::Error::last_os_error() }) } else { Ok(result) }
}

/// Returns the time on the monotonic clock, since the first call in this process.
pub fn now() -> Moment {
    static START: OnceLock<Instant> = OnceLock::new();
    Moment::from_nanos(START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

/// Returns the wall-clock time in milliseconds since 1970.
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Returns random bytes from the kernel, good enough for secrets.
///
/// # Errors
/// The error of the kernel, if it does not have this call.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], SysError> {
    // getrandom(2): reads of up to 256 bytes are never interrupted and never short.
    const { assert!(N <= 256, "longer reads could be short") };
    let mut bytes = [0; N];
    // SAFETY: the buffer is valid for N bytes, and getrandom writes no more.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    check("getrandom", count as i32)?;
    assert_eq!(count as usize, N, "getrandom must fill a short buffer completely");
    Ok(bytes)
}

/// A counter that wakes the thread that watches it. It is identified by its number, because each
/// thread has it under the same number in its own descriptor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFd(RawFd);

impl EventFd {
    /// Creates an eventfd that stays open until the process ends.
    ///
    /// # Errors
    /// The kernel's, when descriptors or memory are short.
    pub fn new() -> Result<EventFd, SysError> {
        eventfd(0).map(|fd| EventFd(fd.into_raw_fd()))
    }

    /// The descriptor's number.
    pub const fn number(self) -> RawFd {
        self.0
    }

    /// Wakes the watcher. Errors are ignored: the write can only fail if the counter is full, and
    /// then the watcher has already been woken.
    pub fn signal(self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the buffer is valid for 8 bytes. The number is an eventfd in every table of this
        // process: main makes them before any thread starts, and none is ever closed.
        let written = unsafe { libc::write(self.0, one.as_ptr().cast(), one.len()) };
        debug_assert!(written == 8 || written == -1, "an eventfd accepts 8 bytes or none");
    }

    /// Returns a handle with which a thread with a tokio runtime awaits wakes.
    ///
    /// # Errors
    /// The kernel's, when memory is short.
    pub fn watched(self) -> io::Result<AsyncFd<EventFd>> {
        // SAFETY: the descriptor stays open until the process ends, and so longer than the handle.
        let watched = unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) };
        watched.map_err(io::Error::from)
    }

    /// Resets the counter, so that the next wake is seen.
    pub fn clear(self) {
        let mut count = [0u8; 8];
        // SAFETY: the buffer is valid for 8 bytes, and the descriptor does not block.
        let read = unsafe { libc::read(self.0, count.as_mut_ptr().cast(), count.len()) };
        debug_assert!(read == 8 || read == -1, "an eventfd returns 8 bytes or none");
    }
}

fn eventfd(count: libc::c_uint) -> Result<OwnedFd, SysError> {
    // SAFETY: eventfd takes no pointers.
    let number = unsafe { libc::eventfd(count, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    let number = check("eventfd", number)?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Returns a handle that is always readable. A shard's turn loop waits for it to let monoio's ring
/// run. It is an eventfd wrapped as a TCP stream, and is never read or written.
///
/// # Errors
/// The error of the kernel or of the runtime.
pub fn always_readable() -> Result<monoio::net::TcpStream, SysError> {
    let stream = std::net::TcpStream::from(eventfd(1)?);
    monoio::net::TcpStream::from_std(stream).map_err(|source| SysError { call: "watch", source })
}

/// A clock that becomes readable at a fixed interval.
#[derive(Debug)]
pub struct TimerFd(OwnedFd);

impl TimerFd {
    /// Creates a timer that fires every `interval`.
    ///
    /// # Errors
    /// The kernel's, when descriptors or memory are short.
    pub fn every(interval: Duration) -> Result<TimerFd, SysError> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: timerfd_create takes no pointers.
        let number = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        let number = check("timerfd_create", number)?;
        // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        let period = libc::timespec {
            tv_sec: interval.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(interval.subsec_nanos()),
        };
        let spec = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: `spec` is a valid itimerspec, and the old value is not requested.
        let result =
            unsafe { libc::timerfd_settime(number, 0, &raw const spec, std::ptr::null_mut()) };
        check("timerfd_settime", result)?;
        Ok(TimerFd(fd))
    }

    /// Returns the descriptor's number in this thread's table.
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Resets the timer's counter, so that the next tick is seen.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the buffer is valid for 8 bytes, and the descriptor does not block.
        let read = unsafe { libc::read(self.number(), count.as_mut_ptr().cast(), count.len()) };
        debug_assert!(read == 8 || read == -1, "a timerfd returns 8 bytes or none");
    }
}

impl crate::mesh::Wake for EventFd {
    fn wake(&self) {
        self.signal();
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open until the process ends.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}
