//! Ticks: heartbeats, deadlines, expiry. Deadlines are swept, 4 bytes a connection, so that a
//! connection needs no timer.

use std::time::Duration;

use super::Shard;
use crate::connection::{Flags, State, Unread};
use crate::ids::{Slot, Tick};
use crate::kernel::{ConnectionKey, Release, Sockets};
use crate::limits::{ROUND_TICKS_MAX, TICK_SLOTS, UNREAD_TIMEOUT};
use crate::reason::CloseReason;

/// Status text for a request head that did not arrive in time. RFC 9110 §15.5.9.
const TIMEOUT_PHRASE: &str = "Request Timeout";

/// What a client is told whose channels were not subscribed within [`UPGRADE_TIMEOUT`].
///
/// [`UPGRADE_TIMEOUT`]: crate::limits::UPGRADE_TIMEOUT
const UPGRADE_TIMEOUT_TEXT: &str = "subscribing took too long";

impl<S: Sockets> Shard<S> {
    /// A tenth of a second has passed.
    pub(super) fn on_tick(&mut self) {
        let mut due = Vec::new();
        let stride = (self.slots.reached() / TICK_SLOTS).clamp(1, ROUND_TICKS_MAX);
        // Counted, not taken from the clock: ticks are lost in long turns, and always every second
        // one would leave half of the slots alone for ever.
        self.heartbeat_phase = (self.heartbeat_phase + 1) % stride;
        let phase = self.heartbeat_phase;
        self.slots.due(self.tick, (phase, stride), &mut due);
        for slot in due {
            self.on_deadline(slot);
        }
        self.home.on_tick(&mut self.post);
        self.creating.on_tick(self.now);
        self.on_tick_gaps();
        self.on_tick_owing();
        self.report_dropped();
        self.on_tick_retries();
        self.drain_step();
        self.audit_step();
    }

    fn on_deadline(&mut self, slot: Slot) {
        let Some(key) = self.slots.key(slot) else { return };
        let Some(connection) = self.slots.get(key) else { return };
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
                let how = if self.draining { Release::Graceful } else { Release::Abort };
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
        if let Some(connection) = self.slots.get(key) {
            connection.heard = self.tick;
            connection.pinged = Tick::NEVER;
        }
    }

    fn on_heartbeat(&mut self, key: ConnectionKey) {
        let (tick, interval, patience) =
            (self.tick, self.options.client().ping_interval, self.options.client().pong_timeout);
        let Some(connection) = self.slots.get(key) else { return };
        if connection.flags.has(Flags::PEER_CLOSED) || connection.flags.has(Flags::DEAF) {
            // The time for what it asked for before its end is over.
            return self.release(key, CloseReason::PeerGone, Release::Abort);
        }
        let stalls_at = connection.stalls_at(patience);
        if stalls_at.is_some_and(|at| at <= tick) {
            return self.give_up(key, CloseReason::Slow);
        }
        let reads = !self.is_unread(key);
        if let Some(reason) = self.judge_unread(key, reads) {
            return self.give_up(key, reason);
        }
        let Some(connection) = self.slots.get(key) else { return };
        let (heard, pinged) = (connection.heard, connection.pinged);
        let ping_due = if pinged == Tick::NEVER { tick } else { pinged.after(interval) };
        let pong_due = pinged.after(patience);
        let next = if tick >= ping_due {
            connection.pinged = tick;
            if connection.busy.as_ref().is_none_or(|busy| busy.publishing == 0) {
                // Reading on takes much less than the time between two pings. One alone may come
                // right after the publication.
                if connection.flags.has(Flags::PUBLISHED_BEFORE) {
                    connection.flags.clear(Flags::PUBLISHED);
                }
                connection.flags.set(Flags::PUBLISHED_BEFORE);
            }
            tick.after(patience)
        } else if heard >= pinged {
            ping_due // Any byte since the ping is as good as a pong.
        } else if tick < pong_due {
            pong_due
        } else if reads {
            return self.give_up(key, CloseReason::NoPong);
        } else {
            tick.after(patience) // It may have answered: nobody has looked.
        };
        let next = stalls_at.map_or(next, |at| at.min(next));
        self.slots.set_deadline(key.slot, next);
        if tick >= ping_due {
            self.send_ping(key);
        }
    }

    /// Closes a connection whose peer seems to be dead, and does not wait long for its answer.
    fn give_up(&mut self, key: ConnectionKey, reason: CloseReason) {
        self.close(key, reason);
        self.slots.set_deadline(key.slot, self.linger_end(Duration::from_secs(1)));
    }

    /// Whether there may be bytes of a client that the server does not read for the time being.
    fn is_unread(&mut self, key: ConnectionKey) -> bool {
        let bytes_max = self.options.reading_bytes_max();
        let Some(connection) = self.slots.get(key) else { return false };
        !connection.may_read(bytes_max) || connection.flags.has(Flags::READABLE)
    }

    /// Why a client is to be closed that has not been read from for too long. Its own silence is
    /// not the reason, and not what it is told.
    fn judge_unread(&mut self, key: ConnectionKey, reads: bool) -> Option<CloseReason> {
        let tick = self.tick;
        let waiting = self.slots.get(key)?.flags.has(Flags::WAITING);
        let bytes_max = self.options.reading_bytes_max();
        let busy = self.slots.get(key)?.busy.as_mut()?;
        let taken_bytes = busy.outbox.taken_bytes();
        let goes_on = |before: &Unread| taken_bytes >= before.taken_bytes + bytes_max;
        let before = busy.unread.filter(|before| !reads && !goes_on(before));
        busy.unread = before.or((!reads).then_some(Unread { since: tick, taken_bytes }));
        let over = before.is_some_and(|before| before.since.after(UNREAD_TIMEOUT) <= tick);
        over.then_some(if waiting { CloseReason::InternalError } else { CloseReason::Slow })
    }

    /// Looks at a connection that has begun to refuse bytes when it should have taken some.
    pub(super) fn expect_progress(&mut self, key: ConnectionKey) {
        let due = self.tick.after(self.options.client().pong_timeout);
        if due < self.slots.deadline(key.slot) {
            self.slots.set_deadline(key.slot, due);
        }
    }

    fn send_ping(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get(key) else { return };
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
        }
        self.send_own(key, &frame);
    }
}
