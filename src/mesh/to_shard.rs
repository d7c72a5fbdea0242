//! Messages to a shard about its own clients and local channels: from home shards, the bridge and
//! control.

use std::sync::Arc;
use std::time::Duration;

use super::{Answer, Ticket, ToHome};
use crate::channel::{ChannelName, Publication};
use crate::ids::{ConnectionId, Position, Since};
use crate::reason::ClientError;

/// A message to a shard with subscribers or clients.
#[derive(Debug)]
pub enum ToShard {
    /// The answer to [`ToHome::Subscribe`]. It stands in the queue exactly where the subscription
    /// begins: publications behind it are live, those before it are not for this connection.
    Subscribed(Box<Subscribed>),
    /// The answer to [`ToHome::Subscribe`] if the subscription can't be granted at present.
    Refused {
        /// The channel.
        channel: ChannelName,
        /// The connection that wanted to subscribe.
        connection: ConnectionId,
        /// The reason.
        error: ClientError,
    },
    /// Publications in the order of the channel, the next ones after all that were sent before.
    Live {
        /// The channel.
        channel: ChannelName,
        /// At least one, with contiguous offsets.
        publications: Vec<Arc<Publication>>,
    },
    /// Publications after `after` were dropped on the way to this shard.
    Gap {
        /// The channel.
        channel: ChannelName,
        /// The last offset sent before the gap.
        after: u64,
        /// The first offset after it.
        next: u64,
    },
    /// The channel stands elsewhere than the messages that were sent last lead to.
    Moved {
        /// The channel.
        channel: ChannelName,
        /// Its position.
        top: Position,
    },
    /// A channel that a client has asked for, or published to, is new.
    Created {
        /// The client's connection.
        connection: ConnectionId,
    },
    /// The answer to a request of a client.
    Answer {
        /// The client's connection.
        connection: ConnectionId,
        /// The client's number for the request.
        request: u32,
        /// Whether the connection is read on before the answer is there.
        pipelined: bool,
        /// The answer.
        answer: Answer,
    },
    /// A request of control to every shard.
    Control {
        /// Control's ticket for the answer.
        ticket: Ticket,
        /// The request.
        request: ControlRequest,
    },
}

/// Any message that a shard's thread receives. Both kinds are in one queue, because their order
/// matters: a subscription begins where its answer stands between live publications.
#[derive(Debug)]
pub enum ShardMail {
    /// For channels at home there.
    Home(ToHome),
    /// For its clients.
    Shard(ToShard),
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
    /// Where the channel stands: the next live publication has the offset after it.
    pub top: Position,
    /// What was missed, complete, where recovery was asked for and is possible; or the newest
    /// publications, where these were asked for.
    pub recovered: Option<Vec<Arc<Publication>>>,
}

/// What control asks of every shard. Each shard answers once, when it is done.
#[derive(Clone, Debug)]
pub enum ControlRequest {
    /// Name the channels with subscribers here.
    Channels {
        /// Glob that names must match; empty matches all.
        pattern: Box<str>,
        /// Only names above this one; empty begins at the first.
        after: Box<str>,
        /// Most names to return: the smallest ones.
        limit: usize,
    },
    /// Close connections.
    Disconnect {
        /// Which ones.
        target: Target,
        /// Connections to spare.
        whitelist: Vec<ConnectionId>,
        /// The code in the close frame.
        code: u16,
        /// The text in the close frame.
        text: Box<str>,
    },
    /// End subscriptions.
    Unsubscribe {
        /// Whose.
        target: Target,
        /// Of which channel; absent means of all.
        channel: Option<ChannelName>,
    },
    /// Subscribe connections, of protocols whose messages name their channel. The answer comes
    /// when all of these subscriptions have begun.
    Subscribe {
        /// Which ones.
        target: Target,
        /// To what.
        channel: ChannelName,
        /// Where they stand, if what they missed is wanted.
        recover: Option<Since>,
    },
    /// Close every connection with 3001, spread evenly over this time. No answer until done.
    Drain {
        /// Time for the last close, from now.
        over: Duration,
        /// When no connection lingers any longer for its peer's answer to the close, from now: a
        /// peer that is gone without a word must not delay the end.
        last_end: Duration,
    },
}

/// Connections that a request of the application means.
#[derive(Clone, Debug)]
pub struct Target {
    /// Those of this user; empty means anonymous ones.
    pub user: Box<str>,
    /// Only this one.
    pub connection: Option<ConnectionId>,
}
