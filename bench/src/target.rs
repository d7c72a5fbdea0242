//! Addresses as people write them: `ws://host:port/path` and `http://host:port/path`.

use crate::wire::dialect::Dialect;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

const HTTP_PORT: u16 = 80;

/// A WebSocket to open, and what is spoken on it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Host and port as written: the Host header.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) dialect: Dialect,
    /// The channel of the subscription.
    pub(crate) channel: String,
}

/// An HTTP endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) authority: String,
    /// Path without a trailing slash.
    pub(crate) path: String,
}

/// Why an address could not be used.
#[derive(Debug)]
pub(crate) enum AddressError {
    /// Not of the scheme that is spoken here.
    Scheme { url: String, wanted: &'static str },
    /// A port that is not a number of 16 bits.
    Port(String),
    /// A name that does not resolve.
    Host { authority: String, error: io::Error },
}

impl std::error::Error for AddressError {}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme { url, wanted } => write!(f, "{url:?} does not begin with {wanted}"),
            Self::Port(text) => write!(f, "{text:?} is not a port"),
            Self::Host { authority, error } => write!(f, "cannot resolve {authority:?}: {error}"),
        }
    }
}

impl Target {
    /// Reads a `ws://` URL. The path decides the dialect; a plain one without `channels=` in its
    /// query is given `channel`.
    pub(crate) fn parse(url: &str, channel: &str) -> Result<Self, AddressError> {
        let (authority, mut path) = split(url, "ws://")?;
        let bare_path = path.split('?').next().unwrap_or_default();
        let dialect = Dialect::of_path(bare_path);
        let mut channel = channel.to_owned();
        if dialect == Dialect::Plain {
            let query = path.split_once('?').map_or("", |(_, query)| query);
            let named = query.split('&').find_map(|pair| pair.strip_prefix("channels="));
            if let Some(named) = named {
                channel = named.split(',').next().unwrap_or_default().to_owned();
            } else {
                let joint = if path.contains('?') { '&' } else { '?' };
                path = format!("{path}{joint}channels={channel}");
            }
        }
        let address = resolve(&authority)?;
        Ok(Self { address, authority, path, dialect, channel })
    }
}

impl Endpoint {
    /// Reads an `http://` URL.
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let (authority, path) = split(url, "http://")?;
        let path = path.trim_end_matches('/').to_owned();
        Ok(Self { address: resolve(&authority)?, authority, path })
    }
}

/// Authority and path (at least `/`) of `url`.
fn split(url: &str, wanted: &'static str) -> Result<(String, String), AddressError> {
    let Some(rest) = url.strip_prefix(wanted) else {
        return Err(AddressError::Scheme { url: url.to_owned(), wanted });
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((authority.to_owned(), format!("{slash}{path}")))
}

/// The address behind `host:port`, IPv4 first: that is what servers listen on by default.
fn resolve(authority: &str) -> Result<SocketAddr, AddressError> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| AddressError::Port(port.to_owned()))?)
        }
        _ => (authority, HTTP_PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let unresolved = |error| AddressError::Host { authority: authority.to_owned(), error };
    let addresses = (host, port).to_socket_addrs().map_err(unresolved)?.collect::<Vec<_>>();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| unresolved(io::Error::from(io::ErrorKind::NotFound)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_address_path_and_dialect() {
        let table = [
            ("ws://127.0.0.1:8000/connection/websocket", "/connection/websocket", 8000),
            ("ws://127.0.0.1/ws?channels=a,b", "/ws?channels=a,b", 80),
            ("ws://127.0.0.1:1/ws", "/ws?channels=news", 1),
            ("ws://127.0.0.1:1/ws?envelope=json", "/ws?envelope=json&channels=news", 1),
            ("ws://127.0.0.1:8100", "/", 8100),
            ("ws://[::1]:8100/x", "/x", 8100),
            ("ws://[::1]?a", "/?a", 80),
        ];
        for (url, path, port) in table {
            let target = Target::parse(url, "news").unwrap();
            assert_eq!((target.path.as_str(), target.address.port()), (path, port), "{url}");
        }
        let target = Target::parse("ws://127.0.0.1/ws?channels=a,b", "news").unwrap();
        assert_eq!((target.dialect, target.channel.as_str()), (Dialect::Plain, "a"));
        assert!(Target::parse("ws://[::1]:1/", "c").unwrap().address.is_ipv6());
    }

    #[test]
    fn a_bad_url_says_why() {
        for (url, words) in [
            ("wss://127.0.0.1/", "ws://"),
            ("127.0.0.1:8000", "ws://"),
            ("ws://127.0.0.1:x/", "\"x\" is not a port"),
            ("ws://127.0.0.1:70000/", "\"70000\" is not a port"),
        ] {
            let text = Target::parse(url, "c").unwrap_err().to_string();
            assert!(text.contains(words), "{url}: {text}");
        }
    }

    #[test]
    fn an_endpoint_has_no_trailing_slash() {
        let endpoint = Endpoint::parse("http://127.0.0.1:9000/api/").unwrap();
        assert_eq!((endpoint.path.as_str(), endpoint.address.port()), ("/api", 9000));
    }
}
