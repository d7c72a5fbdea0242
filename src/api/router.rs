//! The routes of the API listener.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::get;

use super::state::Api;
use super::{centrifugo, http, page};
use crate::metrics::Format;
use crate::readiness::Phase;

/// All routes of the API listener.
pub(super) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new()
        .route("/metrics", get(metrics))
        .route("/live", get(live).options(live))
        .route("/ready", get(ready).options(ready));
    router = centrifugo::routes(router);
    if api.page {
        router = page::routes(router);
    }
    let known_hosts = from_fn_with_state(Arc::clone(&api), check_host);
    router.fallback(unknown_path).layer(known_hosts).with_state(api)
}

/// Paths for monitors, which address the server by any of its addresses.
const MONITORED: [&str; 3] = ["/metrics", "/live", "/ready"];

/// Refuses a request for a host that is not this server. See [`crate::origins`].
async fn check_host(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response<Body> {
    let hosts = &api.hosts;
    let is_monitor = MONITORED.contains(&request.uri().path());
    let is_known = |authority: &str| {
        if is_monitor { hosts.admits_monitor(authority) } else { hosts.admits(authority) }
    };
    let foreign = authorities(&request).find(|authority| !is_known(authority));
    match foreign.map(|authority| hosts.refusal(authority)) {
        Some(refusal) => http::text(StatusCode::FORBIDDEN, &refusal),
        None => next.run(request).await,
    }
}

/// Returns the hosts that a request names: that of its target, and those of `Host`. One that is not
/// text is "?", which is no host.
fn authorities(request: &Request) -> impl Iterator<Item = &str> {
    let of_target = request.uri().authority().map(|authority| authority.as_str());
    let of_headers = request.headers().get_all(header::HOST).iter();
    of_target.into_iter().chain(of_headers.map(|host| host.to_str().unwrap_or("?")))
}

async fn unknown_path() -> Response<Body> {
    let line = "not found; the paths are /api/<method>, /metrics, /live and /ready";
    http::text(StatusCode::NOT_FOUND, line)
}

/// `GET /metrics`. Frequent scrapes get the same page, because rendering costs this thread a
/// fraction of a millisecond.
async fn metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response<Body> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::from_accept(accept.unwrap_or_default());
    match api.metrics.page(format) {
        Ok(page) => http::with_type(StatusCode::OK, format.content_type(), Body::from(page)),
        Err(_) => {
            let line = "the page of metrics is too long";
            http::text(StatusCode::INTERNAL_SERVER_ERROR, line)
        }
    }
}

/// `GET /live`. 503 means that only a restart helps.
async fn live(State(api): State<Arc<Api>>) -> Response<Body> {
    let stuck = api.service.parts.status.stuck_shards();
    if stuck.is_empty() {
        http::text(StatusCode::OK, "live")
    } else {
        let line = format!("no progress in shards {stuck:?}");
        http::text(StatusCode::SERVICE_UNAVAILABLE, &line)
    }
}

/// `GET /ready`. 503 means that new clients should use another node.
async fn ready(State(api): State<Arc<Api>>) -> Response<Body> {
    let node = &api.service.parts.status;
    let phase = node.phase();
    let (status, remarks) = match phase {
        Phase::Serving => (StatusCode::OK, node.remarks()),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, node.trouble()),
        _ => (StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
    };
    let separator = if phase == Phase::Starting { ": " } else { ", " };
    let line: Vec<String> = std::iter::once(phase.label().to_owned()).chain(remarks).collect();
    http::text(status, &line.join(separator))
}
