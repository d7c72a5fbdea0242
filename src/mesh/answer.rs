//! Answers to requests, and who waits for them.

use std::sync::Arc;

use crate::channel::{ChannelName, Publication};
use crate::ids::{ConnectionId, Position};
use crate::reason::ClientError;

/// Control's or the bridge's number for a request of its own, so that it finds the waiting caller
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client's request. It is gone if the connection is.
    Connection {
        /// The connection, and so the shard to answer to.
        connection: ConnectionId,
        /// The client's number for the request.
        request: u32,
        /// Whether the connection goes on to be read before the answer is there.
        pipelined: bool,
    },
    /// A request of the control thread.
    Control(Ticket),
    /// A request of the bridge's own.
    Bridge(Ticket),
    /// Nobody waits.
    Nobody,
}

/// What an asker gets.
#[derive(Debug)]
pub enum Answer {
    /// The publication is in the channel, at this position if the channel keeps one for clients.
    Published(Option<Position>),
    /// The publication of an ingested entry was in the channel before.
    Repeated,
    /// A page of history.
    History {
        /// The channel.
        channel: ChannelName,
        /// The page.
        publications: Vec<Arc<Publication>>,
        /// Number of publications that the page asks for and that did not fit.
        omitted: usize,
        /// Where the channel stands.
        top: Position,
    },
    /// The history is forgotten.
    HistoryRemoved,
    /// The request failed.
    Error(ClientError),
    /// A shard's part of the list of channels: names above the cursor in ascending order, with
    /// the number of the shard's subscribers.
    Channels(Vec<(ChannelName, u32)>),
    /// How many connections the request concerned.
    Affected(usize),
    /// What other nodes say.
    Cluster(ClusterAnswer),
}

/// What other nodes say.
#[derive(Debug, Default)]
pub struct ClusterAnswer {
    /// Redis can't be reached, so nobody was asked.
    pub away: bool,
    /// One answer, JSON, of each node that gave one.
    pub bodies: Vec<Box<str>>,
    /// Names of nodes that live and did not answer in time.
    pub silent: Vec<Box<str>>,
}
