//! The model: commands, replies and events, in the terms of no protocol.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::message::MessageKind;
use crate::channel::{ChannelView, Publication};
use crate::ids::{ClientId, Position, Since};
use crate::reason::{ClientError, UnsubscribeReason};

/// A command, and the id under which its answer is expected (0: none is).
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'m> {
    /// Chosen by the client; 0 where the protocol has none.
    pub id: u32,
    /// What the client asks for.
    pub command: Command<'m>,
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'m> {
    /// Begin the session.
    Connect,
    /// Receive a channel's publications.
    Subscribe(Subscribe<'m>),
    /// Receive them no longer.
    Unsubscribe {
        /// The channel.
        channel: Cow<'m, str>,
    },
    /// Publish a payload, not yet checked against the channel's type.
    Publish {
        /// The channel, or empty where the session knows it (plain WebSocket). A protocol whose
        /// messages name their channel refuses an empty one.
        channel: Cow<'m, str>,
        /// The payload as it came.
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
        /// The payload as it came; empty if there is none.
        data: &'m [u8],
    },
    /// Come back unchanged.
    Echo {
        /// Text or binary, as it came.
        kind: MessageKind,
        /// The message.
        data: &'m [u8],
    },
}

impl Command<'_> {
    /// Whether the answer may hold publications of a history, and so be much longer than the
    /// command.
    pub fn asks_for_history(&self) -> bool {
        match self {
            Command::History(_) => true,
            Command::Subscribe(subscribe) => subscribe.recover.is_some(),
            _ => false,
        }
    }
}

/// A wish to receive a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe<'m> {
    /// The channel.
    pub channel: Cow<'m, str>,
    /// Where the client stands, if it wants what it missed.
    pub recover: Option<Since>,
    /// The client asks for a position.
    pub positioned: bool,
    /// The client asks for recovery.
    pub recoverable: bool,
    /// An unrecoverable position is an error (112), not a subscription without recovery.
    pub reject_unrecovered: bool,
    /// The client asks for something that needs a feature this server does not have (a channel
    /// type, a tags filter): the error to answer with.
    pub refused: Option<ClientError>,
}

/// A wish to read history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryQuery<'m> {
    /// The channel.
    pub channel: Cow<'m, str>,
    /// What part of it.
    pub page: HistoryPage,
}

/// A part of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// Most publications to return; 0 asks for the position only, a negative number for all.
    pub limit: i32,
    /// Begin after this position, or before it if `reverse`.
    pub since: Option<Since>,
    /// Newest first.
    pub reverse: bool,
}

impl HistoryPage {
    /// The newest publications, at most `count`.
    pub fn newest(count: usize) -> HistoryPage {
        let limit = i32::try_from(count).unwrap_or(i32::MAX);
        HistoryPage { limit, since: None, reverse: true }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Reply<'a> {
    /// The session has begun.
    Connected(Connected),
    /// The subscription has begun.
    Subscribed(Subscribed<'a>),
    /// The subscription has ended, or never was.
    Unsubscribed,
    /// The publication is in the channel.
    Published,
    /// A page of history.
    History {
        /// The channel, for its payloads' type.
        channel: ChannelView<'a>,
        /// The page.
        publications: &'a [Arc<Publication>],
        /// Where the channel stands.
        top: Position,
    },
    /// The request failed.
    Error(ClientError),
    /// A message that comes back.
    Echo {
        /// Text or binary.
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

/// What a client learns when its session begins.
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    /// The connection's public id.
    pub client: ClientId,
    /// Time between the protocol's own pings; none are sent if absent.
    pub ping: Option<Duration>,
    /// Whether the client must answer them.
    pub pong: bool,
}

/// What a client learns when its subscription begins.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the protocol's reply")]
pub struct Subscribed<'a> {
    /// The channel.
    pub channel: ChannelView<'a>,
    /// The client may recover from its position.
    pub recoverable: bool,
    /// The client is told when it misses something.
    pub positioned: bool,
    /// Recovery was asked for.
    pub was_recovering: bool,
    /// Recovery succeeded: `publications` is all that was missed.
    pub recovered: bool,
    /// What was missed; empty unless `recovered`.
    pub publications: &'a [Arc<Publication>],
    /// The position before `publications`, from which the client counts on.
    pub position: Position,
}

/// An event that nobody asked for.
#[derive(Clone, Copy, Debug)]
pub enum Push<'a> {
    /// The application has subscribed the client. What it missed follows.
    Subscribed(Subscribed<'a>),
    /// A subscription has ended.
    Unsubscribed {
        /// The channel.
        channel: &'a str,
        /// Why, and whether to subscribe again.
        reason: UnsubscribeReason,
    },
    /// Publications were missed.
    Gap {
        /// The channel.
        channel: &'a str,
        /// Offset of the last publication before the gap.
        after: u64,
        /// Offset of the first one after it.
        next: u64,
    },
}
