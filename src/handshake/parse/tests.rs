//! Tests with request heads of real clients, and with a violation of each rule.

use super::*;
use crate::handshake::{PlainRequest, Probe};
use crate::origins::Origins;
use crate::settings::Settings;

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
            let status = response.reason.details().code;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert!(head.contains("\r\nContent-Length: "), "{head}");
            status
        }
        Progress::Health(_) => 200,
    }
}

/// The response to a refused request.
#[track_caller]
fn refusal(text: &str, rules: &Rules) -> String {
    let Progress::Respond(response) = read(text.as_bytes(), rules) else {
        panic!("{text} is not refused");
    };
    String::from_utf8(response.bytes).unwrap()
}

fn origins(list: &[&str]) -> Rules {
    let list = list.iter().map(|&origin| origin.to_owned()).collect();
    Rules { origins: Origins::of_list(list), ..Rules::default() }
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
        (404, "a path with more behind", changed("GET /ws/a HTTP/1.1", &[])),
        (404, "a path with two slashes behind", changed("GET /ws// HTTP/1.1", &[])),
        (101, "a path with a slash behind", changed("GET /ws/?channels=a HTTP/1.1", &[])),
        (101, "another", changed("GET /connection/websocket/ HTTP/1.1", &[])),
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
        (403, "a page without its Origin", changed(LINE, &["+Sec-Fetch-Site: cross-site"])),
        (101, "a page of the same site", changed(LINE, &["+Sec-Fetch-Site: same-site"])),
        (
            101,
            "a listed page of another site",
            changed(LINE, &["+Sec-Fetch-Site: cross-site", "+Origin: https://good"]),
        ),
        (101, "a listed Origin", changed(LINE, &["+Origin: https://good"])),
        (101, "its default port", changed(LINE, &["+Origin: https://good:443"])),
        (101, "an Origin of the same host", changed(LINE, &["+Origin: https://example.com"])),
    ];
    let rules = origins(&["https://good"]);
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
    for (method, probe) in [("GET", Probe::Get), ("HEAD", Probe::Head), ("OPTIONS", Probe::Options)]
    {
        let text = request(&format!("{method} /health HTTP/1.1"), &["Host: h"]);
        assert_eq!(asked(&text), Progress::Health(probe), "{text}");
    }
    assert_eq!(asked("GET /health?x HTTP/1.0\r\n\r\n"), Progress::Health(Probe::Get));
    assert_eq!(status(b"GET /health HTTP/1.1\r\n\r\n", &rules), 400, "no Host");
    assert_eq!(status(b"HEAD /ws HTTP/1.1\r\nHost: h\r\n\r\n", &rules), 405);
    assert!(refusal("POST /health HTTP/1.1\r\n", &rules).contains("Allow: GET, HEAD, OPTIONS\r\n"));
}

#[test]
fn options_of_the_whole_server_is_a_health_check() {
    let rules = Rules { path_prefix: "/p".to_owned(), ..Rules::default() };
    for target in ["/", "*", "/p/", "http://h"] {
        let text = format!("OPTIONS {target} HTTP/1.0\r\n\r\n");
        let health = Progress::Health(Probe::Options);
        assert_eq!(read(text.as_bytes(), &rules), health, "{target}");
    }
    for (expected, line) in [
        (404, "GET / HTTP/1.0"),
        (400, "GET * HTTP/1.0"),
        (405, "OPTIONS /ws HTTP/1.1"),
        (404, "OPTIONS /a HTTP/1.1"),
    ] {
        assert_eq!(status(format!("{line}\r\n\r\n").as_bytes(), &rules), expected, "{line}");
    }
}

#[test]
fn a_prefix_may_stand_before_every_path() {
    let rules = Rules { path_prefix: "/live/now".to_owned(), ..Rules::default() };
    let status_of =
        |path: &str| status(changed(&format!("GET {path} HTTP/1.1"), &[]).as_bytes(), &rules);
    for path in ["/live/now/ws?channels=a", "/live/now/ws/?channels=a", "/ws?channels=a"] {
        assert_eq!(status_of(path), 101, "{path}");
    }
    assert_eq!(status_of("/live/now/connection/websocket"), 101);
    assert_eq!(status_of("/live/now/health"), 200);
    for path in ["/live/now", "/live/nows/ws", "/live/nowws", "/live/now/live/now/ws", "/live/ws"] {
        assert_eq!(status_of(path), 404, "{path}");
    }
}

