//! What every protocol has: a codec between its messages and the model.

use std::borrow::Cow;
use std::sync::Arc;

use super::message::{MessageKind, MessageSink};
use super::model::{Push, Reply, Request};
use crate::channel::{ChannelView, DataType, Publication};
use crate::reason::{ClientError, CloseReason};

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
