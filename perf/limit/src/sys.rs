//! The one system call that this program needs and the server's wrappers lack.
#![expect(unsafe_code, reason = "poll has no safe form")]

use std::io;
use std::os::fd::RawFd;

/// Sleeps until `fd` is readable. A signal ends the sleep early.
///
/// # Errors
/// The kernel's: `fd` is not open.
pub(crate) fn wait_readable(fd: RawFd) -> io::Result<()> {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: `entry` is one valid pollfd for the time of the call.
    if unsafe { libc::poll(&raw mut entry, 1, -1) } >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}
