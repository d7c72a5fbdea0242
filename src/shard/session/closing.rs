//! How connections end: the close handshake with its deadline, and the release of the slot. A slot
//! is free only when the kernel's watch of its socket has ended.

use super::clients::Clients;
use super::ending::Farewell;
use super::{refusing, reporting, subscriptions};
use crate::connection::{Connection, Flags, State};
use crate::handshake::{self, Unavailable};
use crate::ids::Tick;
use crate::kernel::{ConnectionKey, Release, Socket, Sockets};
use crate::limits::{CLOSE_REASON_BYTES_MAX, CLOSE_TIMEOUT};
use crate::metrics::ShardCounters;
use crate::reason::{CloseReason, Refusal};

/// Closes a connection with the code and text of `reason`.
pub fn close<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, reason: CloseReason) {
    close_with(clients, key, reason, Farewell::of(reason));
}

/// Closes a connection with another code and text than those of `reason`.
pub fn close_with<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    reason: CloseReason,
    farewell: Farewell<'_>,
) {
    let connection = clients.slots.connection(key);
    match connection.state {
        State::Opened | State::Connected => {}
        // The client must not receive publications before the reply to its `connect`.
        State::Resuming => clients.delivery.discard_unsent(&mut clients.slots, key),
        State::Upgrading if passes(reason) => return refuse_upgrade(clients, key, farewell.text),
        State::Upgrading => {
            refusing::refused(clients, key, Refusal::Closed, &[]);
            // Its client sees a close, not a response.
            clients.counters.closes[reason as usize].add(1);
            send_response(clients, key);
        }
        State::Handshaking => return release(clients, key, reason, Release::Graceful),
        State::Vacant | State::Closing | State::Released => return,
    }
    let connection = clients.slots.connection(key);
    let wire = connection.wire;
    let too_late =
        matches!(reason, CloseReason::Slow | CloseReason::OutboxesFull | CloseReason::NoPong);
    if !too_late && connection.state == State::Connected {
        // Publications from before the close are sent before it, as far as they fit.
        clients.delivery.seal();
        clients.delivery.collect_last(&mut clients.slots, key.slot);
    }
    // This ends the subscriptions, so their last publications had to be collected before.
    begin_closing(clients, key, reason, Some(farewell));
    let mut frame = Vec::new();
    wire.encode_close(farewell.code, cut(farewell.text), &mut frame);
    if too_late {
        // The client would not read this data in time. A frame that has begun must still be
        // completed.
        clients.delivery.discard_unsent(&mut clients.slots, key);
    }
    clients.send_own(key, &frame);
}

/// Answers a waiting upgrade with a 503. Nothing of its outbox has been sent yet.
pub fn refuse_upgrade<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, text: &str) {
    clients.delivery.discard_unsent(&mut clients.slots, key);
    refusing::refused(clients, key, Refusal::Channels, &[]);
    respond(clients, key, &handshake::unavailable(Unavailable::Because(text)));
}

/// Puts the response to the upgrade into the outbox, before everything else. It is encoded only
/// now, because many upgrades may be waiting.
pub fn send_response<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let busy = clients.slots.connection(key).busy.as_mut();
    let acceptance = busy.and_then(|busy| busy.plain.as_mut()?.acceptance.take());
    if let Some(acceptance) = acceptance {
        clients.send_own(key, &acceptance.head());
    }
}

/// Answers a request head with an HTTP response, and closes the connection.
pub fn respond<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, response: &[u8]) {
    begin_closing(clients, key, CloseReason::Refused, None);
    clients.send_own(key, response);
}

/// Handles a close frame: answers with one, and closes the connection.
pub fn on_close_frame<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, code: Option<u16>) {
    clients.slots.connection(key).flags.set(Flags::PEER_CLOSED);
    // RFC 6455 §5.5.1: the endpoint typically echoes the status code.
    let farewell = Farewell { code: code.unwrap_or(0), text: "" };
    close_with(clients, key, CloseReason::ClientClosed, farewell);
}

/// Removes a connection from all tables, except for sending its last bytes. `farewell` is `None` if
/// it never became a session.
fn begin_closing<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    reason: CloseReason,
    farewell: Option<Farewell<'_>>,
) {
    let connected = clients.is_connected(key);
    reporting::closed(clients, key, reason);
    count_close(&clients.counters, clients.slots.connection(key), reason);
    subscriptions::remove_all(clients, key.slot);
    if let Some(Farewell { code, text }) = farewell.filter(|_| connected) {
        let text = if text.is_empty() { reason.details().text } else { text };
        reporting::disconnected(clients, key, Farewell { code, text });
    }
    let deadline = clients.linger_end(CLOSE_TIMEOUT);
    clients.slots.set_deadline(key.slot, deadline);
    let connection = clients.slots.connection(key);
    connection.state = State::Closing;
    connection.flags.clear(Flags::WAITING);
    connection.flags.clear(Flags::PARKED);
    let busy = connection.busy();
    busy.head = Vec::new();
    busy.decoder = None;
    busy.parked = None;
    busy.waiting = None;
    busy.plain = None;
    busy.skips = Vec::new();
    busy.unserved = None;
    busy.closing = Some(reason);
    clients.input.account(&mut clients.slots, key);
    clients.input.mark_readable(&mut clients.slots, key);
    clients.delivery.mark_dirty(key.slot);
    if clients.slots.connection(key).flags.has(Flags::DEAF) {
        release(clients, key, reason, Release::Abort);
    }
}

