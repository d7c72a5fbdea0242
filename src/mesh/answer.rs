//! Answers to requests, and their receivers. Clients and the bridge get answers of types of their
//! own, so that the compiler proves that they can't get any other.

use std::sync::Arc;

use crate::channel::{ChannelName, Publication};
use crate::ids::{ConnectionId, Position};
use crate::reason::ClientError;

/// A number with which control or the bridge finds the caller that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// The receiver of the answer to a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client. The request ends with its connection.
    Connection {
        /// The connection, which includes its shard.
        connection: ConnectionId,
        /// The number that the client gave to the request.
        request: u32,
        /// Whether the server keeps reading from the connection until the answer arrives.
        pipelined: bool,
    },
    /// The control thread.
    Control(Ticket),
    /// The bridge. It only asks the bus.
    Bridge(Ticket),
    /// No receiver.
    Nobody,
}

/// The receiver of a page of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A client. The request ends with its connection.
    Connection {
        /// The connection, which includes its shard.
        connection: ConnectionId,
        /// The number that the client gave to the request.
        request: u32,
    },
    /// The control thread.
    Control(Ticket),
}

/// A publication that is in its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The position, if clients see positions of the channel.
    pub position: Option<Position>,
    /// Whether it is the publication of an ingest entry and was already in the channel.
    pub repeated: bool,
}

/// A page of history.
#[derive(Debug)]
pub struct Page {
    /// The channel.
    pub channel: ChannelName,
    /// The publications of the page.
    pub publications: Vec<Arc<Publication>>,
    /// Number of requested publications that did not fit.
    pub omitted: usize,
    /// The current position of the channel.
    pub top: Position,
}

/// An answer to a request of control.
#[derive(Debug)]
pub enum Answer {
    /// The publication is in the channel, at this position if clients see positions.
    Published(Option<Position>),
    /// A page of history.
    Page(Page),
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

impl From<Result<Published, ClientError>> for Answer {
    fn from(result: Result<Published, ClientError>) -> Answer {
        result.map_or_else(Answer::Error, |published| Answer::Published(published.position))
    }
}

impl From<Result<Page, ClientError>> for Answer {
    fn from(page: Result<Page, ClientError>) -> Answer {
        page.map_or_else(Answer::Error, Answer::Page)
    }
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
