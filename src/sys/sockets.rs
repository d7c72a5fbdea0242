//! Listeners and client sockets.

use std::io;
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::calls::{SysError, check};
use super::unix::UnixListener;
use crate::kernel::{Received, Release, Wrote};
use crate::limits::{LISTEN_BACKLOG, SOCKET_SEND_BYTES, SOCKET_UNSENT_BYTES};
use crate::proxies::Peer;

/// Options of client sockets. They are set on the listener, and accepted sockets inherit them.
#[derive(Clone, Copy, Debug)]
pub struct ListenerOptions {
    /// How long sent bytes may remain unacknowledged before the kernel ends the connection.
    pub user_timeout: Duration,
}

/// A listener as one thread uses it.
#[derive(Debug)]
pub enum Listener {
    /// A listener of this thread. Several may share an address (SO_REUSEPORT), and the kernel
    /// spreads connections over them.
    Own(TcpListener),
    /// A listener that all threads use. A client belongs to the first one that accepts it.
    Shared(UnixListener),
}

/// A reserved address: a socket that is bound to it but does not listen. As long as it exists, the
/// kernel does not assign the port to outgoing connections, or to sockets that ask for any port.
/// The listeners of this server may share the address.
#[derive(Debug)]
pub struct Claim {
    socket: TcpListener,
}

/// The result of an accept.
#[derive(Debug)]
pub enum Accepted {
    /// A client's socket and its other end.
    Socket(OwnedFd, Peer),
    /// No client waits.
    Nobody,
    /// The client left before it was accepted. Another one may be waiting.
    Aborted,
    /// No descriptors or memory: EMFILE, ENFILE, ENOBUFS, ENOMEM. The client still waits.
    Exhausted(io::Error),
}

impl Claim {
    /// Claims `address`. For port 0 the kernel chooses a free port.
    ///
    /// # Errors
    /// The error of the kernel: the address is in use, does not belong to this host, or has a
    /// privileged port.
    pub fn new(address: SocketAddr) -> Result<Claim, SysError> {
        let fd = open(address)?;
        // SO_REUSEPORT is not set, so that this fails if another server listens on the address.
        set_option(fd.as_fd(), REUSE_ADDRESS, 1)?;
        bind(fd.as_fd(), address)?;
        Ok(Claim { socket: TcpListener::from(fd) })
    }

    /// The address, with the port that the kernel chose if 0 was requested.
    ///
    /// # Errors
    /// The kernel's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl Listener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The error of the kernel: the address is in use, does not belong to this host, or has a
    /// privileged port.
    pub fn bind(address: SocketAddr, options: ListenerOptions) -> Result<Listener, SysError> {
        let fd = open(address)?;
        let timeout_ms = i32::try_from(options.user_timeout.as_millis()).unwrap_or(i32::MAX);
        let settings = [
            (REUSE_ADDRESS, 1),
            (SocketOption::socket("SO_REUSEPORT", libc::SO_REUSEPORT), 1),
            (SocketOption::socket("SO_KEEPALIVE", libc::SO_KEEPALIVE), 1),
            (SocketOption::socket("SO_SNDBUF", libc::SO_SNDBUF), SOCKET_SEND_BYTES as i32),
            (SocketOption::tcp("TCP_NODELAY", libc::TCP_NODELAY), 1),
            (SocketOption::tcp("TCP_USER_TIMEOUT", libc::TCP_USER_TIMEOUT), timeout_ms),
            (
                SocketOption::tcp("TCP_NOTSENT_LOWAT", libc::TCP_NOTSENT_LOWAT),
                SOCKET_UNSENT_BYTES as i32,
            ),
        ];
        for (option, value) in settings {
            set_option(fd.as_fd(), option, value)?;
        }
        bind(fd.as_fd(), address)?;
        // SAFETY: listen takes no pointers.
        check("listen", unsafe { libc::listen(fd.as_raw_fd(), LISTEN_BACKLOG) })?;
        Ok(Listener::Own(TcpListener::from(fd)))
    }

