//! The pages that may connect, by their origin.

use super::authority::Authority;
use super::pattern::{matches_part, matches_strangers};
use super::shown;
use super::trusted::Trusted;
use crate::settings::Settings;

/// The origins of the web pages that may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// `client.allowed_origins`. Pages of the server's own host need not be listed.
    listed: Vec<String>,
    /// The hosts that `--dev` trusts. `None` without `--dev`, or if there is a list.
    trusted: Option<Trusted>,
}

impl Origins {
    /// Returns the origins that the settings allow.
    pub fn new(settings: &Settings) -> Origins {
        let listed = settings.client.allowed_origins.clone();
        let trusted = if listed.is_empty() { Trusted::of(settings) } else { None };
        Origins { listed, trusted }
    }

    /// Returns a list of origins, without `--dev`.
    pub fn of_list(listed: Vec<String>) -> Origins {
        Origins { listed, trusted: None }
    }

    /// Whether a page of `origin` may connect to a server that was addressed as `authority`.
    pub fn admits(&self, origin: &str, authority: &str) -> bool {
        let is_named = |pattern: &String| pattern == "*" || pattern.eq_ignore_ascii_case(origin);
        if self.listed.iter().any(is_named) {
            return true;
        }
        // `null`, `file://`, or anything else that is not an origin with a host.
        let Some(origin) = Origin::parse(origin) else { return false };
        let host = Authority::split(authority);
        let is_trusted = self.trusted.as_ref().is_some_and(|trusted| {
            trusted.has(origin.host)
                // The server was addressed by a trusted name, and this is another of its ports.
                || (origin.is_web() && origin.host.eq_ignore_ascii_case(host.host))
        });
        is_trusted
            || origin.is_of_host(host)
            || self.listed.iter().filter_map(|text| Origin::parse(text)).any(|p| p.matches(&origin))
    }

    /// Returns the text for a page of `origin` that is refused.
    pub fn refusal(&self, origin: &str) -> String {
        let origin = shown(origin);
        match &self.trusted {
            Some(trusted) => {
                let trusts = trusted.described();
                format!(
                    "the Origin {origin:?} is not allowed: {trusts}; list others in \
                     client.allowed_origins"
                )
            }
            None => format!("the Origin {origin:?} is not in client.allowed_origins"),
        }
    }
}

/// An origin `scheme://host[:port]`, or a pattern for origins. RFC 6454 §6.2.
#[derive(Clone, Copy, Debug)]
struct Origin<'o> {
    scheme: &'o str,
    host: &'o str,
    /// Empty if there is none.
    port: &'o str,
}

impl<'o> Origin<'o> {
    fn parse(text: &'o str) -> Option<Origin<'o>> {
        let (scheme, authority) = text.split_once("://")?;
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ', ',']) {
            return None;
        }
        let Authority { host, port } = Authority::split(authority);
        Some(Origin { scheme, host, port })
    }

    /// The port of a URL with this scheme and without a port. Some clients that are not browsers
    /// use the scheme of the WebSocket. `None` for schemes of other things.
    fn default_port(&self) -> Option<&'static str> {
        let ports = [("http", "80"), ("https", "443"), ("ws", "80"), ("wss", "443")];
        let of_scheme = |(scheme, _): &&(&str, _)| scheme.eq_ignore_ascii_case(self.scheme);
        ports.iter().find(of_scheme).map(|(_, port)| *port)
    }

    fn is_web(&self) -> bool {
        self.default_port().is_some()
    }

    /// Whether the page was loaded from the host of the request. The scheme may differ; behind a
    /// proxy that terminates TLS it always does.
    fn is_of_host(&self, host: Authority<'_>) -> bool {
        let Some(default) = self.default_port() else { return false };
        let port = |port: &'o str| if port == default { "" } else { port };
        let host_port = if host.port == default { "" } else { host.port };
        self.host.eq_ignore_ascii_case(host.host) && port(self.port) == host_port
    }

    /// Whether this pattern matches `origin`. Parts are matched separately, so that no `*` extends
    /// beyond its part.
    fn matches(&self, origin: &Origin<'_>) -> bool {
        let default = origin.default_port();
        let has_default_port = origin.port.is_empty() || Some(origin.port) == default;
        let port = matches_part(self.port, origin.port)
            || (has_default_port && (self.port.is_empty() || Some(self.port) == default));
        port && matches_part(self.scheme, origin.scheme) && matches_part(self.host, origin.host)
    }
}

