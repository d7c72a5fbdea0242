//! The HTTP API of the application, `/metrics`, `/live`, `/ready`, and the page for a first look.
//!
//! All of it runs on the control thread, in one tokio runtime of its own. Shards are asked by
//! messages (`courier`), never by a shared lock, so nothing that happens here slows a shard.

mod access;
mod channels;
mod connections;
mod courier;
mod error;
mod history;
mod info;
mod methods;
mod page;
mod publish;
mod reply;
mod request;
mod router;
mod serve;
mod status;
#[cfg(test)]
mod tests;

pub use courier::{Courier, Full, Home, Send};
pub use error::ApiError;
pub use serve::serve;
pub use status::{Phase, Status};

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::channel::{Namespace, Namespaces};
use crate::config::Config;
use crate::ids::{ClientId, ConnectionId};
use crate::metrics::Metrics;

/// Which connection a client id means, if this node made the id. It may be gone.
pub type Identify = Box<dyn Fn(&ClientId) -> Option<ConnectionId> + std::marker::Send + Sync>;

/// What this node is called.
#[derive(Clone, Debug)]
pub struct Node {
    /// Differs from node to node and from start to start.
    pub uid: String,
    /// For people.
    pub name: String,
    /// Where clients connect, for the page. With the port that the kernel chose.
    pub client_address: SocketAddr,
}

/// What the API needs beside the settings.
pub struct Parts {
    /// The way to the shards.
    pub courier: Arc<Courier>,
    /// The node's state.
    pub status: Arc<Status>,
    /// Tells connections from client ids.
    pub identify: Identify,
    /// What this node is called.
    pub node: Node,
}

/// The API: what every handler uses.
pub struct Api {
    courier: Arc<Courier>,
    status: Arc<Status>,
    identify: Identify,
    node: Node,
    namespaces: Namespaces,
    access: access::Access,
    body_bytes_max: usize,
    dev: bool,
    metrics: Metrics,
    metrics_page: Mutex<Option<router::MetricsPage>>,
}

impl Api {
    /// The API with the settings `config`.
    pub fn new(config: &Config, parts: Parts) -> Arc<Api> {
        let status = parts.status;
        Arc::new(Api {
            metrics: Metrics::new(status.shards().to_vec(), status.clock()),
            metrics_page: Mutex::new(None),
            courier: parts.courier,
            status,
            identify: parts.identify,
            node: parts.node,
            namespaces: config.namespaces(),
            access: access::Access::new(&config.api.keys, config.dev),
            body_bytes_max: config.api.body_bytes_max,
            dev: config.dev,
        })
    }

    /// The options of `channel`.
    ///
    /// # Errors
    /// 102 for an unknown namespace, 107 for a name that can't be one.
    fn resolve(&self, channel: &str) -> Result<&Arc<Namespace>, ApiError> {
        if channel.is_empty() {
            return Err(ApiError::bad_request("channel is missing"));
        }
        self.namespaces.resolve(channel).map_err(ApiError::from)
    }
}
