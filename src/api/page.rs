//! The page for a first look, with `--dev` only: subscribes, publishes, shows live numbers.

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

/// The whole page: it loads nothing from elsewhere.
const PAGE: &str = include_str!("page.html");

/// Adds the page and what it asks for.
pub(super) fn routes(router: Router<Arc<Api>>) -> Router<Arc<Api>> {
    router
        .route("/", get(page))
        .route("/dev/config.json", get(config))
        .route("/dev/numbers.json", get(numbers))
}

async fn page() -> Response<Body> {
    http::with_type(StatusCode::OK, "text/html; charset=utf-8", Body::from(PAGE))
}

/// Where the page connects.
#[derive(Serialize)]
struct PageConfig {
    /// Absent if the server listens on every address: then the page's own host serves.
    host: Option<String>,
    port: u16,
    version: &'static str,
}

async fn config(State(api): State<Arc<Api>>) -> Response<Body> {
    let address = api.service.parts.node.client_address;
    let host = match address.ip() {
        ip if ip.is_unspecified() => None,
        std::net::IpAddr::V4(ip) => Some(ip.to_string()),
        std::net::IpAddr::V6(ip) => Some(format!("[{ip}]")),
    };
    let version = env!("CARGO_PKG_VERSION");
    http::json(StatusCode::OK, &PageConfig { host, port: address.port(), version })
}

/// What the page shows each second. Counters are totals; the page takes the differences.
#[derive(Serialize)]
struct Numbers {
    /// Nanoseconds since the start, to divide by.
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
