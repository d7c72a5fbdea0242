//! The subscriptions of clients: how they begin and end, and how the shard leaves a channel without
//! subscriptions.

use super::clients::Clients;
use super::ending::Farewell;
use super::reporting;
use crate::auth::{Permissions, Role};
use crate::channel::Namespaces;
use crate::connection::Terms;
use crate::ids::{LocalId, Slot};
use crate::kernel::{ConnectionKey, Sockets};
use crate::mesh::ToHome;
use crate::reason::ClientError;
use crate::shard::delivery::Pace;

/// Whether a client is subscribed to `channel`.
pub fn is_subscribed<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    channel: &str,
) -> bool {
    let Some(place) = clients.delivery.find(channel) else { return false };
    let connection = clients.slots.get(key);
    connection.is_some_and(|connection| connection.find_subscription(place).is_some())
}

/// The role of a client in `channel`.
pub fn role<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, channel: &str) -> Role {
    if is_subscribed(clients, key, channel) { Role::Subscriber } else { Role::Client }
}

/// Checks whether a client with `permissions` may subscribe to `channel`.
///
/// # Errors
/// The error for the client.
pub fn check(
    namespaces: &Namespaces,
    permissions: Permissions,
    channel: &str,
) -> Result<(), ClientError> {
    let namespace = namespaces.resolve(channel)?;
    permissions.check_subscribe(channel, namespace)
}

/// Subscribes a connection to a channel.
pub fn add<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, place: LocalId, terms: Terms) {
    clients.delivery.subscribe(&mut clients.slots, key, place, terms);
    reporting::subscribed(clients, key, place);
}

/// Ends a client's subscription, if it has one, after all earlier publications. The client is not
/// told.
pub fn unsubscribe<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    channel: &str,
) -> Pace {
    let Some(place) = clients.delivery.find(channel) else { return Pace::KeepsUp };
    let Some(index) = clients.slots.connection(key).find_subscription(place) else {
        return Pace::KeepsUp;
    };
    let pace = clients.delivery.collect_of_leaving(&mut clients.slots, key.slot, index);
    let farewell = Farewell { code: 0, text: "client" };
    reporting::unsubscribing(clients, key.slot, index, farewell);
    remove(clients, key.slot, index);
    pace
}

/// Ends the subscription with number `index` of a connection. The client is not told.
pub fn remove<S: Sockets>(clients: &mut Clients<S>, slot: Slot, index: usize) {
    let place = clients.delivery.unsubscribe(&mut clients.slots, slot, index);
    leave_if_unused(clients, place);
}

/// Ends all subscriptions of a client.
pub fn remove_all<S: Sockets>(clients: &mut Clients<S>, slot: Slot) {
    let count = clients.slots.tenant(slot).subscriptions_count();
    // The loop starts with the last one, because a removal moves the last subscription into the
    // hole.
    for index in (0..count).rev() {
        let farewell = Farewell { code: 0, text: "disconnect" };
        reporting::unsubscribing(clients, slot, index, farewell);
        remove(clients, slot, index);
    }
}

/// Tells the home of a channel if it has no more subscriptions on this shard.
pub fn leave_if_unused<S: Sockets>(clients: &mut Clients<S>, place: LocalId) {
    let Some(unused) = clients.delivery.take_if_unused(place) else { return };
    clients.subnets.remove_channel(unused.brought_by);
    if !crate::sabotage!(LeakedInterest) {
        let leave = ToHome::Leave { shard: clients.id, channel: unused.channel };
        clients.post.to_shard(unused.home, leave);
    }
}
