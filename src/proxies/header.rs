//! The header of the PROXY protocol, versions 1 and 2. Source: haproxy `doc/proxy-protocol.txt`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::{PROXY_HEADER_BYTES_MAX, PROXY_LINE_BYTES_MAX};

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// No header.
    Absent,
    /// Possibly a header. More bytes are needed.
    Incomplete,
    /// A header of `consumed` bytes.
    Complete {
        /// The client. `None` if the proxy has no client for this connection, such as for a health
        /// check, or does not know its address.
        client: Option<IpAddr>,
        /// Number of bytes of the header.
        consumed: usize,
    },
    /// A header that breaks the rules of the protocol, with the reason.
    Invalid(&'static str),
}

/// The beginning of a header of version 1.
const LINE: &[u8] = b"PROXY ";

/// The beginning of a header of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of a header of version 2 before the addresses.
const FIXED_BYTES: usize = SIGNATURE.len() + 4;

/// Whether the first bytes of a connection can't be a request, but are a header.
pub fn begins_with_header(bytes: &[u8]) -> bool {
    bytes.starts_with(LINE) || bytes.starts_with(SIGNATURE)
}

/// Reads the header at the beginning of `bytes`, which is everything that was received so far.
pub fn read_header(bytes: &[u8]) -> Header {
    if bytes.starts_with(LINE) {
        return read_line(bytes);
    }
    if bytes.starts_with(SIGNATURE) {
        return read_binary(bytes);
    }
    if LINE.starts_with(bytes) || SIGNATURE.starts_with(bytes) {
        return Header::Incomplete;
    }
    Header::Absent
}

/// Reads a header of version 1: one line of text.
fn read_line(bytes: &[u8]) -> Header {
    let longest = &bytes[..bytes.len().min(PROXY_LINE_BYTES_MAX)];
    let Some(end) = longest.windows(2).position(|two| two == b"\r\n") else {
        return match bytes.len() {
            PROXY_LINE_BYTES_MAX.. => Header::Invalid("the line is too long"),
            _ => Header::Incomplete,
        };
    };
    let consumed = end + 2;
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else {
        return Header::Invalid("the line is not text");
    };
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    // What follows is of no meaning to a receiver.
    if family == "UNKNOWN" {
        return Header::Complete { client: None, consumed };
    }
    let rest = [(); 4].map(|()| words.next().unwrap_or_default());
    let [from, to, from_port, to_port] = rest;
    let client = match family {
        "TCP4" => both::<Ipv4Addr>(from, to).map(IpAddr::V4),
        "TCP6" => both::<Ipv6Addr>(from, to).map(IpAddr::V6),
        _ => return Header::Invalid("the protocol is unknown"),
    };
    let ports = is_port(from_port) && is_port(to_port);
    match client {
        Some(client) if ports && words.next().is_none() => {
            Header::Complete { client: Some(client.to_canonical()), consumed }
        }
        _ => Header::Invalid("an address or a port is malformed"),
    }
}

