//! The state that all handlers of the API listener share.

use std::sync::Arc;
use std::time::Duration;

use super::access::Access;
use super::counted::COUNTED;
use super::entrance::Entrance;
use super::service::{Parts, Service};
use super::status::Status;
use crate::metrics::{ApiCounters, Bound, Metrics, Sources};
use crate::origins::Hosts;
use crate::settings::Settings;

impl Api {
    /// Returns the limits of the node for the page of metrics. `connections_max` is the maximum
    /// number of connections, if the host allows fewer than the settings.
    pub fn bounds(settings: &Settings, connections_max: Option<usize>) -> Vec<Bound> {
        let bound = |name, help, value: usize| Bound { name, help, value: value as u64 };
        vec![
            bound(
                "corecast_connections_max",
                "Maximum number of connections that server.max_connections and descriptors allow.",
                connections_max.unwrap_or(settings.server.max_connections),
            ),
            bound(
                "corecast_accept_rate_max",
                "Maximum number of accepted connections per second: server.accept_rate.",
                settings.server.accept_rate as usize,
            ),
            bound(
                "corecast_outbox_bytes_max",
                "Maximum bytes in all outboxes: client.outboxes_bytes_max.",
                settings.client.outboxes_bytes_max,
            ),
            bound(
                "corecast_inbound_bytes_max",
                "Maximum bytes of all unfinished messages: client.inbound_bytes_max.",
                settings.client.inbound_bytes_max,
            ),
            bound(
                "corecast_history_bytes_max",
                "Maximum bytes of all histories: channel.history_bytes_max.",
                settings.channel.history_bytes_max,
            ),
            bound(
                "corecast_channels_in_use_max",
                "Maximum number of channels with subscribers: channel.channels_max.",
                settings.channel.channels_max,
            ),
            bound(
                "corecast_idempotency_bytes_max",
                "Maximum bytes of kept idempotency keys: api.idempotency_bytes_max.",
                settings.api.idempotency_bytes_max,
            ),
        ]
    }
}

/// The shared state of all handlers.
pub struct Api {
    pub(super) service: Service,
    pub(super) entrance: Entrance,
    /// Names by which clients may address this listener.
    pub(super) hosts: Hosts,
    /// Time for which a connection stays open without requests.
    pub(super) keep_alive: Duration,
    /// Whether the demo page is served.
    pub(super) page: bool,
    pub(super) metrics: Metrics,
    /// Requests by method and status.
    pub(super) counters: Arc<ApiCounters>,
}

impl Api {
    /// Creates the API of a node with these settings. With `--dev` it serves the demo page. With
    /// `--dev` and no keys, everything except foreign web pages may use the API.
    pub fn new(settings: Arc<Settings>, parts: Parts) -> Arc<Api> {
        let counters = Arc::new(ApiCounters::new(COUNTED));
        let status = &parts.status;
        let host = status.host();
        let sources = Sources {
            shards: status.shards().to_vec(),
            bridge: status.bridge().cloned(),
            api: Arc::clone(&counters),
            delivery: Arc::clone(status.delivery()),
            bounds: Api::bounds(&settings, host.map(|host| host.connections_max)),
            descriptors: host.map(|host| host.descriptors).unwrap_or_default(),
            now: status.clock(),
        };
        Arc::new(Api {
            metrics: Metrics::new(sources),
            counters,
            entrance: Entrance {
                access: Access::new(&settings),
                body_bytes_max: settings.api.body_bytes_max,
            },
            hosts: Hosts::new(&settings),
            keep_alive: settings.api.keep_alive,
            page: settings.dev,
            service: Service::new(parts, settings),
        })
    }

    /// The state of the node.
    pub fn status(&self) -> &Status {
        &self.service.parts.status
    }

    /// The methods of the API, independent of the wording.
    pub fn service(&self) -> &Service {
        &self.service
    }
}
