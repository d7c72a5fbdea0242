//! The client that a proxy names in a header of the request: `X-Forwarded-For`, or `Forwarded` (RFC
//! 7239).

use core::net::{IpAddr, Ipv6Addr};
use std::collections::VecDeque;

use httparse::{EMPTY_HEADER, Request};

use super::{Header, Peer, Proxies, read_header};
use crate::limits::{FORWARDED_HOPS_MAX, HANDSHAKE_HEADERS_MAX};

/// Returns the client that the proxy of the request in `head` names. Each proxy appends the address
/// of its peer, so this is the last address that is not a proxy itself. Everything before it could
/// be the client's invention. If all are proxies, it is the first one. If the request has both
/// headers, `Forwarded` is ignored.
///
/// `None` if the request has neither header, if the address at that place is unknown, obfuscated or
/// malformed, or if more than [`FORWARDED_HOPS_MAX`] proxies are named.
pub fn forwarded_client(head: &[u8], proxies: &Proxies) -> Option<IpAddr> {
    let mut headers = [EMPTY_HEADER; HANDSHAKE_HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    // Only complete heads come here, or heads that will be refused.
    request.parse(head).ok()?;
    let named = |name: &'static str| {
        let lines = request.headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
        lines.map(|line| std::str::from_utf8(line.value).ok())
    };
    let mut hops = Hops::default();
    for line in named("X-Forwarded-For") {
        line?.split(',').for_each(|hop| hops.add(node(hop.trim_ascii())));
    }
    if !hops.any {
        for line in named("Forwarded") {
            elements(line?, &mut hops)?;
        }
    }
    hops.client(proxies)
}

/// What the first bytes of a proxy's connection tell of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// They do not tell it yet.
    Incomplete,
    /// The client. `None` if the proxy names nobody.
    Client(Option<IpAddr>),
}

/// Reads `bytes`, the beginning of a proxy's connection. The client is in a header of the PROXY
/// protocol, or else in the request.
pub fn first_client(bytes: &[u8], proxies: &Proxies) -> First {
    let (client, request) = match read_header(bytes) {
        Header::Absent => (None, bytes),
        Header::Complete { client, consumed } => (client, &bytes[consumed..]),
        Header::Incomplete => return First::Incomplete,
        Header::Invalid(_) => return First::Client(None),
    };
    if client.is_some_and(|client| !proxies.contains(Peer::Address(client))) {
        return First::Client(client);
    }
    if !request.windows(4).any(|four| four == b"\r\n\r\n") {
        return First::Incomplete;
    }
    First::Client(forwarded_client(request, proxies).or(client))
}

/// The last hops of a request. A hop without a known address is `None`.
#[derive(Default)]
struct Hops {
    last: VecDeque<Option<IpAddr>>,
    /// Whether there were more than fit.
    cut: bool,
    /// Whether there was any.
    any: bool,
}

impl Hops {
    fn add(&mut self, hop: Option<IpAddr>) {
        self.any = true;
        if self.last.len() == FORWARDED_HOPS_MAX {
            self.last.pop_front();
            self.cut = true;
        }
        self.last.push_back(hop);
    }

    fn client(&self, proxies: &Proxies) -> Option<IpAddr> {
        let mut first = None;
        for hop in self.last.iter().rev() {
            let address = (*hop)?;
            if !proxies.contains(Peer::Address(address)) {
                return Some(address);
            }
            first = Some(address);
        }
        first.filter(|_| !self.cut)
    }
}