#[test]
fn a_host_that_is_not_listed_is_refused_on_every_path() {
    let mut settings = Settings::default();
    settings.server.hosts = vec!["example.com".to_owned()];
    let rules = Rules::new(&settings);
    let line = "GET /ws?channels=a HTTP/1.1";
    let health = |host: &str| request("GET /health HTTP/1.1", &[&format!("Host: {host}")]);
    for (expected, text) in [
        (101, changed(line, &[])),
        (101, changed(line, &["Host: EXAMPLE.com:8000"])),
        (403, changed(line, &["Host: evil.example"])),
        (403, changed(line, &["Host: 10.0.0.1:8000"])),
        (403, changed("GET http://evil.example/ws?channels=a HTTP/1.1", &[])),
        (403, changed(LINE, &["Host: evil.example", "+Origin: http://evil.example"])),
        (403, health("evil.example")),
        (200, health("10.0.0.1:8000")),
        (200, "GET /health HTTP/1.0\r\n\r\n".to_owned()),
    ] {
        assert_eq!(status(text.as_bytes(), &rules), expected, "{text}");
    }
    let body = refusal(&changed(line, &["Host: evil.example"]), &rules);
    assert!(body.ends_with("the Host \"evil.example\" is not in server.hosts\n"), "{body}");
}

#[test]
fn pages_without_a_host_are_allowed_by_name() {
    for (origin, list, expected) in [
        ("null", &["null"][..], 101),
        ("file://", &["file://"], 101),
        ("null", &["file://"], 403),
        ("file://", &["null"], 403),
        ("file://", &[], 403),
    ] {
        let text = changed(LINE, &[&format!("+Origin: {origin}")]);
        assert_eq!(status(text.as_bytes(), &origins(list)), expected, "{origin} {list:?}");
    }
    let body = refusal(&changed(LINE, &["+Origin: null"]), &origins(&[]));
    assert!(body.ends_with("the Origin \"null\" is not in client.allowed_origins\n"), "{body}");
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
    let plain = changed("GET /ws?channels=a HTTP/1.1", &[]);
    let (endpoint, response) = upgrade(&plain, &rules);
    let channels = vec![("a".to_owned(), None)];
    assert_eq!(endpoint, Endpoint::Plain(Ok(PlainRequest { channels, ..PlainRequest::default() })));
    assert!(!response.contains("Protocol:"));
    let (endpoint, _) = upgrade(&changed("GET /ws?channels=%zz HTTP/1.1", &[]), &rules);
    assert!(matches!(endpoint, Endpoint::Plain(Err(_))), "a page can read a close frame only");
    assert_eq!(upgrade(&changed("GET /echo HTTP/1.1", &[]), &rules).0, Endpoint::Echo);
}

#[test]
fn a_plain_websocket_gets_the_first_subprotocol_that_is_a_token() {
    let cases = [
        ("chat", Some("chat")),
        ("chat, superchat", Some("chat")),
        ("b@d, {}, graphql-ws", Some("graphql-ws")),
        ("centrifuge-protobuf", Some("centrifuge-protobuf")),
        (",", None),
        ("a b", None),
    ];
    for (offer, confirmed) in cases {
        let offer = format!("+Sec-WebSocket-Protocol: {offer}");
        let text = changed("GET /ws?channels=a HTTP/1.1", &[&offer]);
        let (_, response) = upgrade(&text, &Rules::default());
        let line = response.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!(line, confirmed, "{offer}");
    }
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
    let body = refusal(&many, &rules);
    assert!(body.contains(&format!("more than {HANDSHAKE_HEADERS_MAX} header lines")), "{body}");
    const MOST: usize = 16 * 1024;
    let rules = Rules { head_bytes_max: MOST, ..Rules::default() };
    let cookie = |bytes: usize| changed(LINE, &[&format!("+Cookie: {}", "x".repeat(bytes))]);
    let others = cookie(1).len() - 1;
    assert_eq!(status(cookie(MOST - others).as_bytes(), &rules), 101, "as long as is allowed");
    let long = cookie(MOST - others + 1);
    let body = refusal(&long, &rules);
    for part in ["of 16385 bytes", "client.handshake_bytes_max = 16384 bytes"] {
        assert!(body.contains(part), "{body}");
    }
    let long = cookie(2 * MOST);
    assert_eq!(status(&long.as_bytes()[..MOST - 1], &rules), 0);
    assert_eq!(status(&long.as_bytes()[..MOST], &rules), 431);
    assert!(refusal(&long[..MOST + 5], &rules).contains("of more than 16389 bytes"));
    assert_eq!(status("\r\n".repeat(MOST / 2).as_bytes(), &rules), 431);
    assert_eq!(status(&vec![b'G'; MOST], &rules), 431);
}
