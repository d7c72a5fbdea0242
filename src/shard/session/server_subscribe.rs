//! Subscriptions that the application makes for its clients, and their ends. The client has asked
//! for nothing, so what it is told is a push.

use super::clients::Clients;
use super::homes::{Homes, Start};
use super::joining::Pending;
use super::{closing, pushing, subscriptions};
use crate::auth::Wish;
use crate::channel::ChannelName;
use crate::connection::{Maker, PendingRequest, State, Terms};
use crate::ids::{LocalId, Since};
use crate::kernel::{ConnectionKey, Sockets};
use crate::mesh::{Subscribed, Ticket};
use crate::protocol::{self, Codec, Push};
use crate::reason::{ClientError, UnsubscribeReason};
use crate::shard::delivery::Pace;

/// A subscription that the application makes.
#[derive(Clone, Copy)]
pub struct Join<'a> {
    /// The request that asks for it.
    pub ticket: Ticket,
    /// Its channel.
    pub channel: &'a ChannelName,
    /// Where it begins, if not with the next publication.
    pub recover: Option<Since>,
}

/// Asks for the subscription of one connection; answers whether it was concerned.
pub fn join<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    join: &Join<'_>,
) -> bool {
    let name = join.channel;
    let id = clients.connection_id(key);
    let subscribed = subscriptions::is_subscribed(clients, key, name.as_str());
    let connection = clients.slots.connection(key);
    if !connection.wire.protocol.names_channels() {
        return false; // A message does not say which channel it is from.
    }
    let waiting = connection.busy.as_ref().and_then(|busy| busy.waiting.as_deref());
    let asked = matches!(waiting, Some(PendingRequest::Subscribe(own)) if own.channel == *name);
    let error = match homes.joining.find(id, name.as_str()) {
        _ if subscribed || asked => return true,
        // The next answer is not for this request.
        Some(Pending::Cancelled(_)) => ClientError::TooManyRequests,
        Some(Pending::Join(_) | Pending::Missed(_)) => return true,
        None if connection.subscriptions_count() < clients.options.client().channels_max => {
            return begin_join(clients, homes, key, join);
        }
        None => ClientError::LimitExceeded,
    };
    homes.joining.fail(join.ticket, error);
    true
}

fn begin_join<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    join: &Join<'_>,
) -> bool {
    let name = join.channel;
    // Another node may have been asked, which has other namespaces.
    let Ok(namespace) = clients.options.namespaces().resolve(name.as_str()) else { return false };
    let recover = join.recover.filter(|_| namespace.has_history());
    homes.joining.join(clients.connection_id(key), name, join.ticket);
    homes.request_subscription(clients, key, name, recover.map_or(Start::Live, Start::After));
    true
}

/// Ends a connection's subscription to `channel`, or to all; and those that are about to begin,
/// which must not come after this. Returns whether there were any.
pub fn unsubscribe_by_api<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    channel: Option<&ChannelName>,
) -> bool {
    let mut affected = homes.joining.cancel(clients.connection_id(key), channel);
    let place = match channel {
        None => None,
        Some(name) => match clients.delivery.channels.find(name.as_str()) {
            None => return false,
            place => place,
        },
    };
    // It may be closed for one of them.
    while clients.is_connected(key) {
        let connection = clients.slots.connection(key);
        let index = match place {
            Some(place) => connection.find_subscription(place),
            None => connection.subscriptions_count().checked_sub(1),
        };
        let Some(index) = index else { break };
        match clients.delivery.collect_of_leaving(&mut clients.slots, key.slot, index) {
            Pace::KeepsUp => {
                pushing::end_subscription(clients, key.slot, index, UnsubscribeReason::Server);
            }
            Pace::TooSlow(reason) => closing::close(clients, key, reason),
        }
        affected = true;
    }
    affected
}

/// The home shard's answer: the subscription begins here and now.
pub fn on_joined<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    place: LocalId,
    answer: &Subscribed,
) {
    let channels_max = clients.options.client().channels_max;
    let fits = clients.slots.get(key).is_some_and(|connection| {
        connection.state == State::Connected
            && connection.find_subscription(place).is_none()
            && connection.subscriptions_count() < channels_max
    });
    if !fits {
        return subscriptions::leave_if_unused(clients, place);
    }
    let connection = clients.slots.connection(key);
    let local = clients.delivery.channels.local(place);
    let grant = connection.permissions.grant(&local.namespace, Wish::Server);
    let publications = answer.recovered.as_deref().unwrap_or_default();
    let mut position = answer.top;
    position.offset -= publications.len() as u64;
    let push = Push::Subscribed(protocol::Subscribed {
        channel: local.view(),
        recoverable: grant.recoverable,
        positioned: grant.positioned,
        was_recovering: false,
        recovered: false,
        publications,
        position,
    });
    let push = pushing::encode(connection.wire, &push);
    let terms = Terms { positioned: grant.positioned, made_by: Maker::Application };
    subscriptions::add(clients, key, place, terms);
    pushing::send(clients, key, push);
}
