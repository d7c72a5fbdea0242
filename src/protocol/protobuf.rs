//! Centrifugo's client protocol in its Protobuf form, which this server refuses after the first
//! message. SDKs retry a refused upgrade for ever, and the newest ones also retry a connection that
//! is closed before they have sent `connect`.

use std::borrow::Cow;
use std::sync::Arc;

use crate::channel::{ChannelView, DataType, Publication};
use crate::protocol::{Codec, MessageKind, MessageSink, OnGap, Push, Reply, Request};
use crate::reason::{ClientError, CloseReason};

/// See the module. No session begins, so nothing is ever encoded.
pub(super) struct Protobuf;

impl Codec for Protobuf {
    fn decode<'m>(
        &self,
        _kind: MessageKind,
        _message: &'m [u8],
    ) -> Result<(Request<'m>, &'m [u8]), CloseReason> {
        Err(CloseReason::InappropriateProtocol)
    }

    fn payload<'m>(
        &self,
        _data_type: DataType,
        _message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, ClientError> {
        Err(ClientError::NotAvailable)
    }

    fn encode_reply(
        &self,
        _id: u32,
        _reply: &Reply<'_>,
        _out: &mut impl MessageSink,
    ) -> Result<(), CloseReason> {
        Err(CloseReason::InappropriateProtocol)
    }

    fn encode_push(&self, _: &Push<'_>, _: &mut impl MessageSink) -> Result<(), CloseReason> {
        Err(CloseReason::InappropriateProtocol)
    }

    fn encode_publications(
        &self,
        _channel: &ChannelView<'_>,
        _publications: &[Arc<Publication>],
        _out: &mut impl MessageSink,
    ) {
    }

    fn encode_ping(&self, _out: &mut impl MessageSink) -> bool {
        false
    }

    fn on_gap(&self) -> OnGap {
        OnGap::Close
    }

    fn names_channels(&self) -> bool {
        false
    }
}
