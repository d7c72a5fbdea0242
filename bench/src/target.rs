//! Addresses in URLs: `ws://host:port/path` and `http://host:port/path`.

use crate::error::AddressError;
use crate::profile::Profile;
use crate::wire::script::{self, Opening, Script};
use crate::wire::upgrade;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

const HTTP_PORT: u16 = 80;

/// A WebSocket endpoint with its channels.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) script: Script,
    /// One entry for each channel.
    pub(crate) entries: Vec<Entry>,
}

/// How a subscriber of one channel connects.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) channel: String,
    /// The upgrade request.
    pub(crate) request: Vec<u8>,
    pub(crate) opening: Opening,
}

/// An HTTP endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) authority: String,
    /// Path without a trailing slash.
    pub(crate) path: String,
}

impl Target {
    /// Returns the target for subscribers of `channels` at `url`, with the messages of `profile`.
    pub(crate) fn new(
        profile: &Profile,
        url: &str,
        channels: &[String],
    ) -> Result<Self, AddressError> {
        let mut entries = Vec::with_capacity(channels.len());
        for channel in channels {
            let (authority, path) = split(&script::fill_channel(url, channel), "ws://")?;
            entries.push(Entry {
                channel: channel.clone(),
                request: upgrade::request(&authority, &path, &profile.headers),
                opening: Opening::new(&profile.open, profile.recover.as_ref(), channel),
            });
        }
        let (authority, _) = split(url, "ws://")?;
        Ok(Self { address: resolve(&authority)?, script: Script::new(profile), entries })
    }
}

impl Endpoint {
    /// Parses an `http://` URL.
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let (authority, path) = split(url, "http://")?;
        let path = path.trim_end_matches('/').to_owned();
        Ok(Self { address: resolve(&authority)?, authority, path })
    }
}

/// Adapts `url` of a profile to clients that connect to `client_url` instead of `home`: if `url`
/// and `home` have the same address, the result has the address of `client_url`.
pub(crate) fn moved(url: &str, home: &str, client_url: &str) -> String {
    let authority = |url: &str| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        rest.split(['/', '?']).next().unwrap_or_default().to_owned()
    };
    match authority(home) {
        same if same == authority(url) => url.replacen(&same, &authority(client_url), 1),
        _ => url.to_owned(),
    }
}

/// Returns the authority and the path (at least `/`) of `url`.
fn split(url: &str, wanted: &'static str) -> Result<(String, String), AddressError> {
    let Some(rest) = url.strip_prefix(wanted) else {
        return Err(AddressError::Scheme { url: url.to_owned(), wanted });
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((authority.to_owned(), format!("{slash}{path}")))
}

/// Resolves `host:port`. Prefers IPv4, because servers listen on it by default.
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

    fn target(url: &str, channels: &[&str]) -> Result<Target, AddressError> {
        let channels = channels.iter().map(|channel| (*channel).to_owned()).collect::<Vec<_>>();
        Target::new(&Profile::load("plain").unwrap(), url, &channels)
    }

    #[test]
    fn a_url_gives_address_and_request() {
        let table = [
            ("ws://127.0.0.1:8000/connection/websocket", "/connection/websocket", 8000),
            ("ws://127.0.0.1/ws?channels=a,b", "/ws?channels=a,b", 80),
            ("ws://127.0.0.1:1/ws?channels={channel}", "/ws?channels=news", 1),
            ("ws://127.0.0.1:8100", "/", 8100),
            ("ws://[::1]:8100/x", "/x", 8100),
            ("ws://[::1]?a", "/?a", 80),
        ];
        for (url, path, port) in table {
            let target = target(url, &["news"]).unwrap();
            let request = String::from_utf8(target.entries[0].request.clone()).unwrap();
            assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{request}");
            assert_eq!(target.address.port(), port, "{url}");
        }
    }

    #[test]
    fn every_channel_has_an_entry() {
        let target = target("ws://[::1]:1/{channel}", &["a", "b"]).unwrap();
        assert!(target.address.is_ipv6());
        for (entry, name) in target.entries.iter().zip(["a", "b"]) {
            assert_eq!(entry.channel, name);
            assert!(entry.request.starts_with(format!("GET /{name} HTTP").as_bytes()));
        }
    }

    #[test]
    fn a_bad_url_says_why() {
        for (url, words) in [
            ("wss://127.0.0.1/", "ws://"),
            ("127.0.0.1:8000", "ws://"),
            ("ws://127.0.0.1:x/", "\"x\" is not a port"),
            ("ws://127.0.0.1:70000/", "\"70000\" is not a port"),
        ] {
            let text = target(url, &["c"]).unwrap_err().to_string();
            assert!(text.contains(words), "{url}: {text}");
        }
    }

    #[test]
    fn what_was_in_one_place_moves_together() {
        let home = "ws://127.0.0.1:8000/ws";
        for (url, moves) in [
            ("ws://127.0.0.1:8000/p?a={channel}", "ws://[::1]:1/p?a={channel}"),
            ("http://127.0.0.1:8000", "http://[::1]:1"),
            ("http://127.0.0.1:9000/api", "http://127.0.0.1:9000/api"),
        ] {
            assert_eq!(moved(url, home, "ws://[::1]:1/x?y"), moves);
        }
    }

    #[test]
    fn an_endpoint_has_no_trailing_slash() {
        let endpoint = Endpoint::parse("http://127.0.0.1:9000/api/").unwrap();
        assert_eq!((endpoint.path.as_str(), endpoint.address.port()), ("/api", 9000));
    }
}
