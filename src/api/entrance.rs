//! What every request for a method of the API passes first: its head is looked at before any of its
//! body is read, so that strangers can't make us hold bytes.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::access::Access;
use super::http;

/// The rules of the entrance.
pub(super) struct Entrance {
    /// Who may use the API.
    pub(super) access: Access,
    /// Longest request body, in bytes.
    pub(super) body_bytes_max: usize,
}

impl Entrance {
    /// Looks at a request's head.
    ///
    /// # Errors
    /// The response that refuses it.
    pub(super) fn admit(&self, request: &Request) -> Result<(), Box<Response<Body>>> {
        if request.method() != Method::POST {
            let line = "the API takes POST only";
            let mut refusal = http::text(StatusCode::METHOD_NOT_ALLOWED, line);
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Err(Box::new(refusal));
        }
        match self.access.admit(request.headers(), request.uri()) {
            Ok(()) => Ok(()),
            Err(StatusCode::FORBIDDEN) => {
                let line = "the API takes no requests from other web pages while it has no key";
                Err(Box::new(http::text(StatusCode::FORBIDDEN, line)))
            }
            Err(status) => {
                let mut refusal = Response::new(Body::empty());
                *refusal.status_mut() = status;
                Err(Box::new(refusal))
            }
        }
    }

    /// Reads a request whole.
    ///
    /// # Errors
    /// The response that refuses it.
    pub(super) async fn read(
        &self,
        request: Request,
    ) -> Result<(HeaderMap, Bytes), Box<Response<Body>>> {
        let (head, body) = request.into_parts();
        match to_bytes(body, self.body_bytes_max).await {
            Ok(bytes) => Ok((head.headers, bytes)),
            Err(error) if is_too_long(&error) => {
                let line = format!(
                    "the body is longer than {} bytes; api.body_bytes_max says how long it may be",
                    self.body_bytes_max
                );
                Err(Box::new(http::text(StatusCode::PAYLOAD_TOO_LARGE, &line)))
            }
            Err(_) => {
                let line = "the body did not arrive whole";
                Err(Box::new(http::text(StatusCode::BAD_REQUEST, line)))
            }
        }
    }
}

/// Whether reading a body ended at our limit rather than with the peer.
fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
