//! The demo page, only with `--dev`. It subscribes, publishes, and shows live numbers.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use serde::Serialize;

use super::http;
use super::state::Api;
use crate::metrics::{Counter, Process, ShardCounters};

/// The whole page. It loads nothing from other hosts.
const PAGE: &str = include_str!("page.html");

/// Adds the routes of the page and its data.
pub(super) fn routes(router: Router<Arc<Api>>) -> Router<Arc<Api>> {
    router
        .route("/", get(page))
        .route("/dev/config.json", get(config))
        .route("/dev/numbers.json", get(numbers))
}

async fn page() -> Response<Body> {
    http::with_type(StatusCode::OK, "text/html; charset=utf-8", Body::from(PAGE))
}

/// The address that the page connects to.
#[derive(Serialize)]
struct PageConfig {
    /// `None` if the server listens on all addresses. Then the page connects to its own host.
    host: Option<String>,
    port: u16,
    version: &'static str,
}

async fn config(State(api): State<Arc<Api>>) -> Response<Body> {
    let Some(address) = api.service.parts.node.client_address else {
        return http::text(StatusCode::NOT_FOUND, "clients connect to Unix sockets only");
    };
    let host = match address.ip() {
        ip if ip.is_unspecified() => None,
        std::net::IpAddr::V4(ip) => Some(ip.to_string()),
        std::net::IpAddr::V6(ip) => Some(format!("[{ip}]")),
    };
    let version = env!("CARGO_PKG_VERSION");
    http::json(StatusCode::OK, &PageConfig { host, port: address.port(), version })
}

/// The numbers that the page polls every second. Counters are totals; the page computes rates.
#[derive(Serialize)]
struct Numbers {
    /// Nanoseconds since the start of the server, for rates.
    nanos: u64,
    connections: u64,
    subscriptions: u64,
    channels: u64,
    publications: u64,
    deliveries: u64,
    resident_bytes: u64,
    shards: usize,
}

async fn numbers(State(api): State<Arc<Api>>) -> Response<Body> {
    let status = &api.service.parts.status;
    let shards = status.shards();
    let sum = |counter: fn(&ShardCounters) -> &Counter| -> u64 {
        shards.iter().map(|counters| counter(counters).value()).sum()
    };
    let numbers = Numbers {
        nanos: status.now().nanos(),
        connections: shards
            .iter()
            .flat_map(|counters| &counters.connections)
            .map(Counter::value)
            .sum(),
        subscriptions: sum(|counters| &counters.subscriptions),
        channels: sum(|counters| &counters.channels_home),
        publications: sum(|counters| &counters.publications_api) + sum(|c| &c.publications_client),
        deliveries: sum(|counters| &counters.deliveries),
        resident_bytes: Process::read().resident_bytes,
        shards: shards.len(),
    };
    http::json(StatusCode::OK, &numbers)
}