/// Returns the first of two addresses that must both be valid.
fn both<A: std::str::FromStr>(from: &str, to: &str) -> Option<A> {
    let first = from.parse().ok();
    first.filter(|_| to.parse::<A>().is_ok())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Reads a header of version 2: a signature, four bytes, the addresses, and further fields, which
/// are skipped.
fn read_binary(bytes: &[u8]) -> Header {
    let Some(&[command, family, high, low]) = bytes[SIGNATURE.len()..].first_chunk() else {
        return Header::Incomplete;
    };
    let consumed = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if consumed > PROXY_HEADER_BYTES_MAX {
        return Header::Invalid("the header is too long");
    }
    // The high half is the version. The low half is 0 for a connection of the proxy itself.
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Header::Invalid("the version or command is unknown"),
    };
    // The high half is the family, the low half the protocol.
    let address_bytes = match family {
        0x00 => 0,
        0x11 | 0x12 => 2 * (4 + 2),
        0x21 | 0x22 => 2 * (16 + 2),
        0x31 | 0x32 => 2 * 108,
        _ if local => 0,
        _ => return Header::Invalid("the family or protocol is unknown"),
    };
    if !local && consumed < FIXED_BYTES + address_bytes {
        return Header::Invalid("the addresses are cut off");
    }
    let Some(addresses) = bytes.get(FIXED_BYTES..consumed) else { return Header::Incomplete };
    let client = match family >> 4 {
        _ if local => None,
        1 => addresses.first_chunk::<4>().map(|&from| IpAddr::from(from)),
        2 => addresses.first_chunk::<16>().map(|&from| IpAddr::from(from)),
        // A client on a Unix socket of the proxy's host has no address.
        _ => None,
    };
    Header::Complete { client: client.map(|client| client.to_canonical()), consumed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(client: Option<&str>, consumed: usize) -> Header {
        Header::Complete { client: client.map(|text| text.parse().unwrap()), consumed }
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    /// Checks that no part of a complete header is taken for something else.
    fn check_parts(bytes: &[u8]) {
        for end in 0..bytes.len() {
            assert_eq!(read_header(&bytes[..end]), Header::Incomplete, "{end} of {bytes:?}");
        }
    }

    #[test]
    fn a_line_names_the_client() {
        let table = [
            ("PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\r\n", Some("192.0.2.1")),
            ("PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", Some("2001:db8::1")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 1\r\n", Some("192.0.2.1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:: anything at all\r\n", None),
        ];
        for (line, client) in table {
            let bytes = [line.as_bytes(), b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(read_header(&bytes), complete(client, line.len()), "{line}");
            check_parts(line.as_bytes());
        }
    }

    #[test]
    fn a_malformed_line_is_invalid() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
            "PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\n",
            "PROXY TCP4 ::1 ::1 1 1\r\n",
            "PROXY TCP6 1.2.3.4 ::1 1 1\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
        ] {
            assert!(matches!(read_header(line.as_bytes()), Header::Invalid(_)), "{line}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(PROXY_LINE_BYTES_MAX));
        assert!(matches!(read_header(long.as_bytes()), Header::Invalid(_)));
        assert!(matches!(read_header(b"PROXY TCP4 \xff\r\n"), Header::Invalid(_)));
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(PROXY_LINE_BYTES_MAX - 16));
        assert_eq!(read_header(longest.as_bytes()), complete(None, PROXY_LINE_BYTES_MAX));
    }

    #[test]
    fn a_binary_header_names_the_client_and_its_fields_are_skipped() {
        let four = [192, 0, 2, 1, 10, 0, 0, 1, 0, 80, 0, 80];
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        let field = [0x04, 0, 3, 1, 2, 3];
        let table = [
            (binary(0x21, 0x11, &four), Some("192.0.2.1")),
            (binary(0x21, 0x12, &[&four[..], &field].concat()), Some("192.0.2.1")),
            (binary(0x21, 0x21, &six), Some("2001:db8::")),
            (binary(0x21, 0x21, &mapped), Some("192.0.2.1")),
            (binary(0x21, 0x31, &[0; 216]), None),
            (binary(0x21, 0, &field), None),
            (binary(0x20, 0, &[]), None),
            (binary(0x20, 0x11, &four), None),
            (binary(0x20, 0xff, &field), None),
        ];
        for (header, client) in table {
            let bytes = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(read_header(&bytes), complete(client, header.len()), "{header:?}");
            check_parts(&header);
        }
    }

    #[test]
    fn a_malformed_binary_header_is_invalid() {
        for header in [
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x21, 0x31, &[0; 215]),
            binary(0x21, 0x41, &[0; 36]),
            binary(0x21, 0x13, &[0; 12]),
            binary(0x21, 0x11, &[0; PROXY_HEADER_BYTES_MAX]),
        ] {
            assert!(matches!(read_header(&header), Header::Invalid(_)), "{header:?}");
        }
        let longest = binary(0x20, 0, &[0; PROXY_HEADER_BYTES_MAX - FIXED_BYTES]);
        assert_eq!(read_header(&longest), complete(None, PROXY_HEADER_BYTES_MAX));
    }

    #[test]
    fn a_request_has_no_header() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXYX", b"\r\nGET", b"POST / HTTP/1.1"] {
            assert_eq!(read_header(bytes), Header::Absent);
            assert!(!begins_with_header(bytes));
        }
        assert_eq!(read_header(b"P"), Header::Incomplete);
        assert_eq!(read_header(b""), Header::Incomplete);
    }
}