/// Handles a socket that accepts no more data. Input that the peer sent before is still handled,
/// because a client may send a last message and leave.
pub fn on_deaf<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let connection = clients.slots.connection(key);
    if !matches!(connection.state, State::Opened | State::Connected) {
        return release(clients, key, CloseReason::PeerGone, Release::Abort);
    }
    connection.flags.set(Flags::DEAF);
    connection.flags.set(Flags::BLOCKED);
    clients.delivery.clear_outbox(&mut clients.slots, key);
    clients.slots.connection(key).shrink();
    clients.slots.set_deadline(key.slot, clients.linger_end(CLOSE_TIMEOUT));
    clients.input.mark_readable(&mut clients.slots, key);
}

/// Handles the end of the peer's stream, after all earlier input has been read.
pub fn on_end<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let connection = clients.slots.connection(key);
    connection.flags.clear(Flags::READABLE);
    connection.flags.set(Flags::PEER_CLOSED);
    match connection.state {
        State::Opened | State::Connected => {
            clients.slots.set_deadline(key.slot, clients.linger_end(CLOSE_TIMEOUT));
            end_if_done(clients, key);
        }
        // Pending data is sent first: a peer may close its sending side and still read.
        State::Closing if connection.outbox_cost_bytes() > 0 => {}
        _ => release(clients, key, CloseReason::PeerGone, Release::Graceful),
    }
}

/// Ends a connection whose peer has ended its stream, if no request of it is in progress. Its
/// answers are sent first, because the peer may still read.
pub fn end_if_done<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let connection = clients.slots.connection(key);
    let open = matches!(connection.state, State::Opened | State::Connected);
    let publishing = connection.busy.as_ref().is_some_and(|busy| busy.publishing > 0);
    if !open || publishing || !connection.flags.has(Flags::PEER_CLOSED) {
        return;
    }
    if connection.outbox_cost_bytes() == 0 {
        return release(clients, key, CloseReason::PeerGone, Release::Graceful);
    }
    let farewell = Farewell::of(CloseReason::PeerGone);
    begin_closing(clients, key, CloseReason::PeerGone, Some(farewell));
}

/// Counts the end of a connection. A socket that never became one counts as a refusal elsewhere.
fn count_close(counters: &ShardCounters, connection: &Connection, reason: CloseReason) {
    match connection.state {
        State::Handshaking | State::Upgrading => counters.handshaking.subtract(1),
        State::Opened | State::Resuming | State::Connected => {
            counters.connections[connection.wire.protocol as usize].subtract(1);
            counters.closes[reason as usize].add(1);
        }
        State::Vacant | State::Closing | State::Released => {}
    }
}

/// Handles a closing connection that has sent its last byte.
pub fn on_closing_sent<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let connection = clients.slots.connection(key);
    if connection.flags.has(Flags::PEER_CLOSED) {
        return release(clients, key, CloseReason::ClientClosed, Release::Graceful);
    }
    if !connection.flags.has(Flags::FINISHED) {
        // The peer sees the end immediately. Its remaining input is read and discarded, because
        // closing a socket with unread input sends a reset, which may overtake the close frame.
        connection.flags.set(Flags::FINISHED);
        let socket = connection.socket;
        clients.io.finish(socket);
        clients.input.mark_readable(&mut clients.slots, key);
    }
}

/// Releases a connection. Its slot becomes free when the watch of its socket has ended.
pub fn release<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    reason: CloseReason,
    how: Release,
) {
    if let Some(socket) = forget(clients, key, reason) {
        clients.io.release(socket, key, how);
    }
}

/// Removes a connection from every table except that of the slots. Returns its socket, unless it
/// was removed before.
pub fn forget<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    reason: CloseReason,
) -> Option<Socket> {
    let connection = clients.slots.connection(key);
    if connection.state == State::Released {
        return None;
    }
    let (connected, waits) = (
        connection.state == State::Connected,
        matches!(connection.state, State::Handshaking | State::Upgrading),
    );
    if waits {
        refusing::released(clients, key, reason);
    }
    reporting::closed(clients, key, reason);
    count_close(&clients.counters, clients.slots.connection(key), reason);
    subscriptions::remove_all(clients, key.slot);
    if connected {
        reporting::disconnected(clients, key, Farewell::of(reason));
    }
    clients.slots.set_deadline(key.slot, Tick::NEVER);
    clients.delivery.clear_outbox(&mut clients.slots, key);
    let connection = clients.slots.connection(key);
    connection.state = State::Released;
    let socket = connection.socket;
    if let Some(busy) = connection.busy.take() {
        clients.input.discharge(key, busy.charged);
        clients.counters.inbound_bytes.set(clients.input.unfinished_bytes() as u64);
    }
    Some(socket)
}

/// The part of an application's text that fits into a close frame.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(CLOSE_REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Whether the cause of a close is temporary, so that the client should retry its upgrade.
fn passes(reason: CloseReason) -> bool {
    // A position that can't be continued is lost permanently.
    reason.details().reconnect && reason != CloseReason::InsufficientState
}
