//! Reads commands from JSON. Values are skipped or borrowed, and none is built, so deep nesting
//! costs no stack.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

use crate::ids::{Since, SinceEpoch};
use crate::protocol::{Command, Connect, HistoryPage, HistoryQuery, Request, Resumed, Subscribe};
use crate::reason::{ClientError, CloseReason};

/// Reads the first line of `message`, and returns the rest with it. A line feed after the last
/// command begins no further line.
///
/// # Errors
/// `BadRequest` if the line is empty, no JSON object, or no command.
pub(super) fn first_request(message: &[u8]) -> Result<(Request<'_>, &[u8]), CloseReason> {
    let (line, rest) = match memchr::memchr(b'\n', message) {
        Some(end) => (&message[..end], &message[end + 1..]),
        None => (message, &message[message.len()..]),
    };
    let line = std::str::from_utf8(line).map_err(|_| CloseReason::BadRequest)?;
    let raw: RawCommand<'_> = object(line)?;
    Ok((Request { id: raw.id, command: raw.command()? }, rest))
}

/// Reads an object. Derived readers would also accept an array, as the fields in their order.
fn object<'m, T: Deserialize<'m>>(json: &'m str) -> Result<T, CloseReason> {
    if !json.trim_ascii_start().starts_with('{') {
        return Err(CloseReason::BadRequest);
    }
    serde_json::from_str(json).map_err(|_| CloseReason::BadRequest)
}

/// A command on the wire. Source: `Command` in `client.proto`.
#[derive(serde::Deserialize)]
struct RawCommand<'m> {
    #[serde(default, deserialize_with = "or_default")]
    id: u32,
    #[serde(borrow)]
    connect: Option<&'m RawValue>,
    subscribe: Option<&'m RawValue>,
    unsubscribe: Option<&'m RawValue>,
    publish: Option<&'m RawValue>,
    presence: Option<&'m RawValue>,
    presence_stats: Option<&'m RawValue>,
    history: Option<&'m RawValue>,
    rpc: Option<&'m RawValue>,
    send: Option<&'m RawValue>,
    refresh: Option<&'m RawValue>,
    sub_refresh: Option<&'m RawValue>,
}

impl<'m> RawCommand<'m> {
    /// Returns the command. If there are several bodies, the first one in this order that is not
    /// null counts.
    fn command(&self) -> Result<Command<'m>, CloseReason> {
        if self.id == 0 {
            // A command that expects no reply is a pong, whatever it has, unless it is a `send`.
            return self.send.map_or(Ok(Command::Pong), send);
        }
        if let Some(body) = self.connect {
            connect(&object(body.get())?)
        } else if let Some(body) = self.subscribe {
            subscribe(object(body.get())?)
        } else if let Some(body) = self.unsubscribe {
            let OfChannel { channel } = object(body.get())?;
            Ok(Command::Unsubscribe { channel: channel.not_empty()? })
        } else if let Some(body) = self.publish {
            publish(object(body.get())?)
        } else if let Some(body) = self.presence.or(self.presence_stats) {
            let OfChannel { channel } = object(body.get())?;
            channel.not_empty().map(|_| Command::Unavailable)
        } else if let Some(body) = self.history {
            history(object(body.get())?)
        } else if self.rpc.is_some() {
            Ok(Command::Unavailable)
        } else if let Some(body) = self.send {
            send(body)
        } else if self.refresh.is_some() || self.sub_refresh.is_some() {
            Ok(Command::Unavailable)
        } else {
            // A `ping` command, or an id without a body.
            Err(CloseReason::BadRequest)
        }
    }
}

#[derive(serde::Deserialize)]
struct ConnectBody<'m> {
    #[serde(borrow, default)]
    token: Text<'m>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    subs: BTreeMap<Text<'m>, Option<&'m RawValue>>,
}

/// A subscription of a server, as its client remembers it.
#[derive(Default, serde::Deserialize)]
struct ResumedBody<'m> {
    #[serde(default, deserialize_with = "or_default")]
    recover: bool,
    #[serde(default, deserialize_with = "or_default")]
    offset: u64,
    #[serde(borrow, default)]
    epoch: Text<'m>,
}

fn connect<'m>(body: &ConnectBody<'m>) -> Result<Command<'m>, CloseReason> {
    let mut resumed = Vec::with_capacity(body.subs.len());
    for (channel, sub) in &body.subs {
        let ResumedBody { recover, offset, epoch } =
            sub.map_or_else(|| Ok(ResumedBody::default()), |sub| object(sub.get()))?;
        let since = Since { epoch: SinceEpoch::from_text(&epoch.0), offset };
        let channel = channel.clone().not_empty()?;
        resumed.push(Resumed { channel, recover: recover.then_some(since) });
    }
    Ok(Command::Connect(Connect { has_token: !body.token.0.is_empty(), resumed }))
}

