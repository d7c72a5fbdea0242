//! Publishing by POST requests on connections that stay open. Requests are pipelined: they are sent
//! without waiting for earlier answers (RFC 9112 §9.3.2).

use crate::error::{AddressError, PublishError};
use crate::profile::PublishHttp;
use crate::target::{Endpoint, Target};
use crate::wire::upgrade;

/// The requests for a server, complete except for the data.
#[derive(Clone, Debug)]
pub(super) struct Http {
    /// One request for each channel.
    requests: Vec<Request>,
    refuse: Option<String>,
}

#[derive(Clone, Debug)]
struct Request {
    /// The head up to the value of the content length.
    head: String,
    /// The body before and after the data.
    before: String,
    after: String,
}

impl Http {
    pub(super) fn new(
        publish: &PublishHttp,
        target: &Target,
        more_headers: &[String],
        endpoint: impl Fn(&str) -> Result<Endpoint, AddressError>,
    ) -> Result<Self, AddressError> {
        let headers = publish.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let more = more_headers.iter().map(|header| format!("{header}\r\n"));
        let headers: String = headers.chain(more).collect();
        let mut requests = Vec::with_capacity(target.entries.len());
        for entry in &target.entries {
            let Endpoint { authority, path, .. } = endpoint(&entry.channel)?;
            let body = crate::wire::script::fill_channel(&publish.body, &entry.channel);
            let (before, after) = body.split_once("{data}").unwrap_or((&body, ""));
            requests.push(Request {
                head: format!(
                    "POST {path} HTTP/1.1\r\nHost: {authority}\r\n{headers}Content-Length: "
                ),
                before: before.to_owned(),
                after: after.to_owned(),
            });
        }
        Ok(Self { requests, refuse: publish.refuse.clone() })
    }

    /// Returns the request that publishes `data` to a channel.
    pub(super) fn request(&self, channel: usize, data: &str) -> Vec<u8> {
        let Request { head, before, after } = &self.requests[channel];
        let length = before.len() + data.len() + after.len();
        format!("{head}{length}\r\n\r\n{before}{data}{after}").into_bytes()
    }

    /// Returns the length of the complete answer at the start of `bytes`. An answer that is not a
    /// success, or whose body contains a refusal, is an error.
    pub(super) fn answer(&self, bytes: &[u8]) -> Result<Option<usize>, PublishError> {
        let Some(head_bytes) = upgrade::head_end(bytes) else { return Ok(None) };
        let head = String::from_utf8_lossy(&bytes[..head_bytes]);
        let status = head.lines().next().unwrap_or_default();
        let Some((body, end)) = body(&head, &bytes[head_bytes..]) else { return Ok(None) };
        let body = String::from_utf8_lossy(body);
        let refused = self.refuse.as_deref().is_some_and(|refuse| body.contains(refuse));
        let success = status.split(' ').nth(1).is_some_and(|code| code.starts_with('2'));
        if refused || !success {
            return Err(PublishError::Refused(format!("{status}: {body}")));
        }
        Ok(Some(head_bytes + end))
    }
}

/// Returns the body at the start of `bytes` and its end, once it is complete. A chunked body is
/// complete with its last chunk; it is returned with the chunk sizes in it.
fn body<'a>(head: &str, bytes: &'a [u8]) -> Option<(&'a [u8], usize)> {
    let field = |wanted: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim())
    };
    if field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        let end = chunks_end(bytes)?;
        return Some((&bytes[..end], end));
    }
    let length = field("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    bytes.get(..length).map(|body| (body, length))
}

/// Returns the end of the last chunk at the start of `bytes`. RFC 9112 §7.1, without trailers.
fn chunks_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let digits = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(digits.split(';').next()?.trim(), 16).ok()?;
        at = at.checked_add(line + 2)?.checked_add(size)?.checked_add(2)?;
        if bytes.len() < at {
            return None;
        }
        if size == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> Http {
        Http { requests: Vec::new(), refuse: Some("\"error\"".to_owned()) }
    }

    #[test]
    fn an_answer_is_whole_with_its_body() {
        for (bytes, used) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP"[..], 40),
            (b"HTTP/1.1 204 No Content\r\n\r\nHTTP", 27),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nH", 59),
        ] {
            assert_eq!(http().answer(bytes).unwrap(), Some(used));
            for cut in 0..used {
                assert_eq!(http().answer(&bytes[..cut]).unwrap(), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_refusal_is_an_error_whatever_its_status() {
        for bytes in [
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"error\":{}}",
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        ] {
            let text = http().answer(bytes.as_bytes()).unwrap_err().to_string();
            assert!(text.starts_with("HTTP/1.1"), "{text}");
        }
    }
}
