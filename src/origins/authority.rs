//! The host and port of a URL, and the distance of a host.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A `host[:port]`. RFC 3986 §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    pub(super) host: &'a str,
    /// Empty if there is none.
    pub(super) port: &'a str,
}

impl<'a> Authority<'a> {
    /// Splits `text`, whatever it contains.
    pub(super) fn split(text: &'a str) -> Authority<'a> {
        // The last colon, unless it is part of an IPv6 address in brackets.
        match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => Authority { host, port },
            _ => Authority { host: text, port: "" },
        }
    }
}

/// The distance of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// This host.
    Loopback,
    /// A private address, or a name that no public DNS has.
    Nearby,
    /// Any other host.
    Elsewhere,
}

/// Returns the distance of `host`, which is a name or an address.
pub(super) fn reach(host: &str) -> Reach {
    match address(host) {
        Some(address) if address.is_loopback() => Reach::Loopback,
        Some(address) if is_private(address) => Reach::Nearby,
        Some(_) => Reach::Elsewhere,
        None => reach_of_name(host.strip_suffix('.').unwrap_or(host)),
    }
}

/// Returns the address that `host` is, if it is none by name. IPv6 addresses are in brackets.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|six| IpAddr::V6(six).to_canonical()),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            // Shared address space, which VPNs and carriers use. RFC 6598.
            let [first, second, ..] = four.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            four.is_private() || four.is_link_local() || is_shared
        }
        IpAddr::V6(six) => six.is_unique_local() || six.is_unicast_link_local(),
    }
}

/// Endings of names that are reserved for private networks. RFC 6761, RFC 6762, and the decision
/// of ICANN on `internal`, which Docker uses for the host of a container.
const PRIVATE_ENDINGS: [&str; 4] = ["local", "localhost", "internal", "test"];

fn reach_of_name(name: &str) -> Reach {
    if name.eq_ignore_ascii_case("localhost") {
        return Reach::Loopback;
    }
    match name.rsplit_once('.') {
        // Nobody can register a name without a dot. Names of services in Docker have none.
        None if !name.is_empty() => Reach::Nearby,
        Some((_, last)) if is_private_ending(last) => Reach::Nearby,
        _ => Reach::Elsewhere,
    }
}

/// Whether `label` is the end of names that nobody can register.
pub(super) fn is_private_ending(label: &str) -> bool {
    PRIVATE_ENDINGS.iter().any(|end| end.eq_ignore_ascii_case(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_split_at_its_port() {
        for (text, host, port) in [
            ("a", "a", ""),
            ("a:1", "a", "1"),
            ("[::1]", "[::1]", ""),
            ("[::1]:1", "[::1]", "1"),
            ("", "", ""),
            (":1", "", "1"),
        ] {
            assert_eq!(Authority::split(text), Authority { host, port }, "{text}");
        }
    }

    #[test]
    fn the_reach_of_a_host_follows_from_its_name_or_address() {
        let near = ["box", "box.local", "host.docker.internal", "a.test", "10.0.2.2", "172.31.0.1"];
        let more = ["192.168.1.9", "169.254.1.1", "100.64.0.1", "[fd00::1]", "[fe80::1]", "b."];
        let far = ["evil.example", "local.evil.com", "8.8.8.8", "172.32.0.1", "100.128.0.1"];
        let farther = ["[2001:db8::1]", "0.0.0.0", "", ".", "127.0.0.1.evil.com", "localhost.com"];
        let here = ["localhost", "LocalHost", "localhost.", "127.0.0.1", "127.9.9.9", "[::1]"];
        let mapped = ["[::ffff:127.0.0.1]"];
        for (hosts, expected) in [
            (near.as_slice(), Reach::Nearby),
            (&more, Reach::Nearby),
            (&far, Reach::Elsewhere),
            (&farther, Reach::Elsewhere),
            (&here, Reach::Loopback),
            (&mapped, Reach::Loopback),
        ] {
            for host in hosts {
                assert_eq!(reach(host), expected, "{host}");
            }
        }
    }
}