    /// The address, with the port that the kernel chose if 0 was requested.
    ///
    /// # Errors
    /// The kernel's, or that a listener of all threads has no IP address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Listener::Own(listener) => listener.local_addr(),
            Listener::Shared(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Accepts one client from the queue.
    pub fn accept(&self) -> Accepted {
        let accepted = accept(self.as_fd());
        if let (Listener::Shared(_), Accepted::Socket(socket, _)) = (self, &accepted) {
            // It does not inherit the option. If this fails, a slow client costs more memory.
            let option = SocketOption::socket("SO_SNDBUF", libc::SO_SNDBUF);
            set_option(socket.as_fd(), option, SOCKET_SEND_BYTES as i32).ok();
        }
        accepted
    }

    /// Whether other threads accept from the same queue.
    pub fn is_shared(&self) -> bool {
        matches!(self, Listener::Shared(_))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Own(listener) => listener.as_fd(),
            Listener::Shared(listener) => listener.as_fd(),
        }
    }
}

fn accept(listener: BorrowedFd<'_>) -> Accepted {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let mut address = [0u8; ADDRESS_BYTES];
    let mut size = ADDRESS_BYTES as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes of an address, for which the buffer has room,
    // and the length of the address.
    let number = unsafe {
        libc::accept4(listener.as_raw_fd(), address.as_mut_ptr().cast(), &raw mut size, flags)
    };
    if number >= 0 {
        // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        return Accepted::Socket(socket, read_peer(&address));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // A listener that was shut down has EINVAL.
        Some(libc::EAGAIN | libc::EINVAL) => Accepted::Nobody,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
            Accepted::Exhausted(error)
        }
        // accept(2): treat pending network errors of the new socket like EAGAIN, by retrying.
        _ => Accepted::Aborted,
    }
}

/// Size of the longest address of a client, in bytes.
const ADDRESS_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Returns the peer with an address from the kernel. Peers without an address of a network are on
/// this host.
fn read_peer(address: &[u8; ADDRESS_BYTES]) -> Peer {
    const IPV4_AT: usize = offset_of!(libc::sockaddr_in, sin_addr);
    const IPV6_AT: usize = offset_of!(libc::sockaddr_in6, sin6_addr);
    let family = libc::sa_family_t::from_ne_bytes([address[0], address[1]]);
    let address = match i32::from(family) {
        libc::AF_INET => address[IPV4_AT..].first_chunk::<4>().map(|&four| IpAddr::from(four)),
        libc::AF_INET6 => address[IPV6_AT..].first_chunk::<16>().map(|&six| IpAddr::from(six)),
        _ => None,
    };
    address.map_or(Peer::Unix, Peer::of)
}

/// Returns the other end of a socket. `None` if the connection is dead.
pub fn peer(socket: BorrowedFd<'_>) -> Option<Peer> {
    let mut address = [0u8; ADDRESS_BYTES];
    let mut size = ADDRESS_BYTES as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes of an address, for which the buffer has room,
    // and the length of the address.
    let result = unsafe {
        libc::getpeername(socket.as_raw_fd(), address.as_mut_ptr().cast(), &raw mut size)
    };
    (result == 0).then(|| read_peer(&address))
}

/// Creates a socket of the family of `address`.
fn open(address: SocketAddr) -> Result<OwnedFd, SysError> {
    let domain = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes no pointers.
    let number = check("socket", unsafe { libc::socket(domain, kind, 0) })?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    if address.is_ipv6() {
        // This allows a server to listen on both `[::]` and `0.0.0.0`.
        set_option(fd.as_fd(), IPV6_ONLY, 1)?;
    }
    Ok(fd)
}

fn bind(socket: BorrowedFd<'_>, address: SocketAddr) -> Result<(), SysError> {
    let number = socket.as_raw_fd();
    let result = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            // SAFETY: `raw` is a valid sockaddr_in of `size` bytes for the time of the call.
            unsafe { libc::bind(number, (&raw const raw).cast(), size) }
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            let size = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            // SAFETY: `raw` is a valid sockaddr_in6 of `size` bytes for the time of the call.
            unsafe { libc::bind(number, (&raw const raw).cast(), size) }
        }
    };
    check("bind", result).map(|_| ())
}

/// A socket option, with its name for error messages.
#[derive(Clone, Copy)]
struct SocketOption {
    text: &'static str,
    level: i32,
    name: i32,
}

const REUSE_ADDRESS: SocketOption = SocketOption::socket("SO_REUSEADDR", libc::SO_REUSEADDR);
const IPV6_ONLY: SocketOption =
    SocketOption { text: "IPV6_V6ONLY", level: libc::IPPROTO_IPV6, name: libc::IPV6_V6ONLY };

