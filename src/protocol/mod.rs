//! Client protocols: one model of commands and events, and one thin pure codec for each protocol.
//!
//! A codec knows the payloads of messages. It knows no state: permissions and the order of
//! commands are the session's business (`shard::session`). It knows no framing either: it writes to
//! a `MessageSink`, and `wire` makes frames of the messages.
//!
//! To add a protocol, write a `Codec`, name it in `Protocol` and in `wire::Wire::of`.

mod centrifugo;
mod plain;
mod json;
mod message;
mod publish;

pub(crate) use json::write_publication;
pub use message::{MessageKind, MessageSink};
pub(crate) use plain::write_heartbeat;
pub use publish::PublishParams;
pub(crate) use publish::{boxed_key, boxed_tags, decode_base64, or_default, read_params};

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{ChannelView, DataType, Publication};
use crate::ids::{ClientId, Position, Since};
use crate::reason::{ClientError, CloseReason, UnsubscribeReason};

/// The protocols, each a language of its own. Its [`Codec`] is that of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// Centrifugo's client protocol in its JSON form.
    Centrifugo,
    /// WebSocket messages that are the payloads themselves.
    Plain,
    /// WebSocket messages that wrap payload, channel and position in JSON.
    Envelope,
    /// Every message comes back, for protocol test suites.
    Echo,
}

impl Protocol {
    /// Number of protocols, for tables with a place for each.
    pub const COUNT: usize = 4;
    /// Every protocol, in the order of its number.
    pub const ALL: [Protocol; Self::COUNT] =
        [Protocol::Centrifugo, Protocol::Plain, Protocol::Envelope, Protocol::Echo];

    /// Value of the metrics' `protocol` label.
    pub const fn label(self) -> &'static str {
        match self {
            Protocol::Centrifugo => "centrifugo",
            Protocol::Plain => "plain",
            Protocol::Envelope => "envelope",
            Protocol::Echo => "echo",
        }
    }
}

/// Translates between a protocol's messages and the model. Pure: a panic in `decode` ends one
/// connection and nothing else.
pub trait Codec {
    /// Takes the first command off a message; the rest is given back and offered again once the
    /// command has been carried out, so commands of one message run in order.
    ///
    /// # Errors
    /// The reason to close the connection with: what it sent can't be understood.
    fn decode<'m>(
        &self,
        kind: MessageKind,
        message: &'m [u8],
    ) -> Result<(Request<'m>, &'m [u8]), CloseReason>;

    /// The payload that a client's message means in a channel of this type. What it is has still
    /// to be checked.
    ///
    /// # Errors
    /// `BadRequest` if the protocol can't carry the type in this form.
    fn payload<'m>(
        &self,
        data_type: DataType,
        message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, ClientError>;

    /// Writes the answer to request `id` to `out`.
    ///
    /// # Errors
    /// The reason to close with, where the protocol has no word for this answer.
    fn encode_reply(
        &self,
        id: u32,
        reply: &Reply<'_>,
        out: &mut impl MessageSink,
    ) -> Result<(), CloseReason>;

    /// Writes an event that nobody asked for to `out`.
    ///
    /// # Errors
    /// The reason to close with, where the protocol has no word for this event.
    fn encode_push(&self, push: &Push<'_>, out: &mut impl MessageSink) -> Result<(), CloseReason>;

    /// Writes `publications` to `out`, a message each: every subscriber of this protocol gets the
    /// same ones.
    fn encode_publications(
        &self,
        channel: &ChannelView<'_>,
        publications: &[Arc<Publication>],
        out: &mut impl MessageSink,
    );

    /// Writes the protocol's own ping. Returns false if it has none: then the framing's serves.
    fn encode_ping(&self, out: &mut impl MessageSink) -> bool;

    /// What a subscriber that wants to know is told when publications were missed.
    fn on_gap(&self) -> OnGap;

    /// Whether messages name their channel, so that a client knows the channels that it was
    /// subscribed to by the application.
    fn names_channels(&self) -> bool;
}

/// Calls the codec of a protocol. Codecs can't be `dyn`, because they are generic over the sink: a
/// virtual call for each message would cost as much as a short message.
macro_rules! with_codec {
    ($protocol:expr, $codec:ident => $call:expr) => {
        match $protocol {
            Protocol::Centrifugo => {
                let $codec = centrifugo::Centrifugo;
                $call
            }
            Protocol::Plain => {
                let $codec = plain::Plain;
                $call
            }
            Protocol::Envelope => {
                let $codec = plain::Envelope;
                $call
            }
            Protocol::Echo => {
                let $codec = plain::Echo;
                $call
            }
        }
    };
}

impl Codec for Protocol {
    fn decode<'m>(
        &self,
        kind: MessageKind,
        message: &'m [u8],
    ) -> Result<(Request<'m>, &'m [u8]), CloseReason> {
        with_codec!(self, codec => codec.decode(kind, message))
    }

    fn payload<'m>(
        &self,
        data_type: DataType,
        message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, ClientError> {
        with_codec!(self, codec => codec.payload(data_type, message))
    }

    fn encode_reply(
        &self,
        id: u32,
        reply: &Reply<'_>,
        out: &mut impl MessageSink,
    ) -> Result<(), CloseReason> {
        with_codec!(self, codec => codec.encode_reply(id, reply, out))
    }

    fn encode_push(&self, push: &Push<'_>, out: &mut impl MessageSink) -> Result<(), CloseReason> {
        with_codec!(self, codec => codec.encode_push(push, out))
    }

    fn encode_publications(
        &self,
        channel: &ChannelView<'_>,
        publications: &[Arc<Publication>],
        out: &mut impl MessageSink,
    ) {
        with_codec!(self, codec => codec.encode_publications(channel, publications, out));
    }

    fn encode_ping(&self, out: &mut impl MessageSink) -> bool {
        with_codec!(self, codec => codec.encode_ping(out))
    }

    fn on_gap(&self) -> OnGap {
        with_codec!(self, codec => codec.on_gap())
    }

    fn names_channels(&self) -> bool {
        with_codec!(self, codec => codec.names_channels())
    }
}

/// See [`Codec::on_gap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// A notice, [`Push::Gap`]; the subscription goes on.
    Notice,
    /// The subscription ends with "insufficient state": the client subscribes again and recovers.
    Unsubscribe,
    /// The protocol has no word for it: the connection closes with "insufficient state".
    Close,
}

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
