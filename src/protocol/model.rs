//! The model: commands, replies and events, in the terms of no protocol.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::message::MessageKind;
use crate::channel::{ChannelView, Publication};
use crate::ids::{ClientId, Position, Since};
use crate::reason::{ClientError, UnsubscribeReason};

/// A command of a client, with its id.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'m> {
    /// The id that the client has chosen for the reply. 0 means that it expects none, or that the
    /// protocol has no ids.
    pub id: u32,
    /// The command.
    pub command: Command<'m>,
}

/// The commands of clients.
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'m> {
    /// Begin the session.
    Connect(Connect<'m>),
    /// Begin a subscription to a channel.
    Subscribe(Subscribe<'m>),
    /// End the subscription to a channel.
    Unsubscribe {
        /// The channel.
        channel: Cow<'m, str>,
    },
    /// Publish a payload.
    Publish {
        /// The channel. It is empty in plain WebSocket, where the session knows the channel. A
        /// protocol whose messages name their channel refuses an empty name.
        channel: Cow<'m, str>,
        /// The payload as the client sent it, not yet checked against the channel's type.
        data: &'m [u8],
    },
    /// Read a page of a channel's history.
    History(HistoryQuery<'m>),
    /// The answer to the protocol's own ping.
    Pong,
    /// A method that this server answers with "not available" (108).
    Unavailable,
    /// A one-way message to the application.
    Send {
        /// The payload as the client sent it. It is empty if there is none.
        data: &'m [u8],
    },
    /// Return the message unchanged.
    Echo {
        /// The kind of the message.
        kind: MessageKind,
        /// The message.
        data: &'m [u8],
    },
}

impl Command<'_> {
    /// Whether the reply may have publications of a history, so that it may be much longer than the
    /// command.
    pub fn asks_for_history(&self) -> bool {
        match self {
            Command::History(_) => true,
            Command::Subscribe(subscribe) => subscribe.recover.is_some(),
            Command::Connect(connect) => {
                connect.resumed.iter().any(|resumed| resumed.recover.is_some())
            }
            _ => false,
        }
    }
}

/// A request to begin the session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connect<'m> {
    /// Whether the client presents a token.
    pub has_token: bool,
    /// The subscriptions of the application that the client had before its connection was lost.
    pub resumed: Vec<Resumed<'m>>,
}

/// A subscription of the application that a client wants back.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumed<'m> {
    /// The channel.
    pub channel: Cow<'m, str>,
    /// The client's last position, if it asks for the missed publications.
    pub recover: Option<Since>,
}

/// A request for a subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe<'m> {
    /// The channel.
    pub channel: Cow<'m, str>,
    /// The client's last position, if it asks for the missed publications.
    pub recover: Option<Since>,
    /// Whether the client asks for a position.
    pub positioned: bool,
    /// Whether the client wants to recover from this subscription later.
    pub recoverable: bool,
    /// Whether an unrecoverable position is an error (112). Otherwise the subscription begins
    /// without recovery.
    pub reject_unrecovered: bool,
    /// The error for a request that needs a feature this server does not have, such as a channel
    /// type or a tags filter.
    pub refused: Option<ClientError>,
}

/// A request for history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryQuery<'m> {
    /// The channel.
    pub channel: Cow<'m, str>,
    /// The requested page.
    pub page: HistoryPage,
}

/// A part of a history, as it is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// Maximum number of publications. 0 asks only for the position, and a negative number for all
    /// publications.
    pub limit: i32,
    /// The position after which the page begins, or before which it begins if `reverse` is set.
    pub since: Option<Since>,
    /// Whether the newest publications come first.
    pub reverse: bool,
}

impl HistoryPage {
    /// Returns the page of the newest publications, at most `count`.
    pub fn newest(count: usize) -> HistoryPage {
        let limit = i32::try_from(count).unwrap_or(i32::MAX);
        HistoryPage { limit, since: None, reverse: true }
    }
}

/// A reply to a command.
#[derive(Clone, Debug)]
pub enum Reply<'a> {
    /// The session has begun.
    Connected(Connected<'a>),
    /// The subscription has begun.
    Subscribed(Subscribed<'a>),
    /// There is no subscription any more, whether or not there was one.
    Unsubscribed,
    /// The publication is in the channel.
    Published,
    /// A page of history.
    History {
        /// The channel. Codecs need the type of its payloads.
        channel: ChannelView<'a>,
        /// The publications of the page.
        publications: &'a [Arc<Publication>],
        /// The current position of the channel.
        top: Position,
    },
    /// The request failed.
    Error(ClientError),
    /// The message of [`Command::Echo`].
    Echo {
        /// The kind of the message.
        kind: MessageKind,
        /// The message.
        data: &'a [u8],
    },
}

impl Reply<'_> {
    /// The publications in it, which are nearly all of a long reply.
    pub fn publications(&self) -> &[Arc<Publication>] {
        match self {
            Reply::Subscribed(Subscribed { publications, .. })
            | Reply::History { publications, .. } => publications,
            _ => &[],
        }
    }
}

/// The reply to a client whose session begins.
#[derive(Clone, Copy, Debug)]
pub struct Connected<'a> {
    /// The connection's public id.
    pub client: ClientId,
    /// Time between the protocol's own pings. `None` if none are sent.
    pub ping: Option<Duration>,
    /// Whether the client must answer pings.
    pub pong: bool,
    /// The subscriptions of the application that begin with the session.
    pub subs: &'a [Subscribed<'a>],
}

/// The reply to a client whose subscription begins.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each field is part of the protocol's reply")]
pub struct Subscribed<'a> {
    /// The channel.
    pub channel: ChannelView<'a>,
    /// Whether the client may recover from its position.
    pub recoverable: bool,
    /// Whether the client is told about missed publications.
    pub positioned: bool,
    /// Whether the client asked for recovery.
    pub was_recovering: bool,
    /// Whether recovery succeeded, so that `publications` has all missed publications.
    pub recovered: bool,
    /// The missed publications. Empty unless `recovered` is set.
    pub publications: &'a [Arc<Publication>],
    /// The position before `publications`. The client counts offsets from here.
    pub position: Position,
}

/// An event that is no reply to a command.
#[derive(Clone, Copy, Debug)]
pub enum Push<'a> {
    /// The application has subscribed the client.
    Subscribed(Subscribed<'a>),
    /// A subscription has ended.
    Unsubscribed {
        /// The channel.
        channel: &'a str,
        /// The reason. It also determines whether the client subscribes again.
        reason: UnsubscribeReason,
    },
    /// Publications were missed.
    Gap {
        /// The channel.
        channel: &'a str,
        /// Offset of the last publication before the gap.
        after: u64,
        /// Offset of the first publication after the gap.
        next: u64,
    },
}
