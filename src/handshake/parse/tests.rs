//! Tests with request heads of real clients, and with a violation of each rule.

use super::*;
use crate::handshake::PlainRequest;

const LINE: &str = "GET /connection/websocket HTTP/1.1";
const HEADERS: &[&str] = &[
    "Host: example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
const CENTRIFUGO: Endpoint = Endpoint::Centrifugo { frame_pings: false, protobuf: false };

fn request(line: &str, headers: &[&str]) -> String {
    let mut text = format!("{line}\r\n");
    for header in headers {
        text += &format!("{header}\r\n");
    }
    text + "\r\n"
}

/// Returns the request with `line` and the usual headers. A change replaces the header with the
/// same name, or removes it if the value is empty. A change that begins with `+` is added without
/// replacing anything.
fn changed(line: &str, changes: &[&str]) -> String {
    let mut headers: Vec<String> = HEADERS.iter().map(|&header| header.to_owned()).collect();
    for change in changes {
        let (name, value) = change.split_once(':').unwrap();
        if let Some(name) = name.strip_prefix('+') {
            headers.push(format!("{name}:{value}"));
            continue;
        }
        headers.retain(|header| header.split(':').next() != Some(name));
        if !value.is_empty() {
            headers.push((*change).to_owned());
        }
    }
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    request(line, &headers)
}

fn status(bytes: &[u8], rules: &Rules) -> u16 {
    match read(bytes, rules) {
        Progress::Incomplete => 0,
        Progress::Upgrade(_) => 101,
        Progress::Respond(response) => {
            let head = String::from_utf8(response.bytes).unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", response.status)), "{head}");
            assert!(head.contains("\r\nContent-Length: "), "{head}");
            response.status
        }
        Progress::Health { .. } => 200,
    }
}

#[track_caller]
fn upgrade(text: &str, rules: &Rules) -> (Endpoint, String) {
    match read(text.as_bytes(), rules) {
        Progress::Upgrade(upgrade) => {
            assert_eq!(upgrade.consumed, text.len());
            (upgrade.endpoint, String::from_utf8(upgrade.acceptance.head()).unwrap())
        }
        other => panic!("{text} is {other:?}"),
    }
}

#[test]
fn accepts_the_requests_that_rfc_6455_section_4_2_1_describes() {
    let rules = Rules::default();
    let cases = [
        ("a plain one", changed(LINE, &[])),
        ("names in any case", changed(LINE, &["Upgrade:", "+uPGRADE: WebSocket"])),
        ("one token of many", changed(LINE, &["Connection: keep-alive , upgrade"])),
        (
            "tokens on several lines",
            changed(LINE, &["Connection: keep-alive", "+Connection: Upgrade"]),
        ),
        ("several upgrades", changed(LINE, &["Upgrade: h2c", "+Upgrade: foo, WEBSOCKET"])),
        ("a body of no bytes", changed(LINE, &["+Content-Length: 0"])),
        ("an empty subprotocol", changed(LINE, &["+Sec-WebSocket-Protocol: "])),
        (
            "an extension, declined",
            changed(LINE, &["+Sec-WebSocket-Extensions: permessage-deflate"]),
        ),
        ("an empty line before", format!("\r\n{}", changed(LINE, &[]))),
        (
            "an absolute target (RFC 9112 3.2.2)",
            changed("GET http://other:80/connection/websocket HTTP/1.1", &[]),
        ),
    ];
    for (name, text) in cases {
        let (endpoint, response) = upgrade(&text, &rules);
        assert_eq!(endpoint, CENTRIFUGO, "{name}");
        assert_eq!(
            response,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "{name}"
        );
    }
}

#[test]
fn refuses_with_the_status_that_says_what_is_wrong() {
    let cases = [
        (405, "a POST", changed("POST /ws HTTP/1.1", &[])),
        (405, "a HEAD", changed("HEAD /ws HTTP/1.1", &[])),
        (505, "HTTP/1.0", changed("GET /ws HTTP/1.0", &[])),
        (505, "HTTP/2.0", changed("GET /ws HTTP/2.0", &[])),
        (404, "an unknown path", changed("GET / HTTP/1.1", &[])),
        (404, "the echo, which is off", changed("GET /echo HTTP/1.1", &[])),
        (404, "a path with more behind", changed("GET /ws/ HTTP/1.1", &[])),
        (400, "an asterisk", changed("GET * HTTP/1.1", &[])),
        (400, "no Host", changed(LINE, &["Host:"])),
        (400, "two Hosts", changed(LINE, &["+Host: example.com"])),
        (400, "an empty Host", changed(LINE, &["Host: "])),
        (400, "a Host that is none", changed(LINE, &["Host: a b"])),
        (426, "no Upgrade", changed(LINE, &["Upgrade:"])),
        (426, "another Upgrade", changed(LINE, &["Upgrade: websockets"])),
        (426, "no Connection", changed(LINE, &["Connection:"])),
        (426, "another Connection", changed(LINE, &["Connection: close"])),
        (426, "no version", changed(LINE, &["Sec-WebSocket-Version:"])),
        (426, "version 8", changed(LINE, &["Sec-WebSocket-Version: 8"])),
        (426, "two versions", changed(LINE, &["+Sec-WebSocket-Version: 13"])),
        (400, "no key", changed(LINE, &["Sec-WebSocket-Key:"])),
        (400, "two keys", changed(LINE, &["+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="])),
        (400, "a key of 15 bytes", changed(LINE, &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"])),
        (400, "a key not in base64", changed(LINE, &["Sec-WebSocket-Key: ======================"])),
        (400, "a body", changed(LINE, &["+Content-Length: 5"])),
        (400, "a length that is none", changed(LINE, &["+Content-Length: x"])),
        (400, "a chunked body", changed(LINE, &["+Transfer-Encoding: chunked"])),
        (400, "a header line without a colon", request(LINE, &["Host example.com"])),
        (403, "a foreign Origin", changed(LINE, &["+Origin: https://evil.com"])),
        (
            403,
            "an Origin that only begins right",
            changed(LINE, &["+Origin: https://good.evil.com"]),
        ),
        (403, "a null Origin", changed(LINE, &["+Origin: null"])),
        (403, "an empty Origin", changed(LINE, &["+Origin: "])),
        (403, "two Origins", changed(LINE, &["+Origin: https://good", "+Origin: https://good"])),
        (101, "a listed Origin", changed(LINE, &["+Origin: https://good"])),
        (101, "an Origin of the same host", changed(LINE, &["+Origin: https://example.com"])),
    ];
    let rules = Rules { allowed_origins: vec!["https://good".into()], ..Rules::default() };
    for (expected, name, text) in cases {
        assert_eq!(status(text.as_bytes(), &rules), expected, "{name}");
    }
}

#[test]
fn the_host_of_an_absolute_target_stands_above_the_header() {
    let line = "GET http://other/connection/websocket HTTP/1.1";
    let rules = Rules::default();
    let of_target = changed(line, &["+Origin: https://other"]);
    assert_eq!(status(of_target.as_bytes(), &rules), 101);
    let of_header = changed(line, &["+Origin: https://example.com"]);
    assert_eq!(status(of_header.as_bytes(), &rules), 403);
}

#[test]
fn a_refusal_carries_the_headers_that_its_status_demands() {
    let rules = Rules::default();
    let cases = [
        (changed("POST /ws HTTP/1.1", &[]), "\r\nAllow: GET\r\n"),
        (changed(LINE, &["Upgrade:"]), "\r\nSec-WebSocket-Version: 13\r\n"),
        (changed(LINE, &["Upgrade:"]), "\r\nUpgrade: websocket\r\n"),
    ];
    for (text, header) in cases {
        let Progress::Respond(response) = read(text.as_bytes(), &rules) else {
            panic!("{text} is not refused");
        };
        let head = String::from_utf8(response.bytes).unwrap();
        assert!(head.contains(header), "{head}");
    }
}

#[test]
fn health_is_asked_by_get_head_or_options() {
    let rules = Rules::default();
    let asked = |text: &str| read(text.as_bytes(), &rules);
    let plain = request("GET /health HTTP/1.1", &["Host: h"]);
    assert_eq!(asked(&plain), Progress::Health { head_only: false });
    assert_eq!(asked("GET /health?x HTTP/1.0\r\n\r\n"), Progress::Health { head_only: false });
    let head = request("HEAD /health HTTP/1.1", &["Host: h"]);
    assert_eq!(asked(&head), Progress::Health { head_only: true });
    let options = request("OPTIONS /health HTTP/1.1", &["Host: h"]);
    assert_eq!(asked(&options), Progress::Health { head_only: false });
    assert_eq!(status(b"GET /health HTTP/1.1\r\n\r\n", &rules), 400, "no Host");
    assert_eq!(status(b"HEAD /ws HTTP/1.1\r\nHost: h\r\n\r\n", &rules), 405);
    assert_eq!(status(b"POST /health HTTP/1.1\r\nHost: h\r\n\r\n", &rules), 405);
}

#[test]
fn a_subprotocol_is_confirmed_only_if_it_was_offered() {
    let rules = Rules::default();
    let json = "\r\nSec-WebSocket-Protocol: centrifuge-json\r\n";
    let protobuf = "\r\nSec-WebSocket-Protocol: centrifuge-protobuf\r\n";
    let cases = [
        ("centrifuge-json", Some(json), false),
        ("centrifuge-protobuf", Some(protobuf), true),
        ("centrifuge-protobuf, centrifuge-json", Some(json), false),
        ("chat", None, false),
        (",", None, false),
    ];
    for (offer, confirmed, is_protobuf) in cases {
        let offer = format!("+Sec-WebSocket-Protocol: {offer}");
        let (endpoint, response) = upgrade(&changed(LINE, &[&offer]), &rules);
        assert_eq!(
            endpoint,
            Endpoint::Centrifugo { frame_pings: false, protobuf: is_protobuf },
            "{offer}"
        );
        match confirmed {
            Some(line) => assert!(response.contains(line), "{offer}: {response}"),
            None => assert!(!response.contains("Protocol:"), "{offer}: {response}"),
        }
    }
}

#[test]
fn the_query_chooses_the_form_of_centrifugos_protocol() {
    let cases = [
        ("cf_protocol=protobuf", false, true),
        ("format=protobuf&x=%zz", false, true),
        ("cf_protocol=json&cf_ws_frame_ping_pong=true", true, false),
        ("cf_ws_frame_ping_pong=false", false, false),
    ];
    for (query, frame_pings, protobuf) in cases {
        let line = format!("GET /connection/websocket?{query} HTTP/1.1");
        let (endpoint, _) = upgrade(&changed(&line, &[]), &Rules::default());
        assert_eq!(endpoint, Endpoint::Centrifugo { frame_pings, protobuf }, "{query}");
    }
}

#[test]
fn plain_and_echo_have_paths_of_their_own() {
    let rules = Rules { echo: true, ..Rules::default() };
    let plain = changed("GET /ws?channels=a HTTP/1.1", &["+Sec-WebSocket-Protocol: chat"]);
    let (endpoint, response) = upgrade(&plain, &rules);
    let channels = vec![("a".to_owned(), None)];
    assert_eq!(endpoint, Endpoint::Plain(Ok(PlainRequest { channels, ..PlainRequest::default() })));
    let (endpoint, _) = upgrade(&changed("GET /ws?channels=%zz HTTP/1.1", &[]), &rules);
    assert!(matches!(endpoint, Endpoint::Plain(Err(_))), "a page can read a close frame only");
    assert!(!response.contains("Protocol:"));
    assert_eq!(upgrade(&changed("GET /echo HTTP/1.1", &[]), &rules).0, Endpoint::Echo);
}

#[test]
fn a_request_is_incomplete_until_its_last_byte() {
    let text = changed(LINE, &[]);
    let rules = Rules::default();
    for cut in 0..text.len() {
        assert_eq!(read(&text.as_bytes()[..cut], &rules), Progress::Incomplete, "{cut} bytes");
    }
    let with_frames = format!("{text}\u{81}frames");
    let Progress::Upgrade(upgrade) = read(with_frames.as_bytes(), &rules) else {
        panic!("frames may directly follow the request");
    };
    assert_eq!(upgrade.consumed, text.len());
}

#[test]
fn what_can_never_be_accepted_is_answered_at_once() {
    let cases: &[(u16, &[u8])] = &[
        (400, b"\x16\x03\x01\x02\x00"),
        (400, b"hello\r\n"),
        (400, b"hello my friend\r\n"),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (405, b"POST /ws HTTP/1.1\r\n"),
        (404, b"GET /nothing HTTP/1.1\r\n"),
        (505, b"GET /ws HTTP/1.0\r\n"),
    ];
    for &(expected, bytes) in cases {
        assert_eq!(status(bytes, &Rules::default()), expected, "{bytes:?}");
    }
}

#[test]
fn closes_with_431_when_the_head_is_too_large() {
    let rules = Rules::default();
    let lines = |count: usize| vec!["A: b"; count];
    let few = request("GET /health HTTP/1.1", &[vec!["Host: h"], lines(63)].concat());
    assert_eq!(status(few.as_bytes(), &rules), 200);
    let many = request("GET /health HTTP/1.1", &[vec!["Host: h"], lines(64)].concat());
    assert_eq!(status(many.as_bytes(), &rules), 431);
    let long = format!("Cookie: {}", "x".repeat(HANDSHAKE_BYTES_MAX));
    let long = changed(LINE, &[&format!("+{long}")]);
    assert_eq!(status(long.as_bytes(), &rules), 431);
    assert_eq!(status(&long.as_bytes()[..HANDSHAKE_BYTES_MAX - 1], &rules), 0);
    assert_eq!(status(&long.as_bytes()[..HANDSHAKE_BYTES_MAX], &rules), 431);
    assert_eq!(status("\r\n".repeat(HANDSHAKE_BYTES_MAX / 2).as_bytes(), &rules), 431);
    assert_eq!(status(&vec![b'G'; HANDSHAKE_BYTES_MAX], &rules), 431);
}
