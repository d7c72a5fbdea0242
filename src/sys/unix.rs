//! Unix sockets to listen on, and their files.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::path::{Path, PathBuf};

use super::calls::check;
use crate::limits::{LISTEN_BACKLOG, UNIX_PATH_BYTES_MAX};

/// A listener that all threads use. It is identified by its number, because each thread has it
/// under the same number in its own descriptor table. There is no SO_REUSEPORT for Unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixListener(RawFd);

impl UnixListener {
    /// Lets all threads use a listener for as long as the process lives. It must be called before
    /// any thread starts.
    pub fn share(listener: OwnedFd) -> UnixListener {
        UnixListener(listener.into_raw_fd())
    }

    /// The descriptor's number.
    pub const fn number(self) -> RawFd {
        self.0
    }

    /// Refuses further clients. Those in the queue can still be accepted.
    pub fn shut_down(self) {
        // SAFETY: shutdown takes no pointers. It can only fail if the socket was shut down before.
        unsafe { libc::shutdown(self.0, libc::SHUT_RD) };
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the number is this listener in every table of this process: main makes it before
        // any thread starts, and it is never closed.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// The users who may connect to a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketAccess {
    /// The mode of the file. Connecting needs the permission to write.
    pub mode: u32,
    /// The name or number of the group of the file; empty for that of the process or the directory.
    pub group: String,
}

/// The file of a Unix socket. It is removed when this value is dropped, unless another process has
/// replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The file. It can't be read or written, but as long as it is open, no new file has its
    /// number.
    file: File,
}

impl SocketFile {
    /// Listens on a Unix socket at `path`. The socket of a process that has ended is replaced.
    ///
    /// # Errors
    /// `AddrInUse` if another process listens there. Another error of the kernel, or of the group's
    /// name.
    pub fn listen(path: &Path, access: &SocketAccess) -> io::Result<(OwnedFd, SocketFile)> {
        remove_stale(path)?;
        let socket = open()?;
        let address = address(path)?;
        let size = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: `address` is a valid sockaddr_un of `size` bytes for the time of the call.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
        check("bind", bound).map_err(|error| error.source)?;
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        // From here on, an error removes the file.
        let file = SocketFile { path: path.to_owned(), file };
        // Before the listen, because nobody can connect until then.
        if !access.group.is_empty() {
            chown(path, None, Some(group_number(&access.group)?))?;
        }
        fs::set_permissions(path, Permissions::from_mode(access.mode))?;
        // SAFETY: listen takes no pointers.
        let listens = unsafe { libc::listen(socket.as_raw_fd(), LISTEN_BACKLOG) };
        check("listen", listens).map_err(|error| error.source)?;
        Ok((socket, file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        let (own, found) = (self.file.metadata(), fs::symlink_metadata(&self.path));
        if let (Ok(own), Ok(found)) = (own.map(identity), found.map(identity))
            && own == found
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "could not remove a Unix socket");
        }
    }
}

/// Removes the socket that an earlier process has left.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !metadata.file_type().is_socket() {
        let text = "the file exists and is not a socket; remove it, or use another path";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let socket = open()?;
    let address = address(path)?;
    let size = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: `address` is a valid sockaddr_un of `size` bytes for the time of the call.
    let connected = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size) };
    match check("connect", connected).map_err(|error| error.source) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Removed in the meantime.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // EAGAIN means that the queue of the listener is full.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
    }
}

fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes no pointers.
    let number = check("socket", unsafe { libc::socket(libc::AF_UNIX, kind, 0) });
    let number = number.map_err(|error| error.source)?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn address(path: &Path) -> io::Result<libc::sockaddr_un> {
    const PATH_BYTES: usize =
        size_of::<libc::sockaddr_un>() - offset_of!(libc::sockaddr_un, sun_path);
    const { assert!(UNIX_PATH_BYTES_MAX < PATH_BYTES, "a zero byte follows the path") };
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.len() > UNIX_PATH_BYTES_MAX {
        let text = format!("the path has {} bytes: use 1 to {UNIX_PATH_BYTES_MAX}", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut sun_path = [0; PATH_BYTES];
    for (to, &from) in sun_path.iter_mut().zip(bytes) {
        *to = from as libc::c_char;
    }
    Ok(libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path })
}

/// Returns the number of a group, whose name must be in /etc/group unless it is a number.
fn group_number(group: &str) -> io::Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = fs::read(OsStr::new("/etc/group"))?;
    let groups = String::from_utf8_lossy(&groups);
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        fields.next().filter(|name| *name == group)?;
        fields.nth(1)?.parse().ok()
    });
    number.ok_or_else(|| {
        let text = format!("there is no group {group:?} in /etc/group; use its number");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sys::{Accepted, Listener};

    /// A directory that is removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let name = format!("corecast-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn access() -> SocketAccess {
        SocketAccess { mode: 0o620, group: String::new() }
    }

    #[test]
    fn a_socket_has_its_mode_and_is_removed_with_its_owner() {
        let directory = Directory::new("mode");
        let path = directory.0.join("clients.sock");
        let (_listener, file) = SocketFile::listen(&path, &access()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o620);
        drop(file);
        assert!(!path.exists());
        let group = SocketAccess { group: "no such group".to_owned(), ..access() };
        let error = SocketFile::listen(&path, &group).unwrap_err();
        assert!(error.to_string().contains("no such group"), "{error}");
        assert!(!path.exists(), "nothing is left of a failed start");
        assert_eq!(group_number("root").unwrap(), 0);
        assert_eq!(group_number("4711").unwrap(), 4711);
    }

    #[test]
    fn only_a_socket_without_a_listener_is_replaced() {
        let directory = Directory::new("stale");
        let path = directory.0.join("clients.sock");
        let (listener, file) = SocketFile::listen(&path, &access()).unwrap();
        let error = SocketFile::listen(&path, &access()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        let (_listener, new) = SocketFile::listen(&path, &access()).unwrap();
        drop(file);
        assert!(path.exists(), "it is not the old one's any more");
        drop(new);
        fs::write(&path, "precious").unwrap();
        let error = SocketFile::listen(&path, &access()).unwrap_err();
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_shared_listener_that_is_shut_down_has_its_queue_and_no_more() {
        let directory = Directory::new("shared");
        let path = directory.0.join("clients.sock");
        let (listener, _file) = SocketFile::listen(&path, &access()).unwrap();
        let shared = UnixListener::share(listener);
        let listener = Listener::Shared(shared);
        let _waits = UnixStream::connect(&path).unwrap();
        shared.shut_down();
        let refused = UnixStream::connect(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(matches!(listener.accept(), Accepted::Socket(_, crate::proxies::Peer::Unix)));
        assert!(matches!(listener.accept(), Accepted::Nobody));
    }
}
