//! Answers to requests, and their receivers.

use std::sync::Arc;

use crate::channel::{ChannelName, Publication};
use crate::ids::{ConnectionId, Position};
use crate::reason::ClientError;

/// A number with which control or the bridge finds the caller that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// The receiver of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A request of a client. It ends with its connection.
    Connection {
        /// The connection, which includes its shard.
        connection: ConnectionId,
        /// The number that the client gave to the request.
        request: u32,
        /// Whether the server keeps reading from the connection until the answer arrives.
        pipelined: bool,
    },
    /// A request of the control thread.
    Control(Ticket),
    /// A request of the bridge.
    Bridge(Ticket),
    /// No receiver.
    Nobody,
}

/// An answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// The publication is in the channel, at this position if clients see positions.
    Published(Option<Position>),
    /// The publication of an ingest entry was already in the channel.
    Repeated,
    /// A page of history.
    History {
        /// The channel.
        channel: ChannelName,
        /// The publications of the page.
        publications: Vec<Arc<Publication>>,
        /// Number of requested publications that did not fit.
        omitted: usize,
        /// The current position of the channel.
        top: Position,
    },
    /// The history was removed.
    HistoryRemoved,
    /// The request failed.
    Error(ClientError),
    /// A shard's part of the list of channels: names above the cursor in ascending order, each with
    /// its number of subscribers on the shard.
    Channels(Vec<(ChannelName, u32)>),
    /// Number of connections that the request concerned.
    Affected(usize),
    /// The replies of other nodes.
    Cluster(ClusterAnswer),
}

/// The replies of other nodes.
#[derive(Debug, Default)]
pub struct ClusterAnswer {
    /// Whether Redis can't be reached, so that no node was asked.
    pub away: bool,
    /// The replies of the nodes that replied, as JSON.
    pub bodies: Vec<Box<str>>,
    /// Names of living nodes that did not reply in time.
    pub silent: Vec<Box<str>>,
}