/// A body of which only the channel is needed.
#[derive(serde::Deserialize)]
struct OfChannel<'m> {
    #[serde(borrow, default)]
    channel: Text<'m>,
}

#[derive(serde::Deserialize)]
struct SubscribeBody<'m> {
    #[serde(borrow, default)]
    channel: Text<'m>,
    #[serde(default, deserialize_with = "or_default")]
    recover: bool,
    #[serde(borrow, default)]
    epoch: Text<'m>,
    #[serde(default, deserialize_with = "or_default")]
    offset: u64,
    #[serde(default, deserialize_with = "or_default")]
    positioned: bool,
    #[serde(default, deserialize_with = "or_default")]
    recoverable: bool,
    #[serde(borrow, default)]
    delta: Text<'m>,
    #[serde(borrow, default)]
    token: Text<'m>,
    tf: Option<&'m RawValue>,
    #[serde(default, deserialize_with = "or_default")]
    flag: i64,
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    kind: i32,
}

/// Bit of `flag` that makes an unrecoverable position an error.
const FLAG_REJECT_UNRECOVERED: i64 = 2;

fn subscribe(body: SubscribeBody<'_>) -> Result<Command<'_>, CloseReason> {
    if !matches!(&*body.delta.0, "" | "fossil") {
        return Err(CloseReason::BadRequest);
    }
    // No token can be checked. One that is ignored would pass for a valid one.
    let refused = if body.kind != 0 || !body.token.0.is_empty() {
        Some(ClientError::PermissionDenied)
    } else if body.tf.is_some() {
        Some(ClientError::BadRequest)
    } else {
        None
    };
    let (epoch, offset) = (&*body.epoch.0, body.offset);
    let since = || Since { epoch: SinceEpoch::from_text(epoch), offset };
    Ok(Command::Subscribe(Subscribe {
        channel: body.channel.not_empty()?,
        recover: body.recover.then(since),
        positioned: body.positioned,
        recoverable: body.recoverable,
        reject_unrecovered: body.flag & FLAG_REJECT_UNRECOVERED != 0,
        refused,
    }))
}

#[derive(serde::Deserialize)]
struct PublishBody<'m> {
    #[serde(borrow, default)]
    channel: Text<'m>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    data: Option<&'m RawValue>,
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    kind: i32,
}

fn publish(body: PublishBody<'_>) -> Result<Command<'_>, CloseReason> {
    let channel = body.channel.not_empty()?;
    if body.kind != 0 {
        // It sets or removes a key of a map, and this server has no maps.
        return Ok(Command::Unavailable);
    }
    // Missing data is no payload of any type, so the publication is refused with an error.
    let data = body.data.map_or(&[][..], |data| data.get().as_bytes());
    Ok(Command::Publish { channel, data })
}

#[derive(serde::Deserialize)]
struct SendBody<'m> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    data: Option<&'m RawValue>,
}

fn send(body: &RawValue) -> Result<Command<'_>, CloseReason> {
    let SendBody { data } = object(body.get())?;
    Ok(Command::Send { data: data.map_or(&[], |data| data.get().as_bytes()) })
}

#[derive(serde::Deserialize)]
struct HistoryBody<'m> {
    #[serde(borrow, default)]
    channel: Text<'m>,
    #[serde(default, deserialize_with = "or_default")]
    limit: i32,
    #[serde(borrow)]
    since: Option<&'m RawValue>,
    #[serde(default, deserialize_with = "or_default")]
    reverse: bool,
}

#[derive(serde::Deserialize)]
struct SinceBody<'m> {
    #[serde(default, deserialize_with = "or_default")]
    offset: u64,
    #[serde(borrow, default)]
    epoch: Text<'m>,
}

fn history(body: HistoryBody<'_>) -> Result<Command<'_>, CloseReason> {
    let since = match body.since {
        None => None,
        Some(since) => {
            let SinceBody { offset, epoch } = object(since.get())?;
            Some(Since { epoch: SinceEpoch::from_text(&epoch.0), offset })
        }
    };
    Ok(Command::History(HistoryQuery {
        channel: body.channel.not_empty()?,
        page: HistoryPage { limit: body.limit, since, reverse: body.reverse },
    }))
}

/// A string, which is borrowed unless it has escapes. Null is the empty string.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Text<'m>(Cow<'m, str>);

impl<'m> Text<'m> {
    /// Returns the string as the name of a channel, which must not be empty.
    fn not_empty(self) -> Result<Cow<'m, str>, CloseReason> {
        if self.0.is_empty() { Err(CloseReason::BadRequest) } else { Ok(self.0) }
    }
}

impl<'de: 'm, 'm> Deserialize<'de> for Text<'m> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'m>, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_none<E>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }

            fn visit_some<D: Deserializer<'de>>(self, some: D) -> Result<Text<'de>, D::Error> {
                some.deserialize_str(self)
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_option(TextVisitor)
    }
}

/// Null is the same as absent.
fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Null is a value: it is JSON, and so may be published.
fn even_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
