//! Publishing through the HTTP API, on one connection that stays open.

use super::{Line, PublishError};
use crate::target::Endpoint;
use crate::wire::upgrade;
use std::io::Write;

/// A connection to the API.
pub(crate) struct ApiPublisher {
    line: Line,
    /// The request up to the value of its content length.
    head: String,
    /// The body up to the data.
    body: String,
}

/// An answer: its status line and its body.
type Answer = (String, Vec<u8>);

impl ApiPublisher {
    pub(super) fn new(line: Line, endpoint: &Endpoint, key: Option<&str>, channel: &str) -> Self {
        let key = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {}/publish HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{key}\
             Content-Length: ",
            endpoint.path, endpoint.authority
        );
        let body = format!("{{\"channel\":{},\"data\":", serde_json::Value::from(channel));
        Self { line, head, body }
    }

    pub(super) fn send(&mut self, data: &str) -> Result<(), PublishError> {
        let Self { line, head, body } = self;
        let length = body.len() + data.len() + 1;
        let request = format!("{head}{length}\r\n\r\n{body}{data}}}");
        Ok(line.stream.write_all(request.as_bytes())?)
    }

    /// An error that the API reports in a 200 is an error here, too.
    pub(super) fn confirm(&mut self) -> Result<(), PublishError> {
        let (status, body) = self.line.read_until(answer)?;
        let refused = serde_json::from_slice::<serde_json::Value>(&body)
            .map_or(true, |body| body.get("error").is_some());
        if refused || status.split(' ').nth(1) != Some("200") {
            let body = String::from_utf8_lossy(&body);
            return Err(PublishError::Refused(format!("{status}: {body}")));
        }
        Ok(())
    }
}

/// A whole answer at the start of `bytes`, and its length.
fn answer(bytes: &[u8]) -> Result<Option<(Answer, usize)>, PublishError> {
    let Some(head_bytes) = upgrade::head_end(bytes) else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..head_bytes]);
    let status = head.lines().next().unwrap_or_default().to_owned();
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .find_map(|(_, value)| value.trim().parse::<usize>().ok());
    let Some(length) = length else {
        return Err(PublishError::Refused(format!("{status}, without a content length")));
    };
    let end = head_bytes.saturating_add(length);
    Ok(bytes.get(head_bytes..end).map(|body| ((status, body.to_vec()), end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP";
        let ((status, body), used) = answer(bytes).unwrap().unwrap();
        assert_eq!((status.as_str(), body.as_slice(), used), ("HTTP/1.1 200 OK", &b"{}"[..], 40));
        for cut in 0..used {
            assert!(answer(&bytes[..cut]).unwrap().is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn an_answer_without_a_length_is_an_error() {
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
