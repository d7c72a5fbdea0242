//! Events for the application: recorded when they happen, and handed to the bridge. Nothing waits
//! for the bridge.

use super::clients::Clients;
use super::ending::Farewell;
use crate::connection::{Connection, State};
use crate::ids::{LocalId, Slot};
use crate::kernel::{ConnectionKey, Sockets};
use crate::mesh::{AppEvent, EventKind};
use crate::protocol::Protocol;
use crate::reason::CloseReason;

/// Reports an event of a connection. `fill` sets the remaining fields.
pub fn report<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    kind: EventKind,
    fill: impl FnOnce(&mut AppEvent),
) {
    let mut event = AppEvent::new(kind, clients.clock.now());
    event.client = Some(clients.client_id(key));
    fill(&mut event);
    clients.events.send(&mut clients.post, event);
}

/// Logs a new connection.
pub fn opened<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        let protocol = clients.slots.connection(key).wire.protocol.label();
        let (client, address) = (clients.client_id(key), clients.address(key));
        let address = address.map(tracing::field::display);
        tracing::debug!(%client, address, protocol, "a connection has opened");
    }
}

/// Logs the end of a connection.
pub fn closed<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, reason: CloseReason) {
    if tracing::enabled!(tracing::Level::DEBUG)
        && matches!(clients.slots.connection(key).state, State::Opened | State::Connected)
    {
        let (client, address) = (clients.client_id(key), clients.address(key));
        let address = address.map(tracing::field::display);
        let reason = reason.details().label;
        tracing::debug!(%client, address, reason, "a connection has closed");
    }
}

/// Reports the start of a session.
pub fn connected<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    if clients.options.settings.events.notes_connect() && is_session(clients.slots.connection(key))
    {
        let address = clients.address(key);
        report(clients, key, EventKind::Connect, |event| event.address = address);
    }
}

/// Reports the end of a session, with the code and text that the client was sent.
pub fn disconnected<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    Farewell { code, text }: Farewell<'_>,
) {
    if clients.options.settings.events.notes_disconnect()
        && is_session(clients.slots.connection(key))
    {
        report(clients, key, EventKind::Disconnect, |event| {
            event.code = code;
            event.reason = text.into();
        });
    }
}

/// Reports that a client has subscribed to a channel.
pub fn subscribed<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, place: LocalId) {
    let local = clients.delivery.local(place);
    if local.namespace.events.subscribe && is_session_begun(clients.slots.connection(key)) {
        let channel = local.name.clone();
        report(clients, key, EventKind::Subscribe, |event| event.channel = Some(channel));
    }
}

/// Reports the subscriptions with which a session begins.
pub fn all_subscribed<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let connection = clients.slots.connection(key);
    let count = connection.subscriptions_count();
    let places: Vec<LocalId> =
        (0..count).map(|index| connection.subscribed(index).channel).collect();
    places.into_iter().for_each(|place| subscribed(clients, key, place));
}

/// Reports that the subscription with number `index` is about to end.
pub fn unsubscribing<S: Sockets>(
    clients: &mut Clients<S>,
    slot: Slot,
    index: usize,
    Farewell { code, text }: Farewell<'_>,
) {
    let connection = clients.slots.tenant(slot);
    let key = ConnectionKey { slot, generation: connection.generation };
    let place = connection.subscribed(index).channel;
    let local = clients.delivery.local(place);
    if local.namespace.events.unsubscribe && is_session_begun(clients.slots.connection(key)) {
        let channel = local.name.clone();
        report(clients, key, EventKind::Unsubscribe, |event| {
            event.channel = Some(channel);
            event.code = code;
            event.reason = text.into();
        });
    }
}

/// Whether a connection belongs to a client, and not to a protocol test suite.
fn is_session(connection: &Connection) -> bool {
    connection.wire.protocol != Protocol::Echo
}

/// Whether the application knows of a connection. It does not while the upgrade is waiting.
fn is_session_begun(connection: &Connection) -> bool {
    connection.state == State::Connected
}
