//! The interface of all protocols: a codec between their messages and the model.

use std::borrow::Cow;
use std::sync::Arc;

use super::message::{MessageKind, MessageSink};
use super::model::{Push, Reply, Request};
use crate::channel::{ChannelView, DataType, Publication};
use crate::reason::{ClientError, CloseReason};

/// Translates between a protocol's messages and the model. A codec has no state, so a panic in
/// `decode` ends one connection and damages nothing else.
pub trait Codec {
    /// Reads the first command of a message, and returns it with the rest of the message. The
    /// caller passes the rest when it has carried out the command, because the commands of one
    /// message run in order.
    ///
    /// # Errors
    /// The reason for closing the connection, if the message can't be understood.
    fn decode<'m>(
        &self,
        kind: MessageKind,
        message: &'m [u8],
    ) -> Result<(Request<'m>, &'m [u8]), CloseReason>;

    /// Returns the payload that a client's message has in a channel of this type. The caller still
    /// has to check it.
    ///
    /// # Errors
    /// `BadRequest` if the protocol can't carry the type in this form.
    fn payload<'m>(
        &self,
        data_type: DataType,
        message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, ClientError>;

    /// Writes the reply to request `id` to `out`.
    ///
    /// # Errors
    /// The reason for closing the connection, if the protocol has no message for this reply.
    fn encode_reply(
        &self,
        id: u32,
        reply: &Reply<'_>,
        out: &mut impl MessageSink,
    ) -> Result<(), CloseReason>;

    /// Writes an event that is no reply to `out`.
    ///
    /// # Errors
    /// The reason for closing the connection, if the protocol has no message for this event.
    fn encode_push(&self, push: &Push<'_>, out: &mut impl MessageSink) -> Result<(), CloseReason>;

    /// Writes `publications` to `out`, one message for each. The messages have nothing that depends
    /// on a connection, because all subscribers with this protocol share them.
    fn encode_publications(
        &self,
        channel: &ChannelView<'_>,
        publications: &[Arc<Publication>],
        out: &mut impl MessageSink,
    );

    /// Writes the protocol's own ping. Returns false if it has none, so that the ping of the
    /// framing has to be used.
    fn encode_ping(&self, out: &mut impl MessageSink) -> bool;

    /// Returns how a subscriber that asked for notices is told about missed publications.
    fn on_gap(&self) -> OnGap;

    /// Whether messages name their channel. Otherwise the application can't subscribe a client,
    /// which could not tell the channels apart.
    fn names_channels(&self) -> bool;
}

/// See [`Codec::on_gap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// By a notice, [`Push::Gap`]. The subscription continues.
    Notice,
    /// By the end of the subscription with "insufficient state". The client subscribes again and
    /// recovers.
    Unsubscribe,
    /// By the end of the connection with "insufficient state", because the protocol has no message
    /// for a gap.
    Close,
}
