//! Client protocols: one model of commands and events, and one thin pure codec for each protocol.
//!
//! A codec knows the payloads of messages. It knows no state: permissions and the order of
//! commands are the session's business (`shard::session`). It knows no framing either: it writes to
//! a `MessageSink`, and `wire` makes frames of the messages.
//!
//! To add a protocol, write a `Codec`, name it in `Protocol` and in `wire::Wire::of`.

mod centrifugo;
mod protobuf;
mod plain;
mod codec;
mod model;
mod json;
mod message;
mod publish;

pub use codec::{Codec, OnGap};
pub(crate) use json::write_publication;
pub use message::{MessageKind, MessageSink};
pub use model::{
    Command, Connect, Connected, HistoryPage, HistoryQuery, Push, Reply, Request, Resumed,
    Subscribe, Subscribed,
};
pub(crate) use plain::write_heartbeat;
pub use publish::PublishParams;
pub(crate) use publish::{boxed_key, boxed_tags, decode_base64, or_default, read_params};

use std::borrow::Cow;
use std::sync::Arc;

use crate::channel::{ChannelView, DataType, Publication};
use crate::reason::{ClientError, CloseReason};

/// The client protocols. Each has a codec, and `Protocol` is a [`Codec`] that calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// Centrifugo's client protocol in its JSON form.
    Centrifugo,
    /// Centrifugo's client protocol in its Protobuf form, whose clients are refused.
    Protobuf,
    /// WebSocket messages that are the payloads themselves.
    Plain,
    /// WebSocket messages that wrap payload, channel and position in JSON.
    Envelope,
    /// The server returns every message, for protocol test suites.
    Echo,
}

impl Protocol {
    /// Number of protocols, for tables with a place for each.
    pub const COUNT: usize = 5;
    /// Every protocol, in the order of its number.
    pub const ALL: [Protocol; Self::COUNT] = [
        Protocol::Centrifugo,
        Protocol::Protobuf,
        Protocol::Plain,
        Protocol::Envelope,
        Protocol::Echo,
    ];

    /// Returns the value of the metrics' label `protocol`.
    pub const fn label(self) -> &'static str {
        match self {
            Protocol::Centrifugo => "centrifugo",
            Protocol::Protobuf => "protobuf",
            Protocol::Plain => "plain",
            Protocol::Envelope => "envelope",
            Protocol::Echo => "echo",
        }
    }
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
            Protocol::Protobuf => {
                let $codec = protobuf::Protobuf;
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
