//! HTTP responses. All except the upgrade end the connection.

use crate::handshake::{Probe, Response};
use crate::limits::RETRY_AFTER_SECONDS;
use crate::readiness::Phase;
use crate::reason::Refusal;

/// Returns the name of a status. RFC 9110 §15, RFC 6585 §5.
const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

const _: () = {
    let mut at = 0;
    while at < Refusal::ALL.len() {
        let code = Refusal::ALL[at].details().code;
        let named = code == 0 || !phrase(code).is_empty();
        assert!(named, "the status of each refusal has a name");
        at += 1;
    }
};

/// Header of responses that end the connection.
const CLOSE: &str = "Connection: close\r\n";

/// Returns the response to a refused request, with the text of its reason.
pub(super) fn refuse(reason: Refusal) -> Response {
    refuse_with(reason, reason.details().text)
}

/// Returns the response to a refused request, with one line of text that names the value at fault.
pub(super) fn refuse_with(reason: Refusal, text: &str) -> Response {
    let code = reason.details().code;
    let headers = match code {
        // RFC 9110 §15.5.22: the server MUST send an Upgrade header, and §7.8: MUST name it in
        // Connection. RFC 6455 §4.2.2 /version/: the versions that the server speaks.
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: Upgrade, close\r\n",
        _ => CLOSE,
    };
    Response { reason, bytes: write(code, phrase(code), headers, text) }
}

/// Returns the response to a method that a path does not accept. RFC 9110 §15.5.6: the server MUST
/// generate an Allow header.
pub(super) fn method_not_allowed(allowed: &str) -> Response {
    let reason = Refusal::BadMethod;
    let (code, headers) = (reason.details().code, format!("Allow: {allowed}\r\n{CLOSE}"));
    let text = format!("only {allowed} is allowed");
    Response { reason, bytes: write(code, phrase(code), &headers, &text) }
}

/// Returns the 400 for a malformed header of the PROXY protocol.
pub fn bad_proxy_header(reason: &str) -> Response {
    refuse_with(Refusal::BadProxyHeader, &format!("the PROXY header is invalid: {reason}"))
}

/// Reasons for temporarily refusing a client.
#[derive(Clone, Copy, Debug)]
pub enum Unavailable<'a> {
    /// The server is full.
    Full,
    /// Too many other clients of the network wait to be admitted.
    Busy,
    /// The node is starting or stopping.
    Phase(Phase),
    /// A reason of the session, for example that Redis is unreachable.
    Because(&'a str),
}

/// Returns the 503 with the reason.
pub fn unavailable(why: Unavailable<'_>) -> Vec<u8> {
    let text = match why {
        Unavailable::Full => "the server is full",
        Unavailable::Busy => "too many connections from your network at once; retry later",
        Unavailable::Phase(Phase::Starting) => {
            "the server is starting: it has not loaded the publications of other nodes yet"
        }
        Unavailable::Phase(_) => "the server is shutting down",
        Unavailable::Because(text) => text,
    };
    write_unavailable(text, "")
}

fn write_unavailable(text: &str, more_headers: &str) -> Vec<u8> {
    let headers = format!("Retry-After: {RETRY_AFTER_SECONDS}\r\n{more_headers}{CLOSE}");
    write(503, phrase(503), &headers, text)
}

/// Returns a response with a status that the session has chosen.
pub fn response(code: u16, name: &str, text: &str) -> Vec<u8> {
    write(code, name, CLOSE, text)
}

fn write(code: u16, name: &str, headers: &str, text: &str) -> Vec<u8> {
    let body_bytes = text.len() + 1;
    let answer = format!(
        "HTTP/1.1 {code} {name}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {body_bytes}\r\n\r\n{text}\n"
    );
    answer.into_bytes()
}

