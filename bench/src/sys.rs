//! System calls that the standard library lacks: epoll, sockets bound to an address without a port,
//! descriptor tables, processors, clocks. Only this module contains `unsafe`.
#![expect(unsafe_code, reason = "each block is one system call with a proof")]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Lowest descriptor that is closed in a thread's private table. Standard input and output stay
/// open.
const PRIVATE_FROM: libc::c_uint = 3;

/// Set by the first SIGINT.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Converts the result of a system call that reports failure as -1.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Readiness of many sockets, edge-triggered. Each event is reported once, so a socket must be read
/// until it is empty. No call is needed to re-arm it.
pub(crate) struct Epoll {
    fd: OwnedFd,
}

/// Room for the events of one wait.
pub(crate) struct Events {
    room: Vec<libc::epoll_event>,
}

/// An event of one socket.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    /// The token given to [`Epoll::add`].
    pub(crate) token: u64,
    /// The peer has closed its side or the socket has failed: read to the end.
    pub(crate) ended: bool,
}

impl Events {
    pub(crate) fn new(count_max: usize) -> Self {
        Self { room: vec![libc::epoll_event { events: 0, u64: 0 }; count_max] }
    }

    /// Returns the event at `index`, which must be below the count that the last wait returned.
    pub(crate) fn at(&self, index: usize) -> Event {
        let event = self.room[index];
        let ends = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned();
        Event { token: event.u64, ended: event.events & ends != 0 }
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes a flag and touches no memory of ours.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just handed us `fd`, and nothing else knows it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Watches `socket` for all events, until it is closed.
    pub(crate) fn add(&self, socket: &TcpStream, token: u64) -> io::Result<()> {
        let wanted = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: wanted.cast_unsigned(), u64: token };
        let (epoll, fd) = (self.fd.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: both descriptors are open, borrowed for the call; `event` outlives it.
        checked(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        Ok(())
    }

    /// Waits up to `timeout_ms` and returns the number of events. A signal counts as none.
    pub(crate) fn wait(&self, events: &mut Events, timeout_ms: i32) -> io::Result<usize> {
        let count_max = libc::c_int::try_from(events.room.len()).unwrap_or(libc::c_int::MAX);
        let room = events.room.as_mut_ptr();
        // SAFETY: `room` has space for `count_max` events and is borrowed mutably for the call.
        let count =
            checked(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), room, count_max, timeout_ms) });
        match count {
            Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Starts to connect to `address` without waiting, from `source` if it is given. The port is chosen
/// while connecting, so that the limit of ports applies per pair of addresses and not per source.
pub(crate) fn connect(
    address: SocketAddr,
    source: Option<Ipv4Addr>,
    receive_bytes: i32,
) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes numbers and touches no memory of ours.
    let fd = checked(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the kernel has just handed us `fd`, and nothing else knows it.
    let socket = unsafe { TcpStream::from_raw_fd(fd) };
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &receive_bytes)?;
    if let Some(source) = source {
        set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1)?;
        let (name, bytes) = socket_name((source, 0).into());
        // SAFETY: `name` is a sockaddr of at least `bytes` bytes that outlives the call.
        checked(unsafe { libc::bind(fd, (&raw const name).cast(), bytes) })?;
    }
    let (name, bytes) = socket_name(address);
    // SAFETY: `name` is a sockaddr of at least `bytes` bytes that outlives the call.
    match checked(unsafe { libc::connect(fd, (&raw const name).cast(), bytes) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Converts `address` to the kernel's form. Returns it with its length.
fn socket_name(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all bytes zero is a valid sockaddr_storage.
    let mut name: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let place = &raw mut name;
    let bytes = match address {
        SocketAddr::V4(v4) => {
            let inet = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is at least as large and as aligned as any sockaddr.
            unsafe { place.cast::<libc::sockaddr_in>().write(inet) };
            mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let inet = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: sockaddr_storage is at least as large and as aligned as any sockaddr.
            unsafe { place.cast::<libc::sockaddr_in6>().write(inet) };
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    (name, bytes as libc::socklen_t)
}

/// Sets a socket option whose value is `T` in the kernel's layout.
fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let bytes = mem::size_of::<T>() as libc::socklen_t;
    let value = (value as *const T).cast();
    // SAFETY: `value` points to `bytes` readable bytes for the length of the call.
    checked(unsafe { libc::setsockopt(fd, level, name, value, bytes) })?;
    Ok(())
}

/// Reads the available bytes of `socket`. Returns `WouldBlock` if there are none.
pub(crate) fn receive_now(socket: &TcpStream, place: &mut [u8]) -> io::Result<usize> {
    let (start, bytes) = (place.as_mut_ptr().cast(), place.len());
    // SAFETY: `place` is `bytes` writable bytes, borrowed mutably for the call.
    let count = unsafe { libc::recv(socket.as_raw_fd(), start, bytes, libc::MSG_DONTWAIT) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Makes closing `socket` reset the connection: there is no TIME_WAIT, and the peer reads an error.
pub(crate) fn reset_on_close(socket: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// Gives the calling thread a private descriptor table with only standard input and output. The
/// descriptor limit applies to each table.
pub(crate) fn private_descriptor_table() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_UNSHARE.cast_signed();
    // SAFETY: closes descriptors in the new table of this thread alone, and the callers are
    // threads that have opened none yet, so no owner loses what it holds.
    checked(unsafe { libc::close_range(PRIVATE_FROM, libc::c_uint::MAX, flags) })?;
    Ok(())
}

/// Raises the descriptor limit as far as possible without privileges, and returns it.
pub(crate) fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is initialised and outlives the call.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Pins the calling thread to `cpus`. Fails if the thread may use none of them.
pub(crate) fn pin(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: all bytes zero is an empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: the filter keeps the index within the set.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: `set` is initialised and its size is given; 0 is the calling thread.
    checked(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) })?;
    Ok(())
}

/// Lets another thread run on this processor.
pub(crate) fn give_way() {
    // SAFETY: touches no memory of ours. It never fails on Linux.
    unsafe { libc::sched_yield() };
}

/// Returns CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Returns the CPU time of this process so far, in nanoseconds.
pub(crate) fn own_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Returns the CPU time of a thread so far, in nanoseconds, or 0 once it has ended.
pub(crate) fn thread_cpu_ns<T>(thread: &JoinHandle<T>) -> u64 {
    let mut clock = 0;
    // SAFETY: the handle has not been joined, so its pthread_t is valid, and `clock` is a place.
    match unsafe { libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) } {
        0 => clock_ns(clock),
        _ => 0,
    }
}

/// Returns the CPU time of process `pid` so far, in nanoseconds.
pub(crate) fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: `clock` is a valid place for the result.
    match unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) } {
        0 => Ok(clock_ns(clock)),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place. A clock of an ended thread fails and leaves the zeros.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Returns the ticks per second in /proc/PID/stat.
pub(crate) fn ticks_per_second() -> f64 {
    // SAFETY: takes a number and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

/// Handles SIGINT: the first one sets [`interrupted`], and a second one ends the process as usual.
pub(crate) fn catch_interrupt() -> io::Result<()> {
    extern "C" fn note(_signal: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    // SAFETY: all bytes zero is a valid sigaction without flags or mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESETHAND;
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
    checked(unsafe { libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut()) })?;
    Ok(())
}

/// Whether SIGINT has been received.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn connects_from_the_source_and_tells_of_data_and_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = Ipv4Addr::new(127, 0, 0, 9);
        let client = connect(listener.local_addr().unwrap(), Some(source), 8192).unwrap();
        let (mut server, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), source);
        let epoll = Epoll::new().unwrap();
        epoll.add(&client, 7).unwrap();
        let mut events = Events::new(4);
        server.write_all(b"x").unwrap();
        assert_eq!(epoll.wait(&mut events, 1000).unwrap(), 1);
        assert_eq!((events.at(0).token, events.at(0).ended), (7, false));
        drop(server);
        assert_eq!(epoll.wait(&mut events, 1000).unwrap(), 1);
        assert!(events.at(0).ended);
        assert_eq!(epoll.wait(&mut events, 0).unwrap(), 0);
    }

    #[test]
    fn a_private_table_hides_the_descriptors_of_other_threads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.as_raw_fd();
        let thread = std::thread::spawn(move || {
            private_descriptor_table().unwrap();
            std::fs::read_link(format!("/proc/thread-self/fd/{number}")).is_err()
        });
        assert!(thread.join().unwrap());
        assert!(listener.local_addr().is_ok());
    }

    #[test]
    fn a_busy_thread_uses_processor_time() {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            while wait.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {}
        });
        while thread_cpu_ns(&thread) < 1_000_000 {}
        assert!(own_cpu_ns() >= 1_000_000);
        drop(end);
    }
}
