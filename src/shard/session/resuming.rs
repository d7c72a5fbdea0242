//! A client that comes back names the subscriptions that the application had made for it. Those
//! that the client may make itself begin again with the session, and the reply to `connect` has
//! their results. So the client neither loses them nor misses a publication.
//!
//! All channels are requested at once. Their publications wait in the outbox, which is not sent
//! before the reply is in front of them.

use std::sync::Arc;

use super::clients::Clients;
use super::ending::{Farewell, text_of_refusal};
use super::homes::{Homes, Start};
use super::replying::{self, Flow};
use super::{closing, heartbeat, reporting, subscriptions};
use crate::auth::Wish;
use crate::channel::{ChannelName, ChannelView};
use crate::connection::{
    BegunSubscription, Maker, PendingRequest, Recovery, Resuming, State, Terms, WaitingSubscribe,
};
use crate::ids::LocalId;
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::{RECOVERY_BYTES_MAX, UPGRADE_TIMEOUT};
use crate::mesh::Subscribed;
use crate::protocol::{self, Connected, Reply, Resumed};
use crate::reason::{ClientError, CloseReason};

/// Whether the client may have a subscription again. One that it may not make itself ends with its
/// connection: the client learns that from the reply, and the application may make it anew.
pub fn is_allowed<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    resumed: &Resumed<'_>,
) -> bool {
    let permissions = clients.slots.connection(key).permissions;
    subscriptions::check(clients.options.namespaces(), permissions, &resumed.channel).is_ok()
}

/// Requests the subscriptions `resumed`, which the client may have. `id` is the number of its
/// `connect`.
pub fn begin<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    id: u32,
    resumed: &[&Resumed<'_>],
) -> Flow {
    let (count, most) = (resumed.len(), clients.options.client().channels_max);
    if count > most {
        let text = format!("channel limit: {count} channels, but client.channels_max = {most}");
        return refuse(clients, key, CloseReason::ChannelLimit, &text);
    }
    for (resumed, ahead) in resumed.iter().zip(0..) {
        // Nothing is charged before all channels are checked, so each check counts those before it.
        if let Err(error) = homes.creating.check_name(clients, key, &resumed.channel, ahead) {
            return on_refused(clients, key, error, &resumed.channel);
        }
    }
    let deadline = clients.clock.tick().after(UPGRADE_TIMEOUT);
    clients.slots.set_deadline(key.slot, deadline);
    let waiting = resumed.iter().map(|resumed| ask(clients, homes, key, resumed)).collect();
    clients.slots.connection(key).state = State::Resuming;
    let resuming = Resuming { request: id, waiting, begun: Vec::new(), missed_bytes: 0 };
    replying::wait(clients, key, PendingRequest::Connect(resuming))
}

fn ask<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    resumed: &Resumed<'_>,
) -> WaitingSubscribe {
    let Ok(namespace) = clients.options.namespaces().resolve(&resumed.channel) else {
        unreachable!("the check of the permission resolved the name")
    };
    let grant = clients.slots.connection(key).permissions.grant(namespace, Wish::Server);
    let recover = resumed.recover.filter(|_| grant.recoverable);
    let recovery = if resumed.recover.is_some() { Recovery::Asked } else { Recovery::Unasked };
    let channel = ChannelName::new(&resumed.channel);
    let charge = homes.creating.ask_name(clients, key, channel.as_str());
    let start = recover.map_or(Start::Live, Start::After);
    homes.request_subscription(clients, key, &channel, start);
    WaitingSubscribe { request: 0, channel, grant, recovery, charge }
}

/// Takes the request that the home of a channel has answered.
pub fn take_waiting<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    channel: &ChannelName,
) -> Option<WaitingSubscribe> {
    let waiting = &mut resuming(clients, key)?.waiting;
    let at = waiting.iter().position(|waiting| waiting.channel == *channel)?;
    Some(waiting.swap_remove(at))
}

