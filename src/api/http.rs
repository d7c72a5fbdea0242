//! Responses of the API listener, independent of the wording.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde::Serialize;

/// A response with `value` as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    json_bytes(status, encode(value))
}

/// Serializes `value` as JSON.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    // Our types can always be serialized. If one can't, the client must still get a valid error.
    serde_json::to_vec(value)
        .unwrap_or_else(|_| br#"{"error":{"code":100,"message":"internal server error"}}"#.to_vec())
}

/// A response with JSON that is already serialized.
pub(super) fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
    with_type(status, "application/json", Body::from(bytes))
}

/// A response with one line of plain text.
pub(super) fn text(status: StatusCode, line: &str) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", Body::from(format!("{line}\n")))
}

/// The response to a request while too many others are in progress.
pub(super) fn busy() -> Response<Body> {
    let line = "too many requests are in progress; retry in a second";
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, line);
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    response
}

/// A response whose body has the type `content_type`.
pub(super) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
