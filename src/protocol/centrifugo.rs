//! Centrifugo's client protocol in its JSON form, which the `centrifuge` SDKs use. Line feeds
//! separate the commands of one message. Every reply and every publication is a message.
//!
//! Source: centrifugal/protocol `client.proto`, centrifugal/centrifuge `client.go`.

mod decode;
mod encode;

use std::borrow::Cow;
use std::sync::Arc;

use crate::channel::{ChannelView, DataType, Publication, payload_of_json};
use crate::protocol::{Codec, MessageKind, MessageSink, OnGap, Push, Reply, Request};
use crate::reason::{ClientError, CloseReason};

/// See the module.
pub(super) struct Centrifugo;

impl Codec for Centrifugo {
    fn decode<'m>(
        &self,
        _kind: MessageKind, // JSON in a binary message is accepted too.
        message: &'m [u8],
    ) -> Result<(Request<'m>, &'m [u8]), CloseReason> {
        decode::first_request(message)
    }

    fn payload<'m>(
        &self,
        data_type: DataType,
        message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, ClientError> {
        payload_of_json(data_type, message)
    }

    fn encode_reply(
        &self,
        id: u32,
        reply: &Reply<'_>,
        out: &mut impl MessageSink,
    ) -> Result<(), CloseReason> {
        encode::reply(id, reply, out)
    }

    fn encode_push(&self, push: &Push<'_>, out: &mut impl MessageSink) -> Result<(), CloseReason> {
        encode::push(push, out)
    }

    fn encode_publications(
        &self,
        channel: &ChannelView<'_>,
        publications: &[Arc<Publication>],
        out: &mut impl MessageSink,
    ) {
        encode::publications(channel, publications, out);
    }

    fn encode_ping(&self, out: &mut impl MessageSink) -> bool {
        out.write(MessageKind::Text, b"{}");
        true
    }
    fn on_gap(&self) -> OnGap {
        OnGap::Unsubscribe
    }

    fn names_channels(&self) -> bool {
        true
    }
}