fn resuming<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) -> Option<&mut Resuming> {
    match clients.slots.connection(key).busy.as_mut()?.waiting.as_deref_mut()? {
        PendingRequest::Connect(resuming) => Some(resuming),
        PendingRequest::Subscribe(_)
        | PendingRequest::Answer(_)
        | PendingRequest::Room
        | PendingRequest::Publications => None,
    }
}

/// Begins one of the subscriptions. The caller has counted its recovery.
pub fn on_subscribed<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    place: LocalId,
    waiting: &WaitingSubscribe,
    answer: Subscribed,
) {
    let now = clients.clock.now();
    let namespace = Arc::clone(&clients.delivery.local(place).namespace);
    let Some(resuming) = resuming(clients, key) else { return };
    // The reply is one message, so this bounds the missed publications of all channels together.
    let missed = answer.recovered.filter(|publications| {
        let bytes: usize = publications.iter().map(|one| one.recovery_bytes(namespace.data)).sum();
        resuming.missed_bytes += bytes;
        resuming.missed_bytes <= RECOVERY_BYTES_MAX
    });
    let WaitingSubscribe { grant, recovery, .. } = *waiting;
    let (channel, top) = (answer.channel, answer.top);
    resuming.begun.push(BegunSubscription { channel, namespace, grant, recovery, missed, top });
    if let Some(busy) = clients.slots.connection(key).busy.as_mut() {
        busy.unserved = busy.unserved.and(Some(now));
    }
    let terms = Terms { positioned: grant.positioned, made_by: Maker::Application };
    subscriptions::add(clients, key, place, terms);
}

/// Closes the connection, because one of its channels is refused. Most such errors are temporary,
/// and the client comes back with all of its subscriptions.
pub fn on_refused<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    error: ClientError,
    channel: &str,
) -> Flow {
    refuse(clients, key, error.close_reason(), &text_of_refusal(error, channel))
}

fn refuse<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    reason: CloseReason,
    text: &str,
) -> Flow {
    let farewell = Farewell { code: reason.details().code, text };
    closing::close_with(clients, key, reason, farewell);
    Flow::Stop
}

/// Begins the session if all channels have been answered. Returns true if it does.
pub fn end<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) -> bool {
    if resuming(clients, key).is_none_or(|resuming| !resuming.waiting.is_empty()) {
        return false;
    }
    let connection = clients.slots.connection(key);
    let waited = connection.busy.as_mut().and_then(|busy| busy.waiting.take());
    let Some(PendingRequest::Connect(resuming)) = waited.map(|waited| *waited) else {
        unreachable!("it was looked at above")
    };
    connection.state = State::Connected;
    let wire = connection.wire;
    let connected = replying::connected(clients, key);
    let subs: Vec<_> = resuming.begun.iter().map(result).collect();
    let mut frames = Vec::new();
    let reply = Reply::Connected(Connected { subs: &subs, ..connected });
    if let Err(reason) = wire.encode_reply(resuming.request, &reply, &mut frames) {
        closing::close(clients, key, reason);
        return false;
    }
    if resuming.missed_bytes > 0 {
        clients.slots.connection(key).meter.count_replay(clients.clock.tick(), frames.len());
    }
    clients.delivery.send_first(&mut clients.slots, key, &frames);
    heartbeat::begin(clients, key);
    reporting::connected(clients, key);
    reporting::all_subscribed(clients, key);
    clients.delivery.mark_dirty(key.slot);
    true
}

/// The result of one of the subscriptions, as the client is told.
fn result(begun: &BegunSubscription) -> protocol::Subscribed<'_> {
    let publications = begun.missed.as_deref().unwrap_or_default();
    let mut position = begun.top;
    position.offset -= publications.len() as u64;
    protocol::Subscribed {
        channel: ChannelView {
            name: begun.channel.as_str(),
            data: begun.namespace.data,
            has_history: begun.namespace.has_history(),
            epoch: begun.top.epoch,
        },
        recoverable: begun.grant.recoverable,
        positioned: begun.grant.positioned,
        was_recovering: begun.recovery.is_asked(),
        recovered: begun.missed.is_some(),
        publications,
        position,
    }
}
