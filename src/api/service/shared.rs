//! The state that all functions of the service use.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::api::courier::Courier;
use crate::api::error::ApiError;
use crate::api::status::Status;
use crate::channel::Namespace;
use crate::ids::{ClientId, ConnectionId};
use crate::settings::Settings;

/// Maps a client id to its connection, if this node created the id. The connection may be closed.
pub type Identify = Box<dyn Fn(&ClientId) -> Option<ConnectionId> + Send + Sync>;

/// The names and address of this node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique id of this run of the node.
    pub uid: String,
    /// A readable name.
    pub name: String,
    /// The address for clients, with the port that the kernel chose. The demo page uses it. `None`
    /// if clients connect to Unix sockets only.
    pub client_address: Option<SocketAddr>,
}

/// The dependencies of the service other than the settings.
pub struct Parts {
    /// Sends requests to the shards.
    pub courier: Arc<Courier>,
    /// The state of the node.
    pub status: Arc<Status>,
    /// Finds the connection of a client id.
    pub identify: Identify,
    /// The names and address of this node.
    pub node: Node,
}

/// The service, on which all methods work.
pub struct Service {
    pub(in crate::api) parts: Parts,
    settings: Arc<Settings>,
}

impl Service {
    /// Creates the service of a node with these settings.
    pub(in crate::api) fn new(parts: Parts, settings: Arc<Settings>) -> Service {
        Service { parts, settings }
    }

    /// Returns the courier to the shards.
    pub(super) fn courier(&self) -> &Arc<Courier> {
        &self.parts.courier
    }

    /// Returns the connection of a client id, if this node created the id.
    pub(super) fn connection(&self, client: &str) -> Option<ConnectionId> {
        (self.parts.identify)(&client.parse().ok()?)
    }

    /// Returns the options of `channel`.
    ///
    /// # Errors
    /// 102 for an unknown namespace, 107 for an invalid name.
    pub(super) fn resolve(&self, channel: &str) -> Result<&Arc<Namespace>, ApiError> {
        if channel.is_empty() {
            return Err(ApiError::bad_request("channel is missing"));
        }
        self.settings.channel.namespaces.resolve(channel).map_err(ApiError::from)
    }
}
