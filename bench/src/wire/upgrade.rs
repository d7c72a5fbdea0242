//! The HTTP exchange that opens a WebSocket, on the client's side. RFC 6455 §4.1.

use crate::failure::{Failure, Fault};
use std::collections::BTreeMap;

/// Maximum length of the answer's head, in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The key of every connection. It only proves that the server speaks WebSocket, so it may be
/// constant.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The only correct answer to [`KEY`]. Source: the example of RFC 6455 §1.3.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Returns the request for a WebSocket at `path` of `authority`.
pub(crate) fn request(authority: &str, path: &str, headers: &BTreeMap<String, String>) -> Vec<u8> {
    let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
         {}\r\n",
        headers.collect::<String>()
    )
    .into_bytes()
}

/// Returns the length of a complete and correct answer, or `None` while it is incomplete.
pub(crate) fn check(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(head_bytes) = head_end(bytes) else {
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(Failure::new(Fault::Upgrade, "the head of the answer is too long"));
        }
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..head_bytes]);
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(Failure::new(Fault::Status, status));
    }
    let accept = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-accept"))
        .map(|(_, value)| value.trim());
    match accept {
        Some(ACCEPT) => Ok(Some(head_bytes)),
        Some(other) => Err(Failure::new(Fault::Upgrade, format!("a wrong accept key {other}"))),
        None => Err(Failure::new(Fault::Upgrade, "101 without an accept key")),
    }
}

/// Returns the start of the body, once the blank line has arrived.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                        Connection: Upgrade\r\nsec-websocket-accept: \
                        s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn a_right_answer_ends_at_the_blank_line() {
        let bytes = format!("{GOOD}\u{1}rest");
        assert_eq!(check(bytes.as_bytes()).unwrap(), Some(GOOD.len()));
        for cut in 0..GOOD.len() {
            assert_eq!(check(&GOOD.as_bytes()[..cut]).unwrap(), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_wrong_answer_says_what_is_wrong() {
        let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n";
        let failure = check(busy.as_bytes()).unwrap_err();
        assert_eq!(failure.fault, Fault::Status);
        assert!(failure.text.contains("503"), "{}", failure.text);
        let other_key = GOOD.replace("s3p", "S3P");
        assert_eq!(check(other_key.as_bytes()).unwrap_err().fault, Fault::Upgrade);
        let no_key = GOOD.replace("sec-websocket-accept", "x");
        assert_eq!(check(no_key.as_bytes()).unwrap_err().fault, Fault::Upgrade);
        assert_eq!(check(&[b'a'; 9000]).unwrap_err().fault, Fault::Upgrade);
    }

    #[test]
    fn a_request_names_path_host_and_headers() {
        let headers = BTreeMap::from([("Origin".to_owned(), "http://a".to_owned())]);
        let text = String::from_utf8(request("127.0.0.1:8000", "/x?a=b", &headers)).unwrap();
        assert!(text.starts_with("GET /x?a=b HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"), "{text}");
        assert!(text.ends_with("\r\nOrigin: http://a\r\n\r\n"), "{text}");
    }
}
