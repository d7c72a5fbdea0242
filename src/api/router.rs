//! Paths of the API listener, and what every request passes before its method is called.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method as HttpMethod, Response, StatusCode, header};
use axum::routing::{any, get};
use serde_json::value::RawValue;

use super::error::ApiError;
use super::methods::{self, Method};
use super::{Api, page, publish, reply};
use crate::metrics::Format;
use crate::protocol::PublishRequest;
use crate::readiness::Phase;

/// Header with an idempotency key, for clients that set it for every request.
const IDEMPOTENCY_KEY: &str = "x-idempotency-key";

/// Every path of the API listener.
pub(super) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new()
        .route("/api", any(old))
        .route("/api/{method}", any(method))
        .route("/metrics", get(metrics))
        .route("/live", get(live))
        .route("/ready", get(ready));
    if api.page {
        router = page::routes(router);
    }
    router.fallback(unknown_path).with_state(api)
}

async fn unknown_path() -> Response<Body> {
    let line = "there are /api/<method>, /metrics, /live and /ready";
    reply::text(StatusCode::NOT_FOUND, line)
}

/// `POST /api/<method>`
async fn method(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Response<Body> {
    if let Err(refusal) = admit(&api, &request) {
        return *refusal;
    }
    let method = match Method::from_name(&name) {
        Ok(method) => Some(method),
        Err(_) if name == "batch" => None,
        Err(_) => {
            let line = format!("there is no method {name:?}");
            return reply::text(StatusCode::NOT_FOUND, &line);
        }
    };
    let (headers, body) = match read(&api, request).await {
        Ok(parts) => parts,
        Err(refusal) => return *refusal,
    };
    match method {
        None => match reply::batch(&api, &body).await {
            Ok(replies) => reply::json_bytes(StatusCode::OK, replies),
            Err(error) => reply::respond(Err(error), &headers),
        },
        Some(method) => reply::respond(call(&api, method, &headers, &body).await, &headers),
    }
}

/// Calls a method, with what its headers add to the body.
async fn call(
    api: &Arc<Api>,
    method: Method,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Box<RawValue>, ApiError> {
    let key = headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok());
    let Some(key) = key.filter(|_| matches!(method, Method::Publish | Method::Broadcast)) else {
        return methods::call(api, method, body).await;
    };
    let mut request: PublishRequest = methods::read(body)?;
    if request.idempotency_key.is_empty() {
        key.clone_into(&mut request.idempotency_key);
    }
    match method {
        Method::Broadcast => methods::raw(&publish::broadcast(api, request).await?),
        _ => methods::raw(&publish::publish(api, request).await?),
    }
}

/// `POST /api`, Centrifugo's older form.
async fn old(State(api): State<Arc<Api>>, request: Request) -> Response<Body> {
    if let Err(refusal) = admit(&api, &request) {
        return *refusal;
    }
    let (headers, body) = match read(&api, request).await {
        Ok(parts) => parts,
        Err(refusal) => return *refusal,
    };
    match reply::old(&api, &body).await {
        Ok(replies) => reply::json_bytes(StatusCode::OK, replies),
        Err(error) => reply::respond(Err(error), &headers),
    }
}

/// Looks at a request's head, before any of its body is read: strangers can't make us hold bytes.
fn admit(api: &Api, request: &Request) -> Result<(), Box<Response<Body>>> {
    if request.method() != HttpMethod::POST {
        let mut refusal = reply::text(StatusCode::METHOD_NOT_ALLOWED, "the API takes POST only");
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Err(Box::new(refusal));
    }
    match api.access.admit(request.headers(), request.uri()) {
        Ok(()) => Ok(()),
        Err(StatusCode::FORBIDDEN) => {
            let line = "the API takes no requests from other web pages while it has no key";
            Err(Box::new(reply::text(StatusCode::FORBIDDEN, line)))
        }
        Err(status) => {
            let mut refusal = Response::new(Body::empty());
            *refusal.status_mut() = status;
            Err(Box::new(refusal))
        }
    }
}

/// Reads a request whole.
async fn read(api: &Api, request: Request) -> Result<(HeaderMap, Bytes), Box<Response<Body>>> {
    let (head, body) = request.into_parts();
    match to_bytes(body, api.body_bytes_max).await {
        Ok(bytes) => Ok((head.headers, bytes)),
        Err(error) if is_too_long(&error) => {
            let line = format!(
                "the body is longer than {} bytes; api.body_bytes_max says how long it may be",
                api.body_bytes_max
            );
            Err(Box::new(reply::text(StatusCode::PAYLOAD_TOO_LARGE, &line)))
        }
        Err(_) => {
            let line = "the body did not arrive whole";
            Err(Box::new(reply::text(StatusCode::BAD_REQUEST, line)))
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

/// `GET /metrics`. Rendering costs this thread a fraction of a millisecond and shards nothing, so a
/// greedy scraper is only its own trouble.
async fn metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response<Body> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::from_accept(accept.unwrap_or_default());
    match api.metrics.render(format) {
        Ok(text) => reply::with_type(StatusCode::OK, format.content_type(), Body::from(text)),
        Err(_) => {
            let line = "the page of metrics is too long";
            reply::text(StatusCode::INTERNAL_SERVER_ERROR, line)
        }
    }
}

/// `GET /live`: 503 means that only a restart helps.
async fn live(State(api): State<Arc<Api>>) -> Response<Body> {
    let stuck = api.status.stuck_shards();
    if stuck.is_empty() {
        reply::text(StatusCode::OK, "live")
    } else {
        let line = format!("no progress in shards {stuck:?}");
        reply::text(StatusCode::SERVICE_UNAVAILABLE, &line)
    }
}

/// `GET /ready`: 503 means that new clients should go elsewhere.
async fn ready(State(api): State<Arc<Api>>) -> Response<Body> {
    let phase = api.status.phase();
    let (status, remarks) = match phase {
        Phase::Serving => (StatusCode::OK, api.status.remarks()),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, api.status.trouble()),
        _ => (StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
    };
    let separator = if phase == Phase::Starting { ": " } else { ", " };
    let line: Vec<String> = std::iter::once(phase.label().to_owned()).chain(remarks).collect();
    reply::text(status, &line.join(separator))
}
