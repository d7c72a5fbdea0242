//! Messages to the bridge, the thread that speaks to Redis: from shards and control.

use super::{AppEvent, Asker, Publish, Ticket};
use crate::channel::ChannelName;

/// A message to the bridge.
#[derive(Debug)]
pub enum ToBridge {
    /// For the bus.
    Bus(ToBus),
    /// An event for the application.
    AppEvent(Box<AppEvent>),
    /// A request of control to other nodes.
    Cluster {
        /// Control's ticket for the answer.
        ticket: Ticket,
        /// The request.
        request: ClusterRequest,
    },
    /// Control's answer to a request of another node.
    Remote {
        /// The bridge's ticket of the request.
        ticket: Ticket,
        /// The answer, JSON.
        body: Box<str>,
    },
}

/// A message to the bus, which orders publications in place of home shards.
#[derive(Debug)]
pub enum ToBus {
    /// Append this publication, and answer with its position.
    Publish(Box<Publish>),
    /// Have all nodes forget the history, keep the position.
    HistoryRemove {
        /// The channel.
        channel: ChannelName,
        /// Whom to answer.
        asker: Asker,
    },
    /// Find out the position of a channel. The sender is its home.
    Locate {
        /// The channel.
        channel: ChannelName,
    },
    /// Read the part of a channel's history before an offset that Redis keeps. The sender is its
    /// home.
    ReadOlder {
        /// The channel.
        channel: ChannelName,
        /// The offset.
        before: u64,
    },
    /// A channel was given a place that it has had before. The sender is its home.
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

/// What control asks of other nodes.
#[derive(Debug)]
pub enum ClusterRequest {
    /// Describe yourselves.
    Describe,
    /// Carry this out.
    Call(RemoteCall),
}

/// A method of the API, to be carried out by one node for itself.
#[derive(Debug)]
pub struct RemoteCall {
    /// Its name.
    pub method: Box<str>,
    /// Its parameters, a JSON object.
    pub params: Box<str>,
}
