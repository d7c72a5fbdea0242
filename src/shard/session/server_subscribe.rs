//! Server-side subscriptions, which the application makes for its clients, and their ends. The
//! client has not requested them, so it is told by pushes.

use super::clients::Clients;
use super::homes::{Homes, Start};
use super::pending::Purpose;
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

/// A request of the application for a server-side subscription.
#[derive(Clone, Copy)]
pub struct ServerSubscribe<'a> {
    /// The ticket of control for the answer.
    pub ticket: Ticket,
    /// Name of its channel.
    pub channel: &'a ChannelName,
    /// The position after which it begins. `None` begins with the next publication.
    pub recover: Option<Since>,
}

/// Requests a server-side subscription of one connection. Returns true if the connection is
/// affected.
pub fn request<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    request: &ServerSubscribe<'_>,
) -> bool {
    let name = request.channel;
    let id = clients.connection_id(key);
    let subscribed = subscriptions::is_subscribed(clients, key, name.as_str());
    let connection = clients.slots.connection(key);
    if !connection.wire.protocol.names_channels() {
        return false; // Its messages do not name their channel.
    }
    let waiting = connection.busy.as_ref().and_then(|busy| busy.waiting.as_deref());
    let asked = matches!(waiting, Some(PendingRequest::Subscribe(own)) if own.channel == *name);
    let error = match homes.pending.find(id, name.as_str()) {
        _ if subscribed || asked => return true,
        // The next answer of the home belongs to the cancelled request, not to this one.
        Some(Purpose::Cancelled(_)) => ClientError::TooManyRequests,
        Some(Purpose::ServerSubscribe(_) | Purpose::Missed(_)) => return true,
        None if connection.subscriptions_count() < clients.options.client().channels_max => {
            return begin_request(clients, homes, key, request);
        }
        None => ClientError::LimitExceeded,
    };
    homes.pending.fail(request.ticket, error);
    true
}

fn begin_request<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    request: &ServerSubscribe<'_>,
) -> bool {
    let name = request.channel;
    // The request may come from another node, which has other namespaces.
    let Ok(namespace) = clients.options.namespaces().resolve(name.as_str()) else { return false };
    let recover = request.recover.filter(|_| namespace.has_history());
    homes.pending.insert_requested(clients.connection_id(key), name, request.ticket);
    homes.request_subscription(clients, key, name, recover.map_or(Start::Live, Start::After));
    true
}

/// Ends a connection's subscription to `channel`, or all of its subscriptions. It also cancels
/// pending ones, which must not begin afterwards. Returns true if there were any.
pub fn unsubscribe_by_api<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    channel: Option<&ChannelName>,
) -> bool {
    let mut affected = homes.pending.cancel(clients.connection_id(key), channel);
    let place = match channel {
        None => None,
        Some(name) => match clients.delivery.find(name.as_str()) {
            None => return false,
            place => place,
        },
    };
    // The connection may be closed because of one of them.
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

/// Handles the home's answer to a subscription of the application. The subscription begins here.
pub fn on_subscribed<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    place: LocalId,
    answer: &Subscribed,
) {
    let channels_max = clients.options.client().channels_max;
    // The client may have left or subscribed by itself since the application asked.
    let fits = clients.slots.get(key).is_some_and(|connection| {
        connection.state == State::Connected
            && connection.find_subscription(place).is_none()
            && connection.subscriptions_count() < channels_max
    });
    if !fits {
        return subscriptions::leave_if_unused(clients, place);
    }
    let connection = clients.slots.connection(key);
    let local = clients.delivery.local(place);
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
