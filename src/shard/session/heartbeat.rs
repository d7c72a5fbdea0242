//! Heartbeats, deadlines and expiry. One array of deadlines is scanned, with 4 bytes for each
//! connection, so that connections need no timers.

use super::clients::Clients;
use super::ending::{Farewell, text_of_timeout};
use super::{closing, refusing};
use crate::connection::{
    Attention, Connection, Deadlines, Due, Flags, Patience, PendingRequest, ReadPause, State,
};
use crate::ids::{Slot, Tick};
use crate::kernel::{ConnectionKey, Release, Sockets};
use crate::limits::{CLOSE_DEAD_TIMEOUT, ROUND_TICKS_MAX, TICK_SLOTS};
use crate::reason::{CloseReason, Refusal};
use crate::settings::Client;

/// Status text for a request head that did not arrive in time. RFC 9110 §15.5.9.
const TIMEOUT_PHRASE: &str = "Request Timeout";

/// The position of the scan of deadlines.
#[derive(Default)]
pub struct Heartbeat {
    /// The part of the slots that the last tick scanned.
    phase: usize,
}

impl Heartbeat {
    /// Handles connections whose deadline has passed, in one part of the slots.
    pub fn on_tick<S: Sockets>(&mut self, clients: &mut Clients<S>) {
        let mut due = Vec::new();
        let stride = (clients.slots.reached() / TICK_SLOTS).clamp(1, ROUND_TICKS_MAX);
        // The part is counted and not derived from the clock, because long turns lose ticks. If
        // every second tick was lost, half of the slots would never be scanned.
        self.phase = (self.phase + 1) % stride;
        clients.slots.due(clients.clock.tick(), self.phase, stride, &mut due);
        for slot in due {
            on_deadline(clients, slot);
        }
    }
}

fn on_deadline<S: Sockets>(clients: &mut Clients<S>, slot: Slot) {
    let connection = clients.slots.tenant(slot);
    let key = ConnectionKey { slot, generation: connection.generation };
    match connection.state {
        State::Handshaking => {
            refusing::refused(clients, key, Refusal::Timeout, &[]);
            let text = "the request head did not arrive in time";
            let response = crate::handshake::response(408, TIMEOUT_PHRASE, text);
            closing::respond(clients, key, &response);
        }
        State::Opened => closing::close(clients, key, CloseReason::Stale),
        State::Upgrading => give_up_upgrade(clients, key),
        State::Resuming => give_up_connect(clients, key),
        State::Connected => on_heartbeat(clients, key),
        State::Closing => {
            // In a drain the kernel may continue to deliver the data after the process has ended.
            // Otherwise it must not keep the sockets of dead clients.
            let how = if clients.ending.is_draining() { Release::Graceful } else { Release::Abort };
            closing::release(clients, key, CloseReason::PeerGone, how);
        }
        State::Vacant | State::Released => {}
    }
}

/// Refuses an upgrade whose channels were not subscribed within [`UPGRADE_TIMEOUT`].
fn give_up_upgrade<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let connection = clients.slots.connection(key);
    let plain = connection.busy.as_ref().and_then(|busy| busy.plain.as_ref());
    let waiting = plain.map(|plain| plain.waiting.as_slice()).unwrap_or_default();
    let text = text_of_timeout(waiting);
    closing::refuse_upgrade(clients, key, &text);
}

/// Closes a connection whose `connect` has waited for subscriptions for [`UPGRADE_TIMEOUT`].
fn give_up_connect<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let busy = clients.slots.connection(key).busy.as_ref();
    let waiting = match busy.and_then(|busy| busy.waiting.as_deref()) {
        Some(PendingRequest::Connect(resuming)) => resuming.waiting.as_slice(),
        other => unreachable!("a client that resumes waits for its subscriptions: {other:?}"),
    };
    let text = text_of_timeout(waiting);
    let reason = CloseReason::InternalError;
    let farewell = Farewell { code: reason.details().code, text: &text };
    closing::close_with(clients, key, reason, farewell);
}

/// Schedules the first ping of a connection at a random time in the second half of the interval. So
/// clients that connected together are not pinged together.
pub fn begin<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let half = clients.options.client().ping_interval / 2;
    let share = (clients.clock.random() >> 40) as f64 / (1u64 << 24) as f64;
    let due = clients.clock.tick().after(half + half.mul_f64(share));
    clients.slots.set_deadline(key.slot, due);
    let connection = clients.slots.connection(key);
    connection.heard = clients.clock.tick();
    connection.pinged = Tick::NEVER;
}

