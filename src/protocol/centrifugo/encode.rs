//! Writes replies and events as JSON. Zero, empty and false fields are left out, except those that
//! SDKs read without a check, because a missing one of these ends the client permanently.

use std::sync::Arc;

use crate::channel::{ChannelView, Publication};
use crate::ids::Position;
use crate::protocol::json::{write_number, write_publication, write_string};
use crate::protocol::{Connected, MessageKind, MessageSink, Push, Reply, Subscribed};
use crate::reason::{ClientError, CloseReason};

/// Estimated bytes of a publication's message without its payload. A wrong estimate only costs a
/// move of the message.
const PUBLICATION_REST_BYTES: usize = 24;

/// Writes a reply in one message.
pub(super) fn reply(
    id: u32,
    reply: &Reply<'_>,
    out: &mut impl MessageSink,
) -> Result<(), CloseReason> {
    if matches!(reply, Reply::Echo { .. }) {
        return Err(CloseReason::InternalError);
    }
    let payload_bytes = match reply {
        Reply::Connected(Connected { subs, .. }) => {
            subs.iter().map(|subscribed| data_bytes(subscribed.publications)).sum()
        }
        Reply::Subscribed(Subscribed { publications, .. })
        | Reply::History { publications, .. } => data_bytes(publications),
        _ => 0,
    };
    out.write_with(MessageKind::Text, payload_bytes, |out| {
        out.extend_from_slice(br#"{"id":"#);
        write_number(u64::from(id), out);
        match reply {
            Reply::Connected(connected) => reply_connected(connected, out),
            Reply::Subscribed(subscribed) => reply_subscribed(subscribed, out),
            Reply::Unsubscribed => out.extend_from_slice(br#","unsubscribe":{}"#),
            Reply::Published => out.extend_from_slice(br#","publish":{}"#),
            Reply::History { channel, publications, top } => {
                reply_history(channel, publications, *top, out);
            }
            Reply::Error(error) => reply_error(*error, out),
            Reply::Echo { .. } => {}
        }
        out.push(b'}');
    });
    Ok(())
}

fn data_bytes(publications: &[Arc<Publication>]) -> usize {
    publications.iter().map(|publication| publication.data.len()).sum()
}

fn reply_connected(connected: &Connected<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#","connect":{"client":"#);
    write_string(&connected.client.to_string(), out);
    out.extend_from_slice(br#","version":"#);
    write_string(env!("CARGO_PKG_VERSION"), out);
    if let Some(ping) = connected.ping {
        // Whole seconds, rounded up: clients wait this long and some more, and 0 means no pings.
        out.extend_from_slice(br#","ping":"#);
        write_number(ping.as_millis().div_ceil(1000) as u64, out);
    }
    if connected.pong {
        out.extend_from_slice(br#","pong":true"#);
    }
    for (at, subscribed) in connected.subs.iter().enumerate() {
        out.extend_from_slice(if at == 0 { br#","subs":{"#.as_slice() } else { b"," });
        write_string(subscribed.channel.name, out);
        out.push(b':');
        write_subscribed(subscribed, out);
    }
    if !connected.subs.is_empty() {
        out.push(b'}');
    }
    out.push(b'}');
}

fn reply_subscribed(subscribed: &Subscribed<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#","subscribe":"#);
    write_subscribed(subscribed, out);
}

fn write_subscribed(subscribed: &Subscribed<'_>, out: &mut Vec<u8>) {
    let Subscribed { channel, recoverable, positioned, position, publications, .. } = subscribed;
    let mut fields = Fields::new(out);
    fields.flag("recoverable", *recoverable);
    fields.flag("positioned", *positioned);
    if *recoverable || *positioned {
        fields.name("epoch");
        write_string(&position.epoch.to_string(), fields.out);
        if position.offset > 0 {
            fields.name("offset");
            write_number(position.offset, fields.out);
        }
    }
    if !publications.is_empty() {
        fields.name("publications");
        write_publications(channel, publications, fields.out);
    }
    fields.flag("recovered", subscribed.recovered);
    fields.flag("was_recovering", subscribed.was_recovering);
    fields.end();
}

fn reply_history(
    channel: &ChannelView<'_>,
    publications: &[Arc<Publication>],
    top: Position,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(br#","history":{"publications":"#);
    write_publications(channel, publications, out);
    out.extend_from_slice(br#","epoch":"#);
    write_string(&top.epoch.to_string(), out);
    out.extend_from_slice(br#","offset":"#);
    write_number(top.offset, out);
    out.push(b'}');
}

fn reply_error(error: ClientError, out: &mut Vec<u8>) {
    let details = error.details();
    out.extend_from_slice(br#","error":{"code":"#);
    write_number(u64::from(details.code), out);
    out.extend_from_slice(br#","message":"#);
    write_string(details.text, out);
    if details.reconnect {
        out.extend_from_slice(br#","temporary":true"#);
    }
    out.push(b'}');
}

fn write_publications(
    channel: &ChannelView<'_>,
    publications: &[Arc<Publication>],
    out: &mut Vec<u8>,
) {
    out.push(b'[');
    for (at, publication) in publications.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_publication(channel, publication, out);
    }
    out.push(b']');
}

/// Writes an event in one message.
pub(super) fn push(push: &Push<'_>, out: &mut impl MessageSink) -> Result<(), CloseReason> {
    let (channel, reason) = match *push {
        Push::Subscribed(subscribed) => {
            push_subscribed(&subscribed, out);
            return Ok(());
        }
        Push::Unsubscribed { channel, reason } => (channel, reason),
        // In this protocol a gap ends the subscription, and the session does that.
        Push::Gap { .. } => return Err(CloseReason::InsufficientState),
    };
    let (code, text) = reason.code_and_text();
    out.write_with(MessageKind::Text, channel.len(), |out| {
        out.extend_from_slice(br#"{"push":{"channel":"#);
        write_string(channel, out);
        out.extend_from_slice(br#","unsubscribe":{"code":"#);
        write_number(u64::from(code), out);
        out.extend_from_slice(br#","reason":"#);
        write_string(text, out);
        out.extend_from_slice(b"}}}");
    });
    Ok(())
}

fn push_subscribed(subscribed: &Subscribed<'_>, out: &mut impl MessageSink) {
    let Subscribed { channel, publications, .. } = *subscribed;
    out.write_with(MessageKind::Text, channel.name.len(), |out| {
        out.extend_from_slice(br#"{"push":{"channel":"#);
        write_string(channel.name, out);
        // SDKs do not look for publications in this push, so they follow as live ones.
        reply_subscribed(&Subscribed { publications: &[], ..*subscribed }, out);
        out.extend_from_slice(b"}}");
    });
    self::publications(&channel, publications, out);
}

/// Writes publications, one message for each.
pub(super) fn publications(
    channel: &ChannelView<'_>,
    publications: &[Arc<Publication>],
    out: &mut impl MessageSink,
) {
    let mut front = Vec::with_capacity(PUBLICATION_REST_BYTES + channel.name.len() + 8);
    front.extend_from_slice(br#"{"push":{"channel":"#);
    write_string(channel.name, &mut front);
    front.extend_from_slice(br#","pub":"#);
    for publication in publications {
        let bytes = front.len() + publication.data.len() + PUBLICATION_REST_BYTES;
        out.write_with(MessageKind::Text, bytes, |out| {
            out.extend_from_slice(&front);
            write_publication(channel, publication, out);
            if channel.has_history && publication.offset == 1 {
                write_epoch_into(channel, out);
            }
            out.extend_from_slice(b"}}");
        });
    }
}

/// Adds the epoch to the publication that ends `out`. A subscriber to a channel that did not exist
/// learns it from the first publication. Source: `hub.go` in centrifugal/centrifuge.
fn write_epoch_into(channel: &ChannelView<'_>, out: &mut Vec<u8>) {
    let end = out.pop();
    out.extend_from_slice(br#","epoch":"#);
    write_string(&channel.epoch.to_string(), out);
    out.extend(end);
}

/// An object whose fields may all be absent.
struct Fields<'o> {
    out: &'o mut Vec<u8>,
    separator: u8,
}

impl<'o> Fields<'o> {
    fn new(out: &'o mut Vec<u8>) -> Fields<'o> {
        Fields { out, separator: b'{' }
    }

    /// Begins a field. The caller appends its value.
    fn name(&mut self, name: &str) {
        self.out.push(self.separator);
        self.separator = b',';
        write_string(name, self.out);
        self.out.push(b':');
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.name(name);
            self.out.extend_from_slice(b"true");
        }
    }

    fn end(self) {
        if self.separator == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests;
