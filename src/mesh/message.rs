//! What crosses threads: owned, immutable messages. Dropping one in any queue releases all of it.

use std::sync::Arc;
use std::time::Duration;

use super::Event;
use crate::channel::{ChannelName, Publication};
use crate::ids::{ConnectionId, Epoch, Moment, Position, ShardId, Since};
use crate::protocol::HistoryPage;
use crate::reason::ClientError;

/// A message from one thread to another. The receiver of the first five is the channel's home
/// shard (of `Publish` and `HistoryRemove` the bridge, if there is a bus); of the next nine too,
/// which come from the bridge, but for `Repeated`, `Locate` and `ReadOlder`, which go to it; of the
/// next six a shard with subscribers or clients, of `Answer` whoever asked.
#[derive(Debug)]
pub enum Message {
    /// Order this publication, keep it, send it on, answer with its position.
    Publish(Box<Publish>),
    /// Count the sender as interested, and answer with what was missed.
    Subscribe(Box<Subscribe>),
    /// The sender has no subscriber any more.
    Leave {
        /// The sender.
        shard: ShardId,
        /// The channel.
        channel: ChannelName,
    },
    /// Read a page of history.
    History(Box<History>),
    /// Forget the history, keep the position.
    HistoryRemove {
        /// The channel.
        channel: ChannelName,
        /// Whom to answer.
        asker: Asker,
    },

    /// Publications as the bus orders them.
    Read {
        /// The channel.
        channel: ChannelName,
        /// The channel's epoch.
        epoch: Epoch,
        /// At least one. Offsets are contiguous; 0 is outside of the channel's order.
        publications: Vec<Arc<Publication>>,
    },
    /// All has been read that the bus had when this node started.
    Loaded,
    /// Channels of a stream of the bus may have missed something.
    Adrift {
        /// The stream.
        stream: usize,
        /// How many there are.
        streams: usize,
    },
    /// The bridge reads a stream of the bus so late that new subscribers are to wait for it, or in
    /// time again.
    Late {
        /// The stream.
        stream: usize,
        /// How many there are.
        streams: usize,
        /// Whether it is late from now on.
        late: bool,
    },
    /// Publications that the bus has ordered were dropped on the way to the channel's home.
    Lost {
        /// The channel.
        channel: ChannelName,
    },
    /// A channel was given a place that it has had before. The sender is its home.
    Repeated {
        /// The channel.
        channel: ChannelName,
    },
    /// Find out where a channel stands. The sender is its home.
    Locate {
        /// The channel.
        channel: ChannelName,
    },
    /// Read what Redis keeps of a channel's history before an offset. The sender is its home.
    ReadOlder {
        /// The channel.
        channel: ChannelName,
        /// The offset.
        before: u64,
    },
    /// What Redis keeps of a channel's history.
    Older {
        /// The channel.
        channel: ChannelName,
        /// The offset before which was asked for.
        before: u64,
        /// What there is; absent if that can't be known at present.
        found: Option<Found>,
    },
    /// Where a channel stands now that everything before has been read.
    Located {
        /// The channel.
        channel: ChannelName,
        /// Its position; absent if that can't be known at present.
        position: Option<Position>,
    },

    /// The answer to `Subscribe`. It stands in the queue exactly where the subscription begins:
    /// what follows is live, what came before is not for this connection.
    Subscribed(Box<Subscribed>),
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

    /// The channel stands elsewhere than what was sent last leads to.
    Moved {
        /// The channel.
        channel: ChannelName,
        /// Where it stands.
        top: Position,
    },
    /// The answer to `Subscribe` if it can't be granted at present.
    Refused {
        /// The channel.
        channel: ChannelName,
        /// The connection that wanted to subscribe.
        connection: ConnectionId,
        /// Why not.
        error: ClientError,
    },

    /// A channel that a client has asked for, or published to, is new.
    Created {
        /// The client's connection.
        connection: ConnectionId,
    },
    /// The answer to a request of the same asker.
    Answer {
        /// Who asked.
        asker: Asker,
        /// What it gets.
        answer: Answer,
    },
    /// Something happened that the application wants to know. The receiver is the bridge.
    Event(Box<Event>),
    /// A request of control to other nodes. The receiver is the bridge.
    Cluster {
        /// Control's ticket for the answer.
        ticket: Ticket,
        /// What is asked.
        request: ClusterRequest,
    },
    /// A request of another node, from the bridge to control, which answers the bridge.
    Remote {
        /// The bridge's ticket for the answer.
        ticket: Ticket,
        /// What is asked.
        call: RemoteCall,
    },
    /// A request of control to every shard.
    Control {
        /// Control's ticket for the answer.
        ticket: Ticket,
        /// What is to be done.
        request: ControlRequest,
    },
}

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

/// See [`Message::Publish`].
#[derive(Debug)]
pub struct Publish {
    /// The channel.
    pub channel: ChannelName,
    /// The publication, checked, with offset 0.
    pub publication: Publication,
    /// Do not keep it.
    pub skip_history: bool,
    /// Answer a repeat of this key with the first position and deliver it once.
    pub idempotency_key: Option<Box<str>>,
    /// Whom to answer.
    pub asker: Asker,
}

/// See [`Message::Subscribe`].
#[derive(Debug)]
pub struct Subscribe {
    /// The channel.
    pub channel: ChannelName,
    /// The connection that subscribes.
    pub connection: ConnectionId,
    /// Where it stands, if it recovers.
    pub recover: Option<Since>,
    /// Number of the newest publications that it wants first, if it does not recover.
    pub last: usize,
    /// Whether the home shard has made sure that it is not behind that.
    pub confirmed: bool,
    /// Since when its client has waited for the bus, also with requests before this one.
    pub unserved: Option<Moment>,
}

/// See [`Message::Subscribed`].
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

/// See [`Message::Older`].
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The channel's epoch.
    pub epoch: Epoch,
    /// Publications, the newest first, each with the time that it is still kept.
    pub publications: Vec<(Duration, Arc<Publication>)>,
    /// Whether there are none before these.
    pub complete: bool,
}

/// See [`Message::History`].
#[derive(Debug)]
pub struct History {
    /// The channel.
    pub channel: ChannelName,
    /// What part of its history.
    pub page: HistoryPage,
    /// Maximum number of publications to return, however many the page asks for.
    pub publications_max: usize,
    /// Maximum number of bytes that the publications may cost, unless a single one costs more.
    pub bytes_max: usize,
    /// Whether the answer may be what the home shard has read. If not, it first makes sure that it
    /// has read everything that the bus had acknowledged before.
    pub confirmed: bool,
    /// Since when its client has waited for the bus, also with requests before this one.
    pub unserved: Option<Moment>,
    /// Whom to answer.
    pub asker: Asker,
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
    /// What control has to say to another node.
    Remote(Box<str>),
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
        over: std::time::Duration,
        /// Longest time that a connection may linger for its peer's answer to the close, if that is
        /// less than usual: a peer that is gone without a word must not delay the end.
        linger: std::time::Duration,
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
