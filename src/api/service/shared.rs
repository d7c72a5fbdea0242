//! What every function of the service uses.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::api::courier::Courier;
use crate::api::error::ApiError;
use crate::api::status::Status;
use crate::channel::Namespace;
use crate::ids::{ClientId, ConnectionId};
use crate::settings::Settings;

/// Which connection a client id means, if this node made the id. It may be gone.
pub type Identify = Box<dyn Fn(&ClientId) -> Option<ConnectionId> + Send + Sync>;

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

/// What the service needs beside the settings.
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

/// The service: what its functions work on.
pub struct Service {
    /// What it was given.
    pub(in crate::api) parts: Parts,
    settings: Arc<Settings>,
}

impl Service {
    /// The service of a node with these settings.
    pub(in crate::api) fn new(parts: Parts, settings: Arc<Settings>) -> Service {
        Service { parts, settings }
    }

    /// The way to the shards.
    pub(super) fn courier(&self) -> &Arc<Courier> {
        &self.parts.courier
    }

    /// The connection that a client id means, if this node made the id.
    pub(super) fn connection(&self, client: &str) -> Option<ConnectionId> {
        (self.parts.identify)(&client.parse().ok()?)
    }

    /// The options of `channel`.
    ///
    /// # Errors
    /// 102 for an unknown namespace, 107 for a name that can't be one.
    pub(super) fn resolve(&self, channel: &str) -> Result<&Arc<Namespace>, ApiError> {
        if channel.is_empty() {
            return Err(ApiError::bad_request("channel is missing"));
        }
        self.settings.channel.namespaces.resolve(channel).map_err(ApiError::from)
    }
}
