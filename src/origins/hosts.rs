//! The names of this server, against DNS rebinding.

use super::authority::{Authority, address};
use super::pattern::{matches_part, matches_strangers};
use super::shown;
use super::trusted::Trusted;
use crate::settings::Settings;

/// The names by which clients may address this server, as they stand in `Host`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// `server.hosts`. If it is not empty, only these.
    listed: Vec<String>,
    /// The hosts that `--dev` trusts. `None` without `--dev`, or if there is a list.
    trusted: Option<Trusted>,
}

impl Hosts {
    /// Returns the names that the settings allow.
    pub fn new(settings: &Settings) -> Hosts {
        let listed = settings.server.hosts.clone();
        let trusted = if listed.is_empty() { Trusted::of(settings) } else { None };
        Hosts { listed, trusted }
    }

    /// Whether a request for `authority`, a host with or without a port, is for this server.
    pub fn admits(&self, authority: &str) -> bool {
        let host = Authority::split(authority).host;
        match &self.trusted {
            // An address can't be rebound, and this host may have any.
            Some(trusted @ Trusted::Nearby { .. }) => trusted.has(host) || address(host).is_some(),
            Some(trusted @ Trusted::Loopback) => trusted.has(host),
            None => self.listed.is_empty() || self.is_listed(host),
        }
    }

    /// Whether the same is true of a request to a path for health checks or metrics. Monitors
    /// address a server by any of its addresses, and some send no `Host`. Neither can be rebound.
    pub fn admits_monitor(&self, authority: &str) -> bool {
        let is_address = address(Authority::split(authority).host).is_some();
        authority.is_empty() || is_address || self.admits(authority)
    }

    /// Returns the text for a request for `authority` that is refused.
    pub fn refusal(&self, authority: &str) -> String {
        let host = shown(authority);
        match &self.trusted {
            Some(trusted) => {
                let trusts = trusted.described();
                format!("the Host {host:?} is not known: {trusts}; list others in server.hosts")
            }
            None => format!("the Host {host:?} is not in server.hosts"),
        }
    }

    fn is_listed(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.listed.iter().any(|pattern| {
            matches_part(pattern, host)
                || address(pattern).is_some_and(|one| address(host) == Some(one))
        })
    }
}

/// Whether `text` may stand in `server.hosts`: a name, a name with `*`, or an address, without a
/// port. A `*` alone would be a list that allows all.
pub fn is_host_pattern(text: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte);
    let is_name = text.bytes().all(is_name_byte) && text.bytes().any(|b| b.is_ascii_alphanumeric());
    is_name || address(text).is_some()
}

/// Whether `text` matches hosts that anyone can register, and so point at this server.
pub fn is_rebindable(text: &str) -> bool {
    matches_strangers(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(dev: bool, expose: bool, listed: &[&str]) -> Hosts {
        let host_name = "vm.corp.example".to_owned();
        let mut settings = Settings { dev, expose, host_name, ..Settings::default() };
        settings.server.hosts = listed.iter().map(|&host| host.to_owned()).collect();
        Hosts::new(&settings)
    }

    #[test]
    fn a_server_is_addressed_by_names_that_are_its_own() {
        let list = ["example.com", "*.example.net", "10.0.0.1", "[::1]"];
        let (any, listed) = (hosts(false, false, &[]), hosts(false, false, &list));
        let (dev, exposed) = (hosts(true, false, &[]), hosts(true, true, &[]));
        let dev_listed = hosts(true, false, &["a.test"]);
        let table: &[(&Hosts, &str, bool)] = &[
            (&any, "evil.example", true),
            (&listed, "example.com", true),
            (&listed, "EXAMPLE.com.:8443", true),
            (&listed, "a.b.example.net:80", true),
            (&listed, "example.net", false),
            (&listed, "example.com.evil.example", false),
            (&listed, "10.0.0.1:8000", true),
            (&listed, "10.0.0.2", false),
            (&listed, "[0:0::1]:80", true),
            (&listed, "localhost", false),
            (&dev, "localhost:8000", true),
            (&dev, "127.0.0.2:8000", true),
            (&dev, "[::1]:8000", true),
            (&dev, "evil.example:8000", false),
            (&dev, "127.0.0.1.evil.example", false),
            (&dev, "box", false),
            (&dev, "192.168.1.5", false),
            (&exposed, "192.168.1.5:8000", true),
            (&exposed, "203.0.113.5", true),
            (&exposed, "corecast:8000", true),
            (&exposed, "vm.corp.example", true),
            (&exposed, "localhost", true),
            (&exposed, "evil.example", false),
            (&dev_listed, "a.test:8000", true),
            (&dev_listed, "localhost", false),
        ];
        for (hosts, authority, expected) in table {
            assert_eq!(hosts.admits(authority), *expected, "{authority} for {hosts:?}");
            assert!(hosts.refusal(authority).contains("server.hosts"));
        }
    }

    #[test]
    fn monitors_may_use_any_address_but_no_other_name() {
        let listed = hosts(false, false, &["example.com"]);
        for (authority, expected) in
            [("", true), ("10.1.2.3:8000", true), ("[fd00::1]", true), ("evil.example", false)]
        {
            assert_eq!(listed.admits_monitor(authority), expected, "{authority}");
        }
        assert!(!listed.admits("10.1.2.3:8000"));
    }

    #[test]
    fn a_list_has_names_and_addresses_without_ports() {
        for (text, expected) in [
            ("example.com", true),
            ("*.example.com", true),
            ("10.0.0.1", true),
            ("[::1]", true),
            ("::1", false),
            ("example.com:443", false),
            ("https://example.com", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(is_host_pattern(text), expected, "{text}");
        }
    }
}