/// Returns the address of a node: `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`, or
/// `2001:db8::1`, which is common in `X-Forwarded-For`. `None` for `unknown`, for obfuscated
/// identifiers (RFC 7239 §6.3), and for anything else.
fn node(text: &str) -> Option<IpAddr> {
    let is_port = |port: &str| {
        let is_port_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !port.is_empty() && port.bytes().all(is_port_byte)
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let valid = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let address: Ipv6Addr = address.parse().ok().filter(|_| valid)?;
        return Some(IpAddr::V6(address).to_canonical());
    }
    let address = match text.split_once(':') {
        Some((address, port)) if !port.contains(':') && is_port(port) => address,
        _ => text,
    };
    address.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Adds the elements of a line of `Forwarded`. RFC 7239 §4: elements are separated by commas, their
/// pairs by semicolons, and a value is a token or a quoted string, which may contain both.
///
/// `None` if the line is malformed.
fn elements(line: &str, hops: &mut Hops) -> Option<()> {
    let mut rest = line.trim_ascii();
    let mut hop = None;
    let mut empty = true;
    loop {
        if let Some((name, after)) = pair_name(rest) {
            let (value, after) = pair_value(after)?;
            if name.eq_ignore_ascii_case("for") {
                hop = node(&value);
            }
            (rest, empty) = (after.trim_ascii_start(), false);
        }
        match rest.as_bytes() {
            [b';', ..] => rest = rest[1..].trim_ascii_start(),
            [b',', ..] | [] => {
                // RFC 9110 §5.6.1.2: empty elements of a list are ignored.
                if !std::mem::replace(&mut empty, true) {
                    hops.add(hop.take());
                }
                match rest.get(1..) {
                    Some(after) => rest = after.trim_ascii_start(),
                    None => return Some(()),
                }
            }
            _ => return None,
        }
    }
}

/// Splits `name=` off. `None` if the text does not begin with it.
fn pair_name(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.split_once('=')?;
    (!name.is_empty() && name.bytes().all(is_token_byte)).then_some((name, after))
}

/// Splits a token or a quoted string off. `None` if it is malformed.
fn pair_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// Whether a token may contain the byte. RFC 9110 §5.6.2; and `:`, because some proxies do not
/// quote ports.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(headers: &str) -> Option<String> {
        let proxies = ["10.0.0.0/8".to_owned(), "2001:db8:1::/48".to_owned()];
        let proxies = Proxies::parse(&proxies).unwrap();
        let head = format!("GET /ws HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        forwarded_client(head.as_bytes(), &proxies).map(|address| address.to_string())
    }

    fn check(table: &[(&str, Option<&str>)]) {
        for (headers, expected) in table {
            assert_eq!(client(&format!("{headers}\r\n")).as_deref(), *expected, "{headers}");
        }
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        check(&[
            ("X-Forwarded-For: 192.0.2.1", Some("192.0.2.1")),
            ("x-forwarded-for:192.0.2.1:4711", Some("192.0.2.1")),
            ("X-Forwarded-For: 6.6.6.6, 192.0.2.1", Some("192.0.2.1")),
            ("X-Forwarded-For: 6.6.6.6,192.0.2.1,10.0.0.1 , 10.0.0.2", Some("192.0.2.1")),
            ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.2", Some("192.0.2.1")),
            ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2", Some("192.0.2.2")),
            ("X-Forwarded-For: 2001:db8::1", Some("2001:db8::1")),
            ("X-Forwarded-For: [2001:db8::1]:443, 2001:db8:1::9", Some("2001:db8::1")),
            ("X-Forwarded-For: ::ffff:192.0.2.1", Some("192.0.2.1")),
            ("X-Forwarded-For: ::ffff:192.0.2.1, ::ffff:10.0.0.1", Some("192.0.2.1")),
            ("X-Forwarded-For: 10.0.0.3, 10.0.0.4", Some("10.0.0.3")),
            ("X-Forwarded-For: garbage, 192.0.2.1", Some("192.0.2.1")),
            ("Cookie: X-Forwarded-For=1.2.3.4", None),
        ]);
    }

    #[test]
    fn without_a_valid_address_in_its_place_there_is_no_client() {
        check(&[
            ("X-Forwarded-For:", None),
            ("X-Forwarded-For: unknown", None),
            ("X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.1", None),
            ("X-Forwarded-For: 192.0.2.1,", None),
            ("X-Forwarded-For: 192.0.2.256", None),
            ("X-Forwarded-For: [192.0.2.1]", None),
            ("X-Forwarded-For: [2001:db8::1", None),
            ("X-Forwarded-For: [2001:db8::1]x", None),
            ("X-Forwarded-For: \u{e9}", None),
        ]);
        let hops = |count| vec!["10.0.0.1"; count].join(", ");
        let beyond = format!("X-Forwarded-For: 192.0.2.1, {}\r\n", hops(FORWARDED_HOPS_MAX));
        assert_eq!(client(&beyond), None);
        let within = format!("X-Forwarded-For: 192.0.2.1, {}\r\n", hops(FORWARDED_HOPS_MAX - 1));
        assert_eq!(client(&within).as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn forwarded_is_read_with_its_quotes() {
        check(&[
            ("Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43", Some("192.0.2.60")),
            ("Forwarded: For=\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe::17")),
            ("Forwarded: for=6.6.6.6, for=192.0.2.43, for=10.1.1.1", Some("192.0.2.43")),
            ("Forwarded: for=192.0.2.43\r\nForwarded: for=10.1.1.1", Some("192.0.2.43")),
            ("Forwarded: for=\"192.0.2.43:_x\";host=\"a,b;for=6.6.6.6\"", Some("192.0.2.43")),
            ("Forwarded: proto=http ; FOR=192.0.2.43 , ,", Some("192.0.2.43")),
            ("Forwarded: for=\"192.0.2.4\\3\"", Some("192.0.2.43")),
            ("Forwarded: for=192.0.2.43:80", Some("192.0.2.43")),
            ("Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 192.0.2.1", Some("192.0.2.1")),
            ("Forwarded: for=6.6.6.6\r\nX-Forwarded-For: unknown", None),
        ]);
    }

    #[test]
    fn what_forwarded_hides_or_malforms_names_nobody() {
        check(&[
            ("Forwarded: for=unknown", None),
            ("Forwarded: for=_hidden", None),
            ("Forwarded: for=\"_hidden:80\", for=10.0.0.1", None),
            ("Forwarded: proto=https", None),
            ("Forwarded: for=192.0.2.1, proto=https", None),
            ("Forwarded: for=\"192.0.2.1", None),
            ("Forwarded: for=\"192.0.2.1\\", None),
            ("Forwarded: for=192.0.2.1 for=192.0.2.2", None),
            ("Forwarded: for 192.0.2.1", None),
            ("Forwarded: for==192.0.2.1", None),
            ("Forwarded: =192.0.2.1", None),
            ("Forwarded: for=[2001:db8::1]", None),
            ("Forwarded:", None),
        ]);
        assert_eq!(client(""), None);
    }

    #[test]
    fn the_first_client_is_that_of_the_header_or_else_of_the_request() {
        let proxies = Proxies::parse(&["10.0.0.0/8".to_owned()]).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
        let line = |from: &str| format!("PROXY TCP4 {from} 10.0.0.1 1 1\r\n");
        let (client, proxy) = (line("198.51.100.1"), line("10.0.0.9"));
        for (bytes, expected) in [
            (request.to_owned(), Some("192.0.2.1")),
            (format!("{client}{request}"), Some("198.51.100.1")),
            (client.clone(), Some("198.51.100.1")),
            (format!("{proxy}{request}"), Some("192.0.2.1")),
            (format!("{proxy}GET / HTTP/1.1\r\n\r\n"), Some("10.0.0.9")),
            (format!("PROXY UNKNOWN\r\n{request}"), Some("192.0.2.1")),
            (format!("{client}{client}"), Some("198.51.100.1")),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), None),
            ("PROXY X\r\n".to_owned() + request, None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(
                first_client(bytes.as_bytes(), &proxies),
                First::Client(expected),
                "{bytes}"
            );
        }
        for bytes in [&request[..request.len() - 1], &client[..client.len() - 1], &proxy, ""] {
            assert_eq!(first_client(bytes.as_bytes(), &proxies), First::Incomplete, "{bytes:?}");
        }
    }
}
