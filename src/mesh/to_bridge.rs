//! Messages from shards and control to the bridge, the thread for Redis.

use super::{AppEvent, Publish, Ticket};
use crate::channel::ChannelName;

/// A message to the bridge.
#[derive(Debug)]
pub enum ToBridge {
    /// A message to the bus.
    Bus(ToBus),
    /// An event for the application.
    AppEvent(Box<AppEvent>),
    /// A request of control to other nodes.
    Cluster {
        /// The ticket of control for the answer.
        ticket: Ticket,
        /// The request.
        request: ClusterRequest,
    },
    /// The answer of control to a request of another node.
    Remote {
        /// The ticket of the bridge for the request.
        ticket: Ticket,
        /// The answer as JSON.
        body: Box<str>,
    },
}

/// A message to the bus, which orders publications in place of home shards.
#[derive(Debug)]
pub enum ToBus {
    /// Append this publication and return its position.
    Publish(Box<Publish>),
    /// Remove the history on all nodes, but keep the position.
    HistoryRemove {
        /// The channel.
        channel: ChannelName,
        /// The ticket of control for the answer.
        ticket: Ticket,
    },
    /// Ask Redis for the position of a channel. The sender is its home.
    Locate {
        /// The channel.
        channel: ChannelName,
    },
    /// Read the history of a channel before an offset from Redis. The sender is its home.
    ReadOlder {
        /// The channel.
        channel: ChannelName,
        /// The offset.
        before: u64,
    },
    /// Redis assigned a position of a channel for the second time. The sender is its home.
    Repeated {
        /// The channel.
        channel: ChannelName,
    },
}

impl From<ToBus> for ToBridge {
    fn from(message: ToBus) -> ToBridge {
        ToBridge::Bus(message)
    }
}

/// A request of control to other nodes.
#[derive(Debug)]
pub enum ClusterRequest {
    /// Return a description of the node.
    Describe,
    /// Carry out a call.
    Call(RemoteCall),
}

/// A call of a method of the API, which a node carries out for itself.
#[derive(Debug)]
pub struct RemoteCall {
    /// The name of the method.
    pub method: Box<str>,
    /// The parameters, as a JSON object.
    pub params: Box<str>,
}