impl SocketOption {
    const fn socket(text: &'static str, name: i32) -> SocketOption {
        SocketOption { text, level: libc::SOL_SOCKET, name }
    }

    const fn tcp(text: &'static str, name: i32) -> SocketOption {
        SocketOption { text, level: libc::IPPROTO_TCP, name }
    }
}

fn set_option(socket: BorrowedFd<'_>, option: SocketOption, value: i32) -> Result<(), SysError> {
    let (number, SocketOption { text, level, name }) = (socket.as_raw_fd(), option);
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the value is an i32 of `size` bytes for the time of the call.
    let result = unsafe { libc::setsockopt(number, level, name, (&raw const value).cast(), size) };
    check(text, result).map(|_| ())
}

/// See [`crate::kernel::Sockets::receive`].
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Received {
    match recv(socket, buffer, libc::MSG_DONTWAIT) {
        count @ 1.. => Received::Bytes(count as usize),
        0 => Received::End,
        _ => match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Received::Nothing,
            _ => Received::Gone,
        },
    }
}

fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: libc::c_int) -> isize {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into it, during the call.
    unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) }
}

/// See [`crate::kernel::Sockets::send`].
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Wrote {
    // SAFETY: the kernel reads at most `bytes.len()` bytes from it, during the call.
    let count = unsafe {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags)
    };
    match count {
        1.. => Wrote::Bytes(count as usize),
        _ => wrote_nothing(io::Error::last_os_error().raw_os_error().unwrap_or_default()),
    }
}

/// Returns the meaning of an error of a send. A lack of memory does not mean that the connection is
/// dead.
pub(super) fn wrote_nothing(error: i32) -> Wrote {
    match error {
        libc::EAGAIN | libc::EINTR | libc::ENOMEM | libc::ENOBUFS => Wrote::Blocked,
        _ => Wrote::Gone,
    }
}

/// See [`crate::kernel::Sockets::has_sent_all`].
pub(super) fn has_sent_all(socket: BorrowedFd<'_>) -> bool {
    let mut waiting: libc::c_int = 0;
    // SAFETY: the kernel writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
    // If the ioctl fails, claim that all was sent: the caller then sends again, which shows the
    // error.
    result != 0 || waiting == 0
}

/// See [`crate::kernel::Sockets::finish`].
pub(super) fn shutdown_write(socket: BorrowedFd<'_>) {
    // SAFETY: shutdown takes no pointers. On a dead connection it fails with ENOTCONN, which is
    // fine.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

/// See [`crate::kernel::Sockets::release`].
pub(super) fn shutdown(socket: BorrowedFd<'_>, how: Release) {
    if how == Release::Abort {
        // With a linger time of 0, close(2) sends a reset and discards unsent bytes.
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let size = size_of::<libc::linger>() as libc::socklen_t;
        // SAFETY: the value is a linger of `size` bytes for the time of the call. If the call
        // fails, the close is graceful, which is slower but just as correct.
        unsafe {
            let value = (&raw const linger).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size);
        }
        return;
    }
    // SAFETY: shutdown takes no pointers. On a dead connection it fails with ENOTCONN, which is
    // fine.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Whether the connection has been reset or is dead for another reason. Bytes that arrived before
/// may still be unread.
pub fn is_reset(socket: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `poll` is one valid pollfd for the time of the call, which does not wait.
    let count = unsafe { libc::poll(&raw mut poll, 1, 0) };
    count == 1 && poll.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

/// Reads bytes that a socket has received, and leaves them there. Returns their number, which is 0
/// if there are none.
pub fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> usize {
    usize::try_from(recv(socket, buffer, libc::MSG_DONTWAIT | libc::MSG_PEEK)).unwrap_or(0)
}

/// See [`crate::kernel::Sockets::is_open`].
pub(super) fn is_open(socket: BorrowedFd<'_>) -> bool {
    // SAFETY: F_GETFD takes no pointers.
    unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) >= 0 }
}

/// A reserved descriptor. If no other is left, it is given up for a moment, so that a client can be
/// accepted and refused instead of waiting in the kernel's queue.
#[derive(Debug)]
pub struct SpareDescriptor(Option<OwnedFd>);

impl SpareDescriptor {
    /// Reserves a descriptor, if one is left.
    pub fn new() -> SpareDescriptor {
        let mut spare = SpareDescriptor(None);
        spare.refill();
        spare
    }