/// Handles the deadline of a session. The deadline may be stale, because the session may have
/// changed since it was set.
fn on_heartbeat<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let (tick, bytes_max) = (clients.clock.tick(), clients.options.reading_bytes_max());
    let connection = clients.slots.connection(key);
    if connection.flags.has(Flags::PEER_CLOSED) || connection.flags.has(Flags::DEAF) {
        // The client has ended its stream, and had time to get its last answers.
        return closing::release(clients, key, CloseReason::PeerGone, Release::Abort);
    }
    let patience = patience(clients.options.client());
    let attention = attend(connection, tick, bytes_max);
    let mut deadlines = Deadlines::new(connection, patience, attention, tick);
    match deadlines.over(tick) {
        Some(Due::Progress) => return give_up(clients, key, CloseReason::Slow),
        Some(Due::Reading) => {
            let reason = unread_reason(connection);
            return give_up(clients, key, reason);
        }
        Some(Due::Pong) => return give_up(clients, key, CloseReason::NoPong),
        Some(Due::Ping) => {
            ping(clients, key);
            let pinged = clients.slots.connection(key);
            deadlines = Deadlines::new(pinged, patience, attention, tick);
        }
        None => {}
    }
    clients.slots.set_deadline(key.slot, deadlines.earliest());
}

fn patience(client: &Client) -> Patience {
    Patience { ping_interval: client.ping_interval, pong_timeout: client.pong_timeout }
}

/// Closes a connection whose peer seems to be dead, with only a short wait for its close frame.
fn give_up<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, reason: CloseReason) {
    closing::close(clients, key, reason);
    clients.slots.set_deadline(key.slot, clients.linger_end(CLOSE_DEAD_TIMEOUT));
}

/// Finds out whether the server reads from a client, and records since when it does not. If the
/// client reads its answers at a fair pace, this time starts again, because the client is not the
/// cause.
fn attend(connection: &mut Connection, tick: Tick, bytes_max: usize) -> Attention {
    let reads = connection.may_read(bytes_max) && !connection.flags.has(Flags::READABLE);
    if let Some(busy) = connection.busy.as_mut() {
        let taken_bytes = busy.outbox.taken_bytes();
        let goes_on = |before: &ReadPause| taken_bytes >= before.taken_bytes + bytes_max;
        let before = busy.unread.filter(|before| !reads && !goes_on(before));
        busy.unread = before.or((!reads).then_some(ReadPause { since: tick, taken_bytes }));
    }
    if reads { Attention::Reads } else { Attention::Waits }
}

/// The reason to close a client that has not been read from for too long. Its own silence can't be
/// the reason, because the server has not listened.
fn unread_reason(connection: &Connection) -> CloseReason {
    if connection.flags.has(Flags::WAITING) {
        CloseReason::InternalError
    } else {
        CloseReason::Slow
    }
}

/// Sets a deadline for a connection that has begun to refuse bytes, by which it must take some.
pub fn expect_progress<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let due = clients.clock.tick().after(clients.options.client().pong_timeout);
    clients.slots.bring_forward(key.slot, due);
}

fn ping<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let tick = clients.clock.tick();
    let connection = clients.slots.connection(key);
    connection.pinged = tick;
    if connection.busy.as_ref().is_none_or(|busy| busy.publishing == 0) {
        // A node reads a publication back in much less time than passes between two pings. The
        // first ping may come right after the publication, so only the second one clears the flag.
        if connection.flags.has(Flags::PUBLISHED_BEFORE) {
            connection.flags.clear(Flags::PUBLISHED);
        }
        connection.flags.set(Flags::PUBLISHED_BEFORE);
    }
    send_ping(clients, key);
}

fn send_ping<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    let connection = clients.slots.connection(key);
    if connection.flags.has(Flags::BLOCKED) {
        return; // Reading its pending data is the expected sign of life.
    }
    let wire = connection.wire;
    let mut frame = clients.input.take_reply_buffer();
    let own = !connection.flags.has(Flags::FRAME_PINGS) && wire.encode_ping(&mut frame);
    if own {
        // The last ping is unanswered, so the client may answer both together.
        if connection.flags.has(Flags::PINGED) {
            connection.flags.set(Flags::OVERDUE);
        }
        connection.flags.set(Flags::PINGED);
    } else {
        frame.clear();
        wire.encode_frame_ping(&mut frame);
        if connection.flags.has(Flags::HEARTBEATS) {
            wire.encode_heartbeat(clients.options.client().ping_interval, &mut frame);
        }
    }
    clients.send_reply(key, frame);
}
