//! Addresses to listen on.

use core::fmt;
use core::net::SocketAddr;
use std::path::PathBuf;

use crate::limits::UNIX_PATH_BYTES_MAX;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Parses `IP:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// It is neither. The text names it and says how to write it.
    pub fn parse(text: &str) -> Result<ListenAddress, String> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(ListenAddress::Tcp).map_err(|_| {
                format!(
                    "{text:?} is not an address: use IP and port, such as \"127.0.0.1:8000\", \
                     \"0.0.0.0:8000\" (all IPv4) or \"[::]:8000\" (IPv6), or \"unix:\" and the \
                     path of a Unix socket"
                )
            });
        };
        if path.len() > UNIX_PATH_BYTES_MAX {
            let bytes = path.len();
            return Err(format!(
                "{text:?} has a path of {bytes} bytes, but the kernel allows \
                 {UNIX_PATH_BYTES_MAX}: use a shorter one"
            ));
        }
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            return Err(format!(
                "{text:?} is not a path: use \"unix:\" and the absolute path of a file, such as \
                 \"unix:/run/corecast/clients.sock\""
            ));
        }
        Ok(ListenAddress::Unix(PathBuf::from(path)))
    }

    /// Whether only this host can reach the address.
    pub fn is_local(&self) -> bool {
        match self {
            ListenAddress::Tcp(address) => address.ip().is_loopback(),
            ListenAddress::Unix(_) => true,
        }
    }

    /// Returns the IP address and port, unless it is a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Parses the mode of a file in octal digits, such as `0660`.
///
/// # Errors
/// It is not such a mode. The text names it and says how to write it.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    let octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|&mode| octal && mode <= 0o777);
    mode.ok_or_else(|| {
        format!(
            "{text:?} is not a mode: use octal digits, such as \"0660\" (owner and group) or \
             \"0666\" (everyone)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["127.0.0.1:8000", "[::]:1", "unix:/run/corecast/clients.sock"] {
            assert_eq!(ListenAddress::parse(text).unwrap().to_string(), text);
        }
        let local = |text: &str| ListenAddress::parse(text).unwrap().is_local();
        assert!(local("unix:/a") && local("[::1]:1") && !local("0.0.0.0:1"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        for (text, part) in [
            (":8000", "is not an address"),
            ("unix:run/a", "is not a path"),
            ("unix:", "is not a path"),
            ("unix:/run/", "is not a path"),
            (&long, "use a shorter one"),
        ] {
            let error = ListenAddress::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_mode_has_octal_digits() {
        assert_eq!(parse_mode("0660"), Ok(0o660));
        assert_eq!(parse_mode("777"), Ok(0o777));
        for text in ["", "0o660", "+660", "668", "1777", "rw-rw----"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }
}
