//! Publications of clients, on their way to the home of their channel or to the bus.

use std::sync::Arc;

use super::clients::Clients;
use super::homes::Homes;
use super::replying::{self, Flow};
use super::{reporting, subscriptions};
use crate::channel::{ChannelName, HistoryUse, Publication, Publisher, check_payload};
use crate::connection::{Charge, PendingRequest};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::PUBLISHING_MAX;
use crate::mesh::{Asker, EventKind, Publish, ToBus, ToHome};
use crate::protocol::Codec;
use crate::reason::{ClientError, CloseReason};

/// The message that a client publishes.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Name of the channel, as the client sent it. Empty if the client does not name the channel.
    pub channel: &'a str,
    /// The payload.
    pub data: &'a [u8],
}

/// Handles a request to publish.
pub fn on_publish<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    id: u32,
    Message { channel, data }: Message<'_>,
) -> Flow {
    let connection = clients.slots.connection(key);
    let plain = connection.busy.as_ref().and_then(|busy| busy.plain.as_ref());
    let channel = match plain {
        Some(plain) => match &plain.publish {
            Some(name) => name.clone(),
            None => return replying::stop(clients, key, CloseReason::UnsupportedData),
        },
        None if !channel.is_empty() => ChannelName::new(channel),
        None => return replying::stop(clients, key, CloseReason::UnsupportedData),
    };
    let namespace = match clients.options.namespaces().resolve(channel.as_str()) {
        Ok(namespace) => Arc::clone(namespace),
        Err(error) => return replying::fail(clients, key, id, error),
    };
    let (protocol, permissions) = (connection.wire.protocol, connection.permissions);
    let role = subscriptions::role(clients, key, channel.as_str());
    if !permissions.may_publish(&namespace, role) {
        return replying::fail(clients, key, id, ClientError::PermissionDenied);
    }
    if let Err(error) = homes.creating.check_name(clients, key, channel.as_str(), 0) {
        return replying::fail(clients, key, id, error);
    }
    let payload = protocol.payload(namespace.data, data);
    let data = match payload.and_then(|data| check_payload(namespace.data, &data)) {
        Ok(data) => data,
        Err(error) => return replying::fail(clients, key, id, error),
    };
    let connection = clients.connection_id(key);
    let publisher = Publisher { user: Box::from(""), client: clients.client_id(key) };
    let publication = Publication {
        data,
        offset: 0,
        publisher: Some(Box::new(publisher)),
        tags: Box::default(),
        accepted: clients.clock.now(),
    };
    let bytes = publication.recovery_bytes(namespace.data);
    if let Err(error) = namespace.check_recoverable(bytes, HistoryUse::Keep) {
        return replying::fail(clients, key, id, error);
    }
    clients.counters.publications_client.add(1);
    if namespace.events.publish {
        let (channel, data) = (channel.clone(), publication.data.clone());
        reporting::report(clients, key, EventKind::Publish, |event| {
            event.channel = Some(channel);
            event.data = data;
        });
    }
    let home = homes.map.home(channel.as_str());
    let charge = homes.creating.ask_name(clients, key, channel.as_str());
    let publish = Publish {
        channel,
        publication,
        history: HistoryUse::Keep,
        idempotency_key: None,
        asker: Asker::Connection { connection, request: id, pipelined: clients.options.has_bus() },
    };
    let publish = Box::new(publish);
    if !clients.options.has_bus() {
        clients.post.to_shard(home, ToHome::Publish(publish));
        return replying::wait(clients, key, PendingRequest::Answer(charge));
    }
    // An answer from Redis takes a while, and the bus keeps the order, so the client need not wait.
    clients.post.to_bridge(ToBus::Publish(publish));
    go_on_publishing(clients, key, charge)
}

/// Reads on while a publication is on its way to the bus, unless the client has reached the maximum
/// number of such publications.
fn go_on_publishing<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    charge: Charge,
) -> Flow {
    let busy = clients.slots.connection(key).busy();
    busy.publishing += 1;
    busy.charged_publishing += u16::from(charge == Charge::Charged);
    if busy.publishing < PUBLISHING_MAX {
        Flow::Continue
    } else {
        replying::wait(clients, key, PendingRequest::Room)
    }
}
