//! The first checks of every request to the API. The head is checked before the body is read, so
//! that clients without a key can't make the server hold bytes.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::access::Access;
use super::http;

/// The checks for requests.
pub(super) struct Entrance {
    /// The rule that admits requests.
    pub(super) access: Access,
    /// Maximum size of a request body in bytes.
    pub(super) body_bytes_max: usize,
}

impl Entrance {
    /// Checks the head of a request.
    ///
    /// # Errors
    /// The response that refuses it.
    pub(super) fn admit(&self, request: &Request) -> Result<(), Box<Response<Body>>> {
        if request.method() != Method::POST {
            let line = "the API accepts only POST";
            let mut refusal = http::text(StatusCode::METHOD_NOT_ALLOWED, line);
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Err(Box::new(refusal));
        }
        match self.access.admit(request.headers(), request.uri()) {
            Ok(()) => Ok(()),
            Err(StatusCode::FORBIDDEN) => {
                let line =
                    "the API accepts no requests from other web pages while api.keys is empty";
                Err(Box::new(http::text(StatusCode::FORBIDDEN, line)))
            }
            Err(status) => {
                let mut refusal = Response::new(Body::empty());
                *refusal.status_mut() = status;
                Err(Box::new(refusal))
            }
        }
    }

    /// Reads a whole request.
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
                    "the body is longer than {} bytes, the value of api.body_bytes_max",
                    self.body_bytes_max
                );
                Err(Box::new(http::text(StatusCode::PAYLOAD_TOO_LARGE, &line)))
            }
            Err(_) => {
                let line = "the body is incomplete";
                Err(Box::new(http::text(StatusCode::BAD_REQUEST, line)))
            }
        }
    }
}

/// Whether reading a body ended because of our limit, not because of the peer.
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
