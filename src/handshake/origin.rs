//! Checks the origin of web pages. Browsers send the origin of a page, and pages can't forge it. So
//! a foreign page can't use the cookies of its visitor. RFC 6455 §10.2.

/// Whether a page of `origin` may connect to a server that was addressed as `host`. It may if it
/// comes from the same host, or if a pattern in `allowed` matches.
pub(super) fn is_allowed(origin: &str, host: &str, allowed: &[String]) -> bool {
    if allowed.iter().any(|pattern| pattern == "*" || pattern.eq_ignore_ascii_case(origin)) {
        return true;
    }
    // `null`, or anything else that is not an origin with a host.
    let Some(parts) = Parts::parse(origin) else { return false };
    parts.is_of_host(host)
        || allowed.iter().filter_map(|pattern| Parts::parse(pattern)).any(|p| p.matches(&parts))
}

/// An origin `scheme://host[:port]`, or a pattern for origins. RFC 6454 §6.2.
#[derive(Clone, Copy, Debug)]
struct Parts<'o> {
    scheme: &'o str,
    authority: &'o str,
    host: &'o str,
    port: &'o str,
}

impl<'o> Parts<'o> {
    fn parse(text: &'o str) -> Option<Parts<'o>> {
        let (scheme, authority) = text.split_once("://")?;
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ', ',']) {
            return None;
        }
        // The last colon, unless it is part of an IPv6 address in brackets.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, ""),
        };
        Some(Parts { scheme, authority, host, port })
    }

    /// Whether the page was loaded from the host of the request. The scheme may differ; behind a
    /// proxy that terminates TLS it always does.
    fn is_of_host(&self, host: &str) -> bool {
        let is_web = ["http", "https"].iter().any(|web| web.eq_ignore_ascii_case(self.scheme));
        is_web && self.authority.eq_ignore_ascii_case(host)
    }

    /// Whether this pattern matches `origin`. Parts are matched separately, so that no `*` extends
    /// beyond its part.
    fn matches(&self, origin: &Parts<'_>) -> bool {
        let pairs =
            [(self.scheme, origin.scheme), (self.host, origin.host), (self.port, origin.port)];
        pairs.iter().all(|(pattern, text)| matches_part(pattern, text))
    }
}

/// Whether `pattern` matches all of `text`. A `*` stands for any text.
fn matches_part(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut in_pattern, mut in_text) = (0, 0);
    // The last `*`, and the position in `text` up to which it matches.
    let mut star = None;
    while in_text < text.len() {
        if pattern.get(in_pattern) == Some(&b'*') {
            star = Some((in_pattern, in_text));
            in_pattern += 1;
        } else if pattern.get(in_pattern).is_some_and(|p| p.eq_ignore_ascii_case(&text[in_text])) {
            in_pattern += 1;
            in_text += 1;
        } else if let Some((star_in_pattern, stands_to)) = star {
            star = Some((star_in_pattern, stands_to + 1));
            in_pattern = star_in_pattern + 1;
            in_text = stands_to + 1;
        } else {
            return false;
        }
    }
    pattern[in_pattern..].iter().all(|&byte| byte == b'*')
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
            ("null", "example.com", none, false),
            ("", "", none, false),
            ("http://", "", none, false),
            ("null", "h", &["null"], true),
            ("null", "h", &["*"], true),
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
            let list: Vec<String> = allowed.iter().map(|&pattern| pattern.to_owned()).collect();
            assert_eq!(
                is_allowed(origin, host, &list),
                expected,
                "{origin} at {host}, {allowed:?}"
            );
        }
    }
}