/// Whether `text` may stand in `client.allowed_origins`: scheme and host, with a port unless it is
/// the default. Also `null` and `file://`, which browsers send for pages without a host.
pub fn is_origin_pattern(text: &str) -> bool {
    let is_hostless = ["null", "file://"].iter().any(|known| known.eq_ignore_ascii_case(text));
    is_hostless
        || Origin::parse(text).is_some_and(|origin| {
            let is_port_byte = |byte: u8| byte.is_ascii_digit() || byte == b'*';
            !origin.scheme.is_empty()
                && !origin.host.is_empty()
                && origin.port.bytes().all(is_port_byte)
        })
}

/// Whether `text` matches the pages of all hosts, such as `*`, `*://*` and `https://*`.
pub fn matches_all_pages(text: &str) -> bool {
    let host = Origin::parse(text).map_or(text, |origin| origin.host);
    host.contains('*') && !host.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// Whether `text` matches pages of hosts that anyone can register, such as `*`, `https://*.com` and
/// `https://example.*`.
pub fn admits_strangers(text: &str) -> bool {
    matches_strangers(Origin::parse(text).map_or(text, |origin| origin.host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_by_its_host_or_by_the_list() {
        let none: &[&str] = &[];
        let cases: &[(&str, &str, &[&str], bool)] = &[
            ("http://example.com", "example.com", none, true),
            ("https://EXAMPLE.com:8443", "example.com:8443", none, true),
            ("https://example.com", "example.com:8443", none, false),
            ("https://example.com.evil.com", "example.com", none, false),
            ("file://example.com", "example.com", none, false),
            ("wss://example.com", "example.com", none, true),
            ("null", "example.com", none, false),
            ("", "", none, false),
            ("http://", "", none, false),
            ("null", "h", &["null"], true),
            ("null", "h", &["*"], true),
            ("null", "h", &["file://"], false),
            ("file://", "h", &["file://"], true),
            ("file://", "h", none, false),
            ("file://", "h", &["null"], false),
            ("anything", "h", &["*"], true),
            ("https://good", "h", &["https://good"], true),
            ("HTTPS://Good", "h", &["https://good"], true),
            ("http://good", "h", &["https://good"], false),
            ("https://good.evil.com", "h", &["https://good"], false),
            ("https://good:444", "h", &["https://good"], false),
            ("https://good:444", "h", &["https://good:*"], true),
            ("https://good.evil.com", "h", &["https://good:*"], false),
            ("https://a.b.good.com", "h", &["https://*.good.com"], true),
            ("https://good.com", "h", &["https://*.good.com"], false),
            ("https://evilgood.com", "h", &["https://*.good.com"], false),
            ("https://x.good.com.evil.com", "h", &["https://*.good.com"], false),
            ("https://evil.com:1.good.com", "h", &["https://*.good.com"], false),
            ("https://evil.com/.good.com", "h", &["https://*.good.com"], false),
            ("https://user@x.good.com", "h", &["https://*.good.com"], false),
            ("https://aXbXc", "h", &["https://a*b*c"], true),
            ("ftp://good", "h", &["*://good"], true),
            ("http://[::1]:80", "h", &["http://[::1]:80"], true),
            ("http://[::1]", "h", &["http://[::1]:*"], true),
            ("http://[::1]", "[::1]", none, true),
        ];
        for &(origin, host, allowed, expected) in cases {
            let origins = Origins::of_list(allowed.iter().map(|&one| one.to_owned()).collect());
            assert_eq!(origins.admits(origin, host), expected, "{origin} at {host}, {allowed:?}");
        }
    }

    #[test]
    fn a_default_port_equals_none() {
        let none: &[&str] = &[];
        let cases: &[(&str, &str, &[&str], bool)] = &[
            ("https://a", "a:443", none, true),
            ("https://a:443", "a", none, true),
            ("http://a", "a:80", none, true),
            ("http://a:80", "a", none, true),
            ("http://a", "a:443", none, false),
            ("https://a", "a:80", none, false),
            ("https://[::1]:443", "[::1]", none, true),
            ("https://good:443", "h", &["https://good"], true),
            ("https://good", "h", &["https://good:443"], true),
            ("http://good", "h", &["http://good:80"], true),
            ("http://good:443", "h", &["http://good"], false),
            ("https://good", "h", &["*://good:443"], true),
            ("http://good", "h", &["*://good:443"], false),
            ("https://x.good", "h", &["https://*.good:443"], true),
        ];
        for &(origin, host, allowed, expected) in cases {
            let origins = Origins::of_list(allowed.iter().map(|&one| one.to_owned()).collect());
            assert_eq!(origins.admits(origin, host), expected, "{origin} at {host}, {allowed:?}");
        }
    }

    fn dev(expose: bool, listed: &[&str]) -> Origins {
        let mut settings = Settings { dev: true, expose, ..Settings::default() };
        settings.client.allowed_origins = listed.iter().map(|&one| one.to_owned()).collect();
        Origins::new(&settings)
    }

    #[test]
    fn dev_admits_pages_of_this_host_and_with_expose_those_nearby() {
        let (plain, exposed) = (dev(false, &[]), dev(true, &[]));
        let listed = dev(false, &["https://good"]);
        let table: &[(&Origins, &str, &str, bool)] = &[
            (&plain, "http://localhost:3000", "localhost:8000", true),
            (&plain, "https://127.0.0.9", "localhost:8000", true),
            (&plain, "http://[::1]:5173", "127.0.0.1:8000", true),
            (&plain, "capacitor://localhost", "127.0.0.1:8000", true),
            (&plain, "https://evil.example", "localhost:8000", false),
            (&plain, "http://localhost.evil.example", "localhost:8000", false),
            (&plain, "http://192.168.1.5:3000", "localhost:8000", false),
            (&plain, "null", "localhost:8000", false),
            (&plain, "file://", "localhost:8000", false),
            (&exposed, "http://192.168.1.5:3000", "192.168.1.5:8000", true),
            (&exposed, "http://203.0.113.5:3000", "203.0.113.5:8000", true),
            (&exposed, "http://203.0.113.9:3000", "203.0.113.5:8000", false),
            (&exposed, "http://web:3000", "corecast:8000", true),
            (&exposed, "https://evil.example", "192.168.1.5:8000", false),
            (&listed, "https://good", "localhost:8000", true),
            (&listed, "http://localhost:3000", "localhost:8000", false),
            (&listed, "http://localhost:8000", "localhost:8000", true),
        ];
        for (origins, origin, authority, expected) in table {
            let admitted = origins.admits(origin, authority);
            assert_eq!(admitted, *expected, "{origin} at {authority} with {origins:?}");
            assert!(origins.refusal(origin).contains("client.allowed_origins"));
        }
    }

    #[test]
    fn a_pattern_that_matches_all_pages_is_known() {
        for all in ["*", "**", "*://*", "https://*", "*://*:*", "http://*.*"] {
            assert!(matches_all_pages(all), "{all}");
        }
        for some in ["https://a", "https://*.a", "null", "file://", "*://a", "https://a:*", ""] {
            assert!(!matches_all_pages(some), "{some}");
        }
    }

    #[test]
    fn a_list_has_origins_without_paths() {
        for good in
            ["https://a", "*://a", "https://*.a:8443", "null", "file://", "app://a", "a://*"]
        {
            assert!(is_origin_pattern(good), "{good}");
        }
        for bad in ["a.com", "https://", "https://a/", "://a", "https://a:b", "https://:80", ""] {
            assert!(!is_origin_pattern(bad), "{bad}");
        }
    }
}
