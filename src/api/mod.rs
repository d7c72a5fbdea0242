//! The HTTP API of the application, `/metrics`, `/live`, `/ready`, and the page for a first look.
//!
//! All of it runs on the control thread, in one tokio runtime of its own. Shards are asked by
//! messages (`courier`), never by a shared lock, so nothing that happens here slows a shard.

mod access;
mod channels;
mod cluster;
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

pub use cluster::remote;
pub use courier::{Courier, Full, Home, Send};
pub use error::ApiError;
pub use info::describe;
pub use serve::serve;
pub use status::Status;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::channel::{Namespace, Namespaces};
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

/// The settings of the API.
#[derive(Clone)]
pub struct Options {
    /// Keys that open it. Secret.
    pub keys: Vec<String>,
    /// Without any key it is open to everybody but foreign web pages; otherwise, closed.
    pub open: bool,
    /// The page for a first look is served.
    pub page: bool,
    /// Longest request body, in bytes.
    pub body_bytes_max: usize,
    /// Channels and their options.
    pub namespaces: Namespaces,
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
    page: bool,
    metrics: Metrics,
}

impl Api {
    /// The API with the settings `options`.
    pub fn new(options: Options, parts: Parts) -> Arc<Api> {
        let status = parts.status;
        Arc::new(Api {
            metrics: Metrics::new(
                status.shards().to_vec(),
                status.bridge().cloned(),
                status.clock(),
            ),
            courier: parts.courier,
            status,
            identify: parts.identify,
            node: parts.node,
            namespaces: options.namespaces,
            access: access::Access::new(&options.keys, options.open),
            body_bytes_max: options.body_bytes_max,
            page: options.page,
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
