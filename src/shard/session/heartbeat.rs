//! Ticks: heartbeats, deadlines, expiry. Deadlines are swept, 4 bytes a connection, so that a
//! connection needs no timer.

use std::time::Duration;

use super::Sessions;
use crate::connection::{Attention, Deadlines, Due, Flags, Patience, State, Unread};
use crate::ids::{Slot, Tick};
use crate::kernel::{ConnectionKey, Release, Sockets};
use crate::limits::{ROUND_TICKS_MAX, TICK_SLOTS};
use crate::reason::CloseReason;

/// Status text for a request head that did not arrive in time. RFC 9110 §15.5.9.
const TIMEOUT_PHRASE: &str = "Request Timeout";

/// What a client is told whose channels were not subscribed within [`UPGRADE_TIMEOUT`].
///
/// [`UPGRADE_TIMEOUT`]: crate::limits::UPGRADE_TIMEOUT
const UPGRADE_TIMEOUT_TEXT: &str = "subscribing took too long";

impl<S: Sockets> Sessions<S> {
    /// A tenth of a second has passed.
    pub fn on_tick(&mut self) {
        let mut due = Vec::new();
        let stride = (self.slots.reached() / TICK_SLOTS).clamp(1, ROUND_TICKS_MAX);
        // Counted, not taken from the clock: ticks are lost in long turns, and always every second
        // one would leave half of the slots alone for ever.
        self.heartbeat_phase = (self.heartbeat_phase + 1) % stride;
        let phase = self.heartbeat_phase;
        self.slots.due(self.tick, phase, stride, &mut due);
        for slot in due {
            self.on_deadline(slot);
        }
        self.creating.on_tick(self.now);
        self.on_tick_gaps();
        self.input.on_tick_owing(&mut self.slots);
        self.report_dropped();
        self.delivery.on_tick(&mut self.slots, &self.io, self.tick);
    }

    fn on_deadline(&mut self, slot: Slot) {
        let connection = self.slots.tenant(slot);
        let key = ConnectionKey { slot, generation: connection.generation };
        match connection.state {
            State::Handshaking => {
                self.counters.handshakes_timeout.add(1);
                let text = "the request head did not arrive in time";
                let response = crate::handshake::response(408, TIMEOUT_PHRASE, text);
                self.respond(key, &response);
            }
            State::Opened => self.close(key, CloseReason::Stale),
            State::Upgrading => self.refuse_upgrade(key, UPGRADE_TIMEOUT_TEXT),
            State::Connected => self.on_heartbeat(key),
            State::Closing => {
                // When the process ends the kernel still delivers what it was given; else it must
                // not keep the connections of those who are gone.
                let how = if self.ending.draining { Release::Graceful } else { Release::Abort };
                self.release(key, CloseReason::PeerGone, how);
            }
            State::Vacant | State::Released => {}
        }
    }

    /// Plans a connection's first ping: at a random moment of the interval's second half, so that
    /// those who came together are not pinged together.
    pub(super) fn begin_heartbeat(&mut self, key: ConnectionKey) {
        let half = self.options.client().ping_interval / 2;
        let share = (self.next_random() >> 40) as f64 / (1u64 << 24) as f64;
        let due = self.tick.after(half + half.mul_f64(share));
        self.slots.set_deadline(key.slot, due);
        let connection = self.slots.connection(key);
        connection.heard = self.tick;
        connection.pinged = Tick::NEVER;
    }

    /// Looks after a session: something that it is waited for is over, or was before it changed.
    fn on_heartbeat(&mut self, key: ConnectionKey) {
        let connection = self.slots.connection(key);
        if connection.flags.has(Flags::PEER_CLOSED) || connection.flags.has(Flags::DEAF) {
            // The time for what it asked for before its end is over.
            return self.release(key, CloseReason::PeerGone, Release::Abort);
        }
        let attention = self.attend(key);
        match self.deadlines(key, attention).over(self.tick) {
            Some(Due::Progress) => return self.give_up(key, CloseReason::Slow),
            Some(Due::Reading) => {
                let reason = self.unread_reason(key);
                return self.give_up(key, reason);
            }
            Some(Due::Pong) => return self.give_up(key, CloseReason::NoPong),
            Some(Due::Ping) => self.ping(key),
            None => {}
        }
        let next = self.deadlines(key, attention).earliest();
        self.slots.set_deadline(key.slot, next);
    }

