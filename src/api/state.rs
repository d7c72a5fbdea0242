//! What the handlers of the API listener share.

use std::sync::Arc;

use super::access::Access;
use super::entrance::Entrance;
use super::service::{Parts, Service};
use crate::metrics::Metrics;
use crate::settings::Settings;

/// The API: what every handler uses.
pub struct Api {
    pub(super) service: Service,
    pub(super) entrance: Entrance,
    /// The page for a first look is served.
    pub(super) page: bool,
    pub(super) metrics: Metrics,
}

impl Api {
    /// The API of a node with these settings. With `--dev` the page is served, and without any key
    /// the API is open to everybody but foreign web pages.
    pub fn new(settings: Arc<Settings>, parts: Parts) -> Arc<Api> {
        let status = &parts.status;
        let (shards, bridge) = (status.shards().to_vec(), status.bridge().cloned());
        Arc::new(Api {
            metrics: Metrics::new(shards, bridge, status.clock()),
            entrance: Entrance {
                access: Access::new(&settings.api.keys, settings.dev),
                body_bytes_max: settings.api.body_bytes_max,
            },
            page: settings.dev,
            service: Service::new(parts, settings),
        })
    }

    /// What the application may do, whatever the wording.
    pub fn service(&self) -> &Service {
        &self.service
    }
}
