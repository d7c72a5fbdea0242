//! Protocols for clients with nothing but WebSocket. Messages are the payloads themselves
//! ([`Plain`]), or JSON objects with one payload each ([`Envelope`]), or are returned ([`Echo`]).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{ChannelView, DataType, Publication};
use crate::ids::Position;
use crate::protocol::json::{write_data, write_number, write_string};
use crate::protocol::{
    Codec, Command, MessageKind, MessageSink, OnGap, Push, Reply, Request, Subscribed,
};
use crate::reason::{ClientError, CloseReason, UnsubscribeReason};

/// Messages are payloads. Everything else that a client has to know is said by a close code.
pub(super) struct Plain;

impl Codec for Plain {
    fn decode<'m>(
        &self,
        _kind: MessageKind, // The session checks the payload against the namespace's type.
        message: &'m [u8],
    ) -> Result<(Request<'m>, &'m [u8]), CloseReason> {
        Ok(whole(Command::Publish { channel: "".into(), data: message }, message))
    }

    fn payload<'m>(
        &self,
        _data_type: DataType,
        message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, ClientError> {
        Ok(Cow::Borrowed(message))
    }

    fn encode_reply(
        &self,
        _id: u32,
        reply: &Reply<'_>,
        out: &mut impl MessageSink,
    ) -> Result<(), CloseReason> {
        match reply {
            Reply::Subscribed(subscribed) if is_unrecovered(subscribed) => {
                Err(CloseReason::InsufficientState)
            }
            Reply::Subscribed(Subscribed { channel, publications, .. }) => {
                self.encode_publications(channel, publications, out);
                Ok(())
            }
            other => silent(other),
        }
    }

    fn encode_push(&self, push: &Push<'_>, _out: &mut impl MessageSink) -> Result<(), CloseReason> {
        match push {
            // The client could not tell the payloads of one channel from those of another.
            Push::Subscribed(_) => Err(CloseReason::InternalError),
            Push::Unsubscribed { reason: UnsubscribeReason::Server, .. } => {
                Err(CloseReason::ForceDisconnect)
            }
            Push::Unsubscribed { reason: UnsubscribeReason::InsufficientState, .. }
            | Push::Gap { .. } => Err(CloseReason::InsufficientState),
        }
    }

    fn encode_publications(
        &self,
        channel: &ChannelView<'_>,
        publications: &[Arc<Publication>],
        out: &mut impl MessageSink,
    ) {
        let kind = match channel.data {
            DataType::Json | DataType::Text => MessageKind::Text,
            DataType::Binary => MessageKind::Binary,
        };
        for publication in publications {
            out.write(kind, &publication.data);
        }
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

/// Messages are JSON objects:
///
/// - `{"channel":..,"epoch":"..","offset":N}` when a subscription begins. The channel's next
///   message follows this position.
/// - `{"channel":..,"data":..,"offset":N,"epoch":".."}` for each publication.
/// - `{"channel":..,"gap":{"after":N,"next":M}}` in place of missed publications.
pub(super) struct Envelope;

impl Codec for Envelope {
    fn decode<'m>(
        &self,
        kind: MessageKind,
        message: &'m [u8],
    ) -> Result<(Request<'m>, &'m [u8]), CloseReason> {
        Plain.decode(kind, message)
    }

    fn payload<'m>(
        &self,
        _data_type: DataType,
        message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, ClientError> {
        Ok(Cow::Borrowed(message))
    }

    fn encode_reply(
        &self,
        _id: u32,
        reply: &Reply<'_>,
        out: &mut impl MessageSink,
    ) -> Result<(), CloseReason> {
        match reply {
            Reply::Subscribed(subscribed) => {
                if is_unrecovered(subscribed) {
                    // The last offset that the client has is unknown in this epoch.
                    let next = subscribed.position.offset.saturating_add(1);
                    write_gap(subscribed.channel.name, 0, next, out);
                }
                write_position(subscribed.channel.name, subscribed.position, out);
                self.encode_publications(&subscribed.channel, subscribed.publications, out);
                Ok(())
            }
            other => silent(other),
        }
    }

    fn encode_push(&self, push: &Push<'_>, out: &mut impl MessageSink) -> Result<(), CloseReason> {
        match *push {
            Push::Subscribed(subscribed) => {
                self.encode_reply(0, &Reply::Subscribed(subscribed), out)
            }
            Push::Unsubscribed { reason: UnsubscribeReason::Server, .. } => {
                Err(CloseReason::ForceDisconnect)
            }
            // The subscription continues, and a gap reports the missed publications.
            Push::Unsubscribed { reason: UnsubscribeReason::InsufficientState, .. } => Ok(()),
            Push::Gap { channel, after, next } => {
                write_gap(channel, after, next, out);
                Ok(())
            }
        }
    }

    fn encode_publications(
        &self,
        channel: &ChannelView<'_>,
        publications: &[Arc<Publication>],
        out: &mut impl MessageSink,
    ) {
        let mut front = br#"{"channel":"#.to_vec();
        write_string(channel.name, &mut front);
        front.extend_from_slice(br#","data":"#);
        let epoch = channel.epoch.to_string();
        for publication in publications {
            let rest = br#","offset":1000,"epoch":""}"#.len();
            let bytes = front.len() + publication.data.len() + rest;
            out.write_with(MessageKind::Text, bytes, |out| {
                out.extend_from_slice(&front);
                write_data(channel.data, &publication.data, out);
                out.extend_from_slice(br#","offset":"#);
                write_number(publication.offset, out);
                out.extend_from_slice(br#","epoch":"#);
                write_string(&epoch, out);
                out.push(b'}');
            });
        }
    }

    fn encode_ping(&self, _out: &mut impl MessageSink) -> bool {
        false
    }

    fn on_gap(&self) -> OnGap {
        OnGap::Notice
    }

    fn names_channels(&self) -> bool {
        true
    }
}

/// Writes a message which shows that the connection is alive. It has the maximum number of seconds
/// until the next one.
pub fn write_heartbeat(every: Duration, out: &mut impl MessageSink) {
    let seconds = every.as_secs() + u64::from(every.subsec_nanos() > 0);
    out.write(MessageKind::Text, format!(r#"{{"ping":{seconds}}}"#).as_bytes());
}

/// The server returns every message, for protocol test suites.
pub(super) struct Echo;

impl Codec for Echo {
    fn decode<'m>(
        &self,
        kind: MessageKind,
        message: &'m [u8],
    ) -> Result<(Request<'m>, &'m [u8]), CloseReason> {
        Ok(whole(Command::Echo { kind, data: message }, message))
    }

    fn payload<'m>(
        &self,
        _data_type: DataType,
        message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, ClientError> {
        Ok(Cow::Borrowed(message))
    }

    fn encode_reply(
        &self,
        _id: u32,
        reply: &Reply<'_>,
        out: &mut impl MessageSink,
    ) -> Result<(), CloseReason> {
        match *reply {
            Reply::Echo { kind, data } => {
                out.write(kind, data);
                Ok(())
            }
            ref other => silent(other),
        }
    }

    fn encode_push(
        &self,
        _push: &Push<'_>,
        _out: &mut impl MessageSink,
    ) -> Result<(), CloseReason> {
        Err(CloseReason::InternalError)
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

/// Returns a command that takes up all of `message`.
fn whole<'m>(command: Command<'m>, message: &'m [u8]) -> (Request<'m>, &'m [u8]) {
    (Request { id: 0, command }, &message[message.len()..])
}

fn is_unrecovered(subscribed: &Subscribed<'_>) -> bool {
    subscribed.was_recovering && !subscribed.recovered
}

/// Handles a reply for which there is no message. Clients notice success by its effects. An error
/// closes the connection.
fn silent(reply: &Reply<'_>) -> Result<(), CloseReason> {
    match reply {
        Reply::Connected(_) | Reply::Subscribed(_) | Reply::Unsubscribed | Reply::Published => {
            Ok(())
        }
        Reply::Error(error) => Err(error.close_reason()),
        // These protocols have no commands with such replies.
        Reply::History { .. } | Reply::Echo { .. } => Err(CloseReason::InternalError),
    }
}

fn write_gap(channel: &str, after: u64, next: u64, out: &mut impl MessageSink) {
    out.write_with(MessageKind::Text, channel.len(), |out| {
        out.extend_from_slice(br#"{"channel":"#);
        write_string(channel, out);
        out.extend_from_slice(br#","gap":{"after":"#);
        write_number(after, out);
        out.extend_from_slice(br#","next":"#);
        write_number(next, out);
        out.extend_from_slice(b"}}");
    });
}

/// Writes the position that the next message of the channel follows.
fn write_position(channel: &str, position: Position, out: &mut impl MessageSink) {
    out.write_with(MessageKind::Text, channel.len(), |out| {
        out.extend_from_slice(br#"{"channel":"#);
        write_string(channel, out);
        out.extend_from_slice(br#","epoch":"#);
        write_string(&position.epoch.to_string(), out);
        out.extend_from_slice(br#","offset":"#);
        write_number(position.offset, out);
        out.push(b'}');
    });
}

#[cfg(test)]
mod tests;
