//! Messages to a shard about its clients and local channels, from home shards, the bridge and
//! control.

use std::sync::Arc;
use std::time::Duration;

use super::{Page, Ticket, ToHome};
use crate::channel::{ChannelName, Glob, Publication};
use crate::ids::{ConnectionId, Position, Since};
use crate::reason::ClientError;

/// A message to a shard with subscribers or clients.
#[derive(Debug)]
pub enum ToShard {
    /// The answer to [`ToHome::Subscribe`]. Its place in the queue is the beginning of the
    /// subscription: the connection receives publications after it, and not those before it.
    Subscribed(Box<Subscribed>),
    /// The answer to [`ToHome::Subscribe`] if the subscription can't be granted at the moment.
    Refused {
        /// The channel.
        channel: ChannelName,
        /// The connection that asked for the subscription.
        connection: ConnectionId,
        /// The reason.
        error: ClientError,
    },
    /// Publications in the order of the channel, directly after all earlier ones.
    Live {
        /// The channel.
        channel: ChannelName,
        /// At least one publication, with contiguous offsets.
        publications: Vec<Arc<Publication>>,
    },
    /// Publications after `after` were dropped on the way to this shard.
    Gap {
        /// The channel.
        channel: ChannelName,
        /// The last offset sent before the gap.
        after: u64,
        /// The first offset after the gap.
        next: u64,
    },
    /// The position of the channel is not the one that follows from the last messages.
    Moved {
        /// The channel.
        channel: ChannelName,
        /// The position of the channel.
        top: Position,
    },
    /// A client created a channel, by a request or a publication.
    Created {
        /// The client's connection.
        connection: ConnectionId,
    },
    /// The answer to a publication of a client.
    Published {
        /// The client's connection.
        connection: ConnectionId,
        /// The number that the client gave to the request.
        request: u32,
        /// Whether the server keeps reading from the connection until the answer arrives.
        pipelined: bool,
        /// Whether the publication is in the channel.
        result: Result<(), ClientError>,
    },
    /// The answer to a client that asked for history.
    Page {
        /// The client's connection.
        connection: ConnectionId,
        /// The number that the client gave to the request.
        request: u32,
        /// The page.
        page: Result<Page, ClientError>,
    },
}

/// Any message to the thread of a shard. All kinds are in one queue because their order matters:
/// the place of the answer among live publications is the beginning of a subscription.
#[derive(Debug)]
pub enum ShardMail {
    /// A message for channels whose home is this shard.
    Home(ToHome),
    /// A message for clients of this shard.
    Shard(ToShard),
    /// A request of control.
    Control {
        /// The ticket of control for the answer.
        ticket: Ticket,
        /// The request.
        request: ControlRequest,
    },
}

impl From<ToHome> for ShardMail {
    fn from(message: ToHome) -> ShardMail {
        ShardMail::Home(message)
    }
}

impl From<ToShard> for ShardMail {
    fn from(message: ToShard) -> ShardMail {
        ShardMail::Shard(message)
    }
}

/// See [`ToShard::Subscribed`].
#[derive(Debug)]
pub struct Subscribed {
    /// The channel.
    pub channel: ChannelName,
    /// The connection that subscribed.
    pub connection: ConnectionId,
    /// The position of the channel. The next live publication has the next offset.
    pub top: Position,
    /// All missed publications, if recovery was requested and is possible; or the newest
    /// publications, if these were requested.
    pub recovered: Option<Vec<Arc<Publication>>>,
}

/// A request of control to shards. Each shard answers once, when it is done.
#[derive(Clone, Debug)]
pub enum ControlRequest {
    /// List the channels with subscribers on this shard.
    Channels {
        /// The pattern that names must match.
        pattern: Glob,
        /// Only names after this one; an empty one begins at the first.
        after: Box<str>,
        /// Maximum number of names to return, beginning with the smallest.
        limit: usize,
    },
    /// Close connections.
    Disconnect {
        /// The connections.
        target: Target,
        /// Connections that stay open.
        whitelist: Vec<ConnectionId>,
        /// The code in the close frame.
        code: u16,
        /// The text in the close frame.
        text: Box<str>,
    },
    /// End subscriptions.
    Unsubscribe {
        /// The connections.
        target: Target,
        /// The channel, or `None` for all channels.
        channel: Option<ChannelName>,
    },
    /// Subscribe connections. Only protocols whose messages name their channel support this. The
    /// answer is sent when all of these subscriptions have begun.
    Subscribe {
        /// The connections.
        target: Target,
        /// The channel.
        channel: ChannelName,
        /// The last position of the clients, if missed publications are requested.
        recover: Option<Since>,
    },
    /// Close all connections with 3001, spread evenly over this time. The answer is sent at the
    /// end.
    Drain {
        /// Time from now until the last close.
        over: Duration,
        /// Time from now after which no connection waits for the close frame of its peer, so that a
        /// dead peer does not delay the end.
        last_end: Duration,
    },
}

/// The connections of a request of the application.
#[derive(Clone, Debug)]
pub struct Target {
    /// The user of the connections; empty means anonymous ones.
    pub user: Box<str>,
    /// If set, only this connection.
    pub connection: Option<ConnectionId>,
}
