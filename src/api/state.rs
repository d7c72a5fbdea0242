//! The state that all handlers of the API listener share.

use std::sync::Arc;
use std::time::Duration;

use super::access::Access;
use super::entrance::Entrance;
use super::service::{Parts, Service};
use crate::metrics::Metrics;
use crate::origins::Hosts;
use crate::settings::Settings;

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
}

impl Api {
    /// Creates the API of a node with these settings. With `--dev` it serves the demo page. With
    /// `--dev` and no keys, everything except foreign web pages may use the API.
    pub fn new(settings: Arc<Settings>, parts: Parts) -> Arc<Api> {
        let status = &parts.status;
        let (shards, bridge) = (status.shards().to_vec(), status.bridge().cloned());
        Arc::new(Api {
            metrics: Metrics::new(shards, bridge, status.clock()),
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

    /// The methods of the API, independent of the wording.
    pub fn service(&self) -> &Service {
        &self.service
    }
}