    /// Accepts one client in place of the reserved descriptor, sends `answer` and closes the
    /// socket. Returns whether it did, which needs a waiting client and a reserved descriptor.
    pub fn refuse_one(&mut self, listener: &Listener, answer: &[u8]) -> bool {
        let mut refused = false;
        if self.0.take().is_some()
            && let Accepted::Socket(socket, _) = listener.accept()
        {
            refuse(socket, answer);
            refused = true;
        }
        self.refill();
        refused
    }

    /// Whether one more descriptor can be opened at the moment.
    pub fn another_fits() -> bool {
        SpareDescriptor::new().0.is_some()
    }

    fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = std::fs::File::open("/dev/null").ok().map(OwnedFd::from);
        }
    }
}

impl Default for SpareDescriptor {
    fn default() -> SpareDescriptor {
        SpareDescriptor::new()
    }
}

/// Sends `answer` to a client that is not admitted, and closes its socket.
pub fn refuse(socket: OwnedFd, answer: &[u8]) {
    send(socket.as_fd(), answer);
    // The request must be read before the close. Otherwise the kernel sends a reset, and the client
    // may discard the answer.
    let mut buffer = [0u8; 2048];
    shutdown_write(socket.as_fd());
    receive(socket.as_fd(), &mut buffer);
    drop(socket);
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_client_that_has_reset_its_connection_is_told_from_one_that_waits() {
        let options = ListenerOptions { user_timeout: Duration::from_secs(5) };
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
        let connect = || {
            let stream = TcpStream::connect(listener.address().unwrap()).unwrap();
            match listener.accept() {
                Accepted::Socket(socket, _) => (stream, socket),
                other => panic!("{other:?}"),
            }
        };
        let (mut stream, socket) = connect();
        assert!(!is_reset(socket.as_fd()));
        stream.write_all(b"GET").unwrap();
        assert!(!is_reset(socket.as_fd()));
        shutdown(stream.as_fd(), Release::Abort); // The close becomes a reset.
        drop(stream);
        assert!(is_reset(socket.as_fd()), "bytes sent before do not matter");
        let (stream, socket) = connect();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!is_reset(socket.as_fd()), "it still reads");
    }

    #[test]
    fn that_memory_is_short_does_not_mean_that_the_peer_is_gone() {
        for error in [libc::EAGAIN, libc::EINTR, libc::ENOMEM, libc::ENOBUFS] {
            assert_eq!(wrote_nothing(error), Wrote::Blocked, "{error}");
        }
        for error in [libc::ECONNRESET, libc::EPIPE, libc::ETIMEDOUT, libc::EBADF] {
            assert_eq!(wrote_nothing(error), Wrote::Gone, "{error}");
        }
    }

    #[test]
    fn a_socket_has_sent_all_when_the_peer_has_taken_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(has_sent_all(stream.as_fd()));
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[0; 65_536]).is_ok() {}
        assert!(!has_sent_all(stream.as_fd()), "the peer reads nothing");
    }

    #[test]
    fn an_accept_tells_where_the_client_comes_from() {
        let options = ListenerOptions { user_timeout: Duration::from_secs(5) };
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
        let _stream = TcpStream::connect(listener.address().unwrap()).unwrap();
        let Accepted::Socket(socket, found) = listener.accept() else { panic!("nobody") };
        assert_eq!(found, Peer::Address([127, 0, 0, 1].into()));
        assert_eq!(peer(socket.as_fd()), Some(found));
        assert_eq!(peer(listener.as_fd()), None, "it is not connected");
        let mut address = [0u8; ADDRESS_BYTES];
        address[..2].copy_from_slice(&(libc::AF_INET as libc::sa_family_t).to_ne_bytes());
        address[4..8].copy_from_slice(&[192, 0, 2, 7]);
        assert_eq!(read_peer(&address), Peer::Address([192, 0, 2, 7].into()));
        address[..2].copy_from_slice(&(libc::AF_INET6 as libc::sa_family_t).to_ne_bytes());
        address[8..24].copy_from_slice(&[0x20; 16]);
        assert_eq!(read_peer(&address), Peer::Address([0x20; 16].into()));
        address[8..24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]);
        assert_eq!(read_peer(&address), Peer::Address([192, 0, 2, 7].into()));
        address[..2].copy_from_slice(&(libc::AF_UNIX as libc::sa_family_t).to_ne_bytes());
        assert_eq!(read_peer(&address), Peer::Unix);
    }
}
