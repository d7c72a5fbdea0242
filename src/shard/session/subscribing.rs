//! Requests of clients for subscriptions. A subscription begins with the answer of the home shard.

use super::clients::Clients;
use super::homes::{Homes, Start};
use super::pending::Purpose;
use super::replying::{self, Flow};
use super::subscriptions;
use crate::auth::Wish;
use crate::channel::ChannelName;
use crate::connection::{Charge, PendingRequest, Recovery, WaitingSubscribe};
use crate::kernel::{ConnectionKey, Sockets};
use crate::protocol;
use crate::reason::ClientError;

/// Handles a request for a subscription, if it is allowed.
pub fn on_subscribe<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    id: u32,
    request: &protocol::Subscribe<'_>,
) -> Flow {
    let channel = request.channel.as_ref();
    let id_of_connection = clients.connection_id(key);
    let connection = clients.slots.connection(key);
    let (count, permissions) = (connection.subscriptions_count(), connection.permissions);
    let pending = homes.pending.find(id_of_connection, channel);
    let error = if matches!(pending, Some(Purpose::Cancelled(_))) {
        Some(ClientError::Internal) // The next answer belongs to the cancelled request.
    } else if pending.is_some() || subscriptions::is_subscribed(clients, key, channel) {
        Some(ClientError::AlreadySubscribed)
    } else if count >= clients.options.client().channels_max {
        Some(ClientError::LimitExceeded)
    } else {
        subscriptions::check(clients.options.namespaces(), permissions, channel)
            .err()
            .or(request.refused)
    };
    if let Some(error) = error {
        return replying::fail(clients, key, id, error);
    }
    let Ok(namespace) = clients.options.namespaces().resolve(channel) else {
        unreachable!("the check above resolved the name")
    };
    let grant = permissions.grant(namespace, wish(request));
    let recover = request.recover.filter(|_| grant.recoverable);
    let recovery = match (request.recover, recover) {
        (None, _) => Recovery::Unasked,
        (Some(_), Some(_)) if request.reject_unrecovered => Recovery::Required,
        (Some(_), _) => Recovery::Asked,
    };
    let channel = ChannelName::new(channel);
    let waiting = WaitingSubscribe { request: id, channel, grant, recovery, charge: Charge::Free };
    subscribe(clients, homes, key, waiting, recover)
}

fn subscribe<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    mut waiting: WaitingSubscribe,
    recover: Option<crate::ids::Since>,
) -> Flow {
    let channel = waiting.channel.clone();
    if clients.options.namespaces().resolve(channel.as_str()).is_err() {
        return replying::fail(clients, key, waiting.request, ClientError::UnknownChannel);
    }
    if let Err(error) = homes.creating.check_name(clients, key, channel.as_str(), 0) {
        return replying::fail(clients, key, waiting.request, error);
    }
    waiting.charge = homes.creating.ask_name(clients, key, channel.as_str());
    let start = recover.map_or(Start::Live, Start::After);
    homes.request_subscription(clients, key, &channel, start);
    replying::wait(clients, key, PendingRequest::Subscribe(waiting))
}

/// The features that a client's command asks for. A subscription that recovers can be recovered
/// again.
fn wish(request: &protocol::Subscribe<'_>) -> Wish {
    if request.recoverable || request.recover.is_some() {
        Wish::Recoverable
    } else if request.positioned {
        Wish::Positioned
    } else {
        Wish::Plain
    }
}
