//! Events of sockets, and bytes from them.

use super::clients::Clients;
use super::homes::Homes;
use super::{closing, frames, heads, parking};
use crate::connection::{Flags, State};
use crate::kernel::{ConnectionKey, Ready, Received, Release, Sockets};
use crate::reason::CloseReason;

/// Handles an event of a socket.
pub fn on_ready<S: Sockets>(clients: &mut Clients<S>, ready: Ready) {
    let key = ready.key;
    // A released socket may have two last events. At the second one, its slot is free already.
    let Some(connection) = clients.slots.get(key) else { return };
    if ready.ended {
        return on_watch_ended(clients, ready);
    }
    if ready.hangup {
        connection.flags.set(Flags::HUNG_UP);
    }
    let deaf = connection.flags.has(Flags::DEAF);
    if ready.writable && !deaf && connection.flags.clear(Flags::BLOCKED) {
        connection.heard = clients.clock.tick();
        clients.delivery.mark_dirty(key.slot);
    }
    if ready.readable {
        clients.input.mark_readable(&mut clients.slots, key);
    }
}

fn on_watch_ended<S: Sockets>(clients: &mut Clients<S>, Ready { key, hangup: failed, .. }: Ready) {
    let connection = clients.slots.connection(key);
    let socket = connection.socket;
    if failed || connection.state == State::Released {
        // If the watch has failed, it is not requested again, because it would fail endlessly.
        closing::forget(clients, key, CloseReason::InternalError);
        clients.io.close(socket);
        let subnet = clients.slots.remove(key.slot);
        clients.subnets.leave(subnet);
    } else {
        // The kernel could not keep the watch, and events may have been lost with it. So the socket
        // is treated as readable and writable.
        clients.io.watch(socket, key);
        clients.input.mark_readable(&mut clients.slots, key);
        clients.delivery.mark_dirty(key.slot);
    }
}

/// Continues with parked input, or reads once from a socket. The connection stays on the list while
/// the socket may have more bytes.
pub fn on_listed<S: Sockets>(clients: &mut Clients<S>, homes: &mut Homes, key: ConnectionKey) {
    // The connection may have ended since it was listed.
    let Some(connection) = clients.slots.get(key) else { return };
    connection.flags.clear(Flags::LISTED);
    if connection.flags.has(Flags::PARKED) {
        // Parked input comes before new input.
        return parking::go_on(clients, homes, key);
    }
    if connection.state == State::Released || !connection.flags.has(Flags::READABLE) {
        return;
    }
    let closing = connection.state == State::Closing;
    if connection.is_upgrade_abandoned() {
        return closing::release(clients, key, CloseReason::PeerGone, Release::Graceful);
    }
    if !closing && !connection.may_read(clients.options.reading_bytes_max()) {
        return; // The connection is listed again when there is room.
    }
    let socket = connection.socket;
    let mut buffer = clients.input.take_buffer();
    match clients.io.receive(socket, &mut buffer) {
        Received::Bytes(count) => {
            // If the buffer is full, bytes may remain in the socket, and no further event reports
            // them.
            let all = count < buffer.len() && !connection.flags.has(Flags::HUNG_UP);
            if all {
                connection.flags.clear(Flags::READABLE);
            }
            on_bytes(clients, homes, key, &mut buffer[..count]);
            if !all {
                clients.input.mark_readable(&mut clients.slots, key);
            }
        }
        Received::Nothing => {
            connection.flags.clear(Flags::READABLE);
            clients.input.account(&mut clients.slots, key);
        }
        Received::End => closing::on_end(clients, key),
        Received::Gone => closing::release(clients, key, CloseReason::PeerGone, Release::Abort),
    }
    clients.input.keep_buffer(buffer);
}

fn on_bytes<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    bytes: &mut [u8],
) {
    let connection = clients.slots.connection(key);
    connection.heard = clients.clock.tick();
    if let Some(busy) = connection.busy.as_mut() {
        busy.unread = None;
    }
    match connection.state {
        State::Handshaking => heads::on_head(clients, homes, key, bytes),
        State::Opened | State::Connected => {
            frames::on_frames(clients, homes, key, bytes);
            parking::charge_inbound(clients, key);
        }
        // A client must not send anything before the response to its upgrade.
        State::Upgrading => {}
        // Nothing is read before the reply to `connect`.
        State::Resuming => {}
        State::Vacant | State::Closing | State::Released => {}
    }
}