    /// All that a session is waited for.
    fn deadlines(&mut self, key: ConnectionKey, attention: Attention) -> Deadlines {
        let client = self.options.client();
        let patience =
            Patience { ping_interval: client.ping_interval, pong_timeout: client.pong_timeout };
        Deadlines::new(self.slots.connection(key), patience, attention, self.tick)
    }

    /// Closes a connection whose peer seems to be dead, and does not wait long for its answer.
    fn give_up(&mut self, key: ConnectionKey, reason: CloseReason) {
        self.close(key, reason);
        self.slots.set_deadline(key.slot, self.linger_end(Duration::from_secs(1)));
    }

    /// Finds out whether the server reads from a client, and notes since when it does not. A
    /// client that reads its answers at a fair pace is not to blame, so its time begins anew.
    fn attend(&mut self, key: ConnectionKey) -> Attention {
        let (tick, bytes_max) = (self.tick, self.options.reading_bytes_max());
        let connection = self.slots.connection(key);
        let reads = connection.may_read(bytes_max) && !connection.flags.has(Flags::READABLE);
        if let Some(busy) = connection.busy.as_mut() {
            let taken_bytes = busy.outbox.taken_bytes();
            let goes_on = |before: &Unread| taken_bytes >= before.taken_bytes + bytes_max;
            let before = busy.unread.filter(|before| !reads && !goes_on(before));
            busy.unread = before.or((!reads).then_some(Unread { since: tick, taken_bytes }));
        }
        if reads { Attention::Reads } else { Attention::Waits }
    }

    /// Why a client is closed that has not been read from for too long. Its own silence is not the
    /// reason, and not what it is told.
    fn unread_reason(&mut self, key: ConnectionKey) -> CloseReason {
        if self.slots.connection(key).flags.has(Flags::WAITING) {
            CloseReason::InternalError
        } else {
            CloseReason::Slow
        }
    }

    /// Looks at a connection that has begun to refuse bytes when it should have taken some.
    pub(super) fn expect_progress(&mut self, key: ConnectionKey) {
        let due = self.tick.after(self.options.client().pong_timeout);
        self.slots.bring_forward(key.slot, due);
    }

    fn ping(&mut self, key: ConnectionKey) {
        let tick = self.tick;
        let connection = self.slots.connection(key);
        connection.pinged = tick;
        if connection.busy.as_ref().is_none_or(|busy| busy.publishing == 0) {
            // Reading on takes much less than the time between two pings. One alone may come
            // right after the publication.
            if connection.flags.has(Flags::PUBLISHED_BEFORE) {
                connection.flags.clear(Flags::PUBLISHED);
            }
            connection.flags.set(Flags::PUBLISHED_BEFORE);
        }
        self.send_ping(key);
    }

    fn send_ping(&mut self, key: ConnectionKey) {
        let connection = self.slots.connection(key);
        if connection.flags.has(Flags::BLOCKED) {
            return; // Taking what waits for it is the sign of life that is asked for.
        }
        let (wire, mut frame) = (connection.wire, Vec::new());
        let own = !connection.flags.has(Flags::FRAME_PINGS) && wire.encode_ping(&mut frame);
        if own {
            if connection.flags.has(Flags::PINGED) {
                connection.flags.set(Flags::OVERDUE);
            }
            connection.flags.set(Flags::PINGED);
        } else {
            frame.clear();
            wire.encode_frame_ping(&mut frame);
            if connection.flags.has(Flags::HEARTBEATS) {
                wire.encode_heartbeat(self.options.client().ping_interval, &mut frame);
            }
        }
        self.send_own(key, &frame);
    }
}