/// The variable part of the head that accepts an upgrade. It is small, because many may wait. Only
/// clients that offer subprotocols make it longer, by at most `client.handshake_bytes_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    key: [u8; ACCEPT_KEY_BYTES],
    subprotocol: Option<Box<str>>,
}

/// Length of the response to the key of a client: a SHA-1 in base64. RFC 6455 §4.2.2 /key/.
const ACCEPT_KEY_BYTES: usize = 28;

impl Acceptance {
    /// Creates the response to `key`, with one of the offered subprotocols.
    pub(super) fn new(key: &str, subprotocol: Option<&str>) -> Acceptance {
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let mut key = [0; ACCEPT_KEY_BYTES];
        key.copy_from_slice(accept.as_bytes());
        Acceptance { key, subprotocol: subprotocol.map(Box::from) }
    }

    /// Returns the head. RFC 6455 §4.2.2. It contains no extension, so all are declined.
    pub fn head(&self) -> Vec<u8> {
        let mut head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: "
            .to_vec();
        head.extend_from_slice(&self.key);
        if let Some(subprotocol) = &self.subprotocol {
            head.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            head.extend_from_slice(subprotocol.as_bytes());
        }
        head.extend_from_slice(b"\r\n\r\n");
        head
    }
}

/// Returns the response of `/health`, which is the same as that of `/ready` on the API port.
pub fn health_response(phase: Phase, probe: Probe) -> Vec<u8> {
    let allow = if probe == Probe::Options { "Allow: GET, HEAD, OPTIONS\r\n" } else { "" };
    let mut bytes = match phase {
        Phase::Serving => write(200, phrase(200), &format!("{allow}{CLOSE}"), "ok"),
        _ => write_unavailable(phase.label(), allow),
    };
    if probe == Probe::Head {
        // RFC 9110 §9.3.2: the response to HEAD is that of GET without content.
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        bytes.truncate(end.map_or(bytes.len(), |at| at + 4));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_long_it_is_and_that_it_is_the_last() {
        let response = refuse_with(Refusal::NoUpgrade, "upgrade");
        assert_eq!(response.reason.details().code, 426);
        assert_eq!(
            String::from_utf8(response.bytes).unwrap(),
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Connection: Upgrade, close\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 8\r\n\r\nupgrade\n"
        );
        let full = String::from_utf8(unavailable(Unavailable::Full)).unwrap();
        assert!(full.starts_with("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n"));
        assert!(full.ends_with("Content-Length: 19\r\n\r\nthe server is full\n"));
    }

    #[test]
    fn health_says_what_readiness_says() {
        for (phase, line, body) in [
            (Phase::Serving, "HTTP/1.1 200 OK\r\n", "ok\n"),
            (
                Phase::Starting,
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n",
                "starting\n",
            ),
            (
                Phase::Leaving,
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n",
                "draining\n",
            ),
            (Phase::Full, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n", "full\n"),
        ] {
            let whole = String::from_utf8(health_response(phase, Probe::Get)).unwrap();
            assert!(whole.starts_with(line) && whole.ends_with(body), "{whole}");
            let head = String::from_utf8(health_response(phase, Probe::Head)).unwrap();
            assert_eq!(format!("{head}{body}"), whole);
            let options = String::from_utf8(health_response(phase, Probe::Options)).unwrap();
            assert_eq!(options.replace("Allow: GET, HEAD, OPTIONS\r\n", ""), whole);
        }
        let starting = unavailable(Unavailable::Phase(Phase::Starting));
        let starting = String::from_utf8(starting).unwrap();
        assert!(
            starting.starts_with("HTTP/1.1 503 ") && starting.contains("\r\nRetry-After: 5\r\n")
        );
    }

    #[test]
    fn the_accept_key_is_the_one_of_rfc_6455_section_1_3() {
        let head = Acceptance::new("dGhlIHNhbXBsZSBub25jZQ==", Some("centrifuge-json")).head();
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: centrifuge-json\r\n\r\n"
        );
    }
}
