//! Ticks: heartbeats, deadlines, expiry. Deadlines are swept, 4 bytes a connection, so that a
//! connection needs no timer.

use std::time::Duration;

use super::{Release, Shard, Sockets, Token};
use crate::connection::{Flags, State};
use crate::ids::{Slot, Tick};
use crate::reason::CloseReason;
use crate::ws;

/// Slots whose deadlines one tick looks at, at least: 256 KiB, about 30 µs.
const TICK_SLOTS: usize = 65_536;

/// Most ticks that a round over all deadlines takes: a deadline is missed by a second at most.
const ROUND_TICKS_MAX: usize = 10;

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
        self.homes.on_tick(self.now);
        self.cells.history_bytes.set(self.homes.bytes() as u64);
        self.cells.channels_home.set(self.homes.count() as u64);
        self.on_tick_following();
        self.on_tick_gaps();
        self.on_tick_owing();
        self.report_dropped();
        self.on_tick_retries();
        self.drain_step();
        self.audit_step();
    }

    fn on_deadline(&mut self, slot: Slot) {
        let Some(token) = self.slots.token(slot) else { return };
        let Some(connection) = self.slots.get(token) else { return };
        match connection.state {
            State::Handshaking => {
                self.cells.handshakes_timeout.add(1);
                let text = "the request head did not arrive in time";
                let response = crate::handshake::response(408, TIMEOUT_PHRASE, text);
                self.respond(token, &response);
            }
            State::Opened => self.close(token, CloseReason::Stale),
            State::Upgrading => self.refuse_upgrade(token, UPGRADE_TIMEOUT_TEXT),
            State::Connected => self.on_heartbeat(token),
            State::Closing => {
                // When the process ends the kernel still delivers what it was given; else it must
                // not keep the connections of those who are gone.
                let how = if self.draining { Release::Graceful } else { Release::Abort };
                self.release(token, CloseReason::PeerGone, how);
            }
            State::Vacant | State::Released => {}
        }
    }

    /// Plans a connection's first ping: at a random moment of the interval's second half, so that
    /// those who came together are not pinged together.
    pub(super) fn begin_heartbeat(&mut self, token: Token) {
        let half = self.options.ping_interval / 2;
        let share = (self.next_random() >> 40) as f64 / (1u64 << 24) as f64;
        let due = self.tick.after(half + half.mul_f64(share));
        self.slots.set_deadline(token.slot, due);
        if let Some(connection) = self.slots.get(token) {
            connection.heard = self.tick;
            connection.pinged = Tick::NEVER;
        }
    }

    fn on_heartbeat(&mut self, token: Token) {
        let (tick, interval) = (self.tick, self.options.ping_interval);
        let Some(connection) = self.slots.get(token) else { return };
        let first = connection.pinged == Tick::NEVER;
        let next = if first { tick } else { connection.pinged.after(interval) };
        if tick < next {
            // This is the pong's deadline. Any byte since the ping is as good as a pong.
            if connection.heard < connection.pinged {
                self.close(token, CloseReason::NoPong);
                self.slots.set_deadline(token.slot, tick.after(Duration::from_secs(1)));
            } else {
                self.slots.set_deadline(token.slot, next);
            }
            return;
        }
        connection.pinged = tick;
        if connection.extra.as_ref().is_none_or(|extra| extra.publishing == 0) {
            // Reading on takes much less than the time between two pings.
            connection.flags.clear(Flags::PUBLISHED);
        }
        self.slots.set_deadline(token.slot, tick.after(self.options.pong_timeout));
        self.send_ping(token);
    }

    fn send_ping(&mut self, token: Token) {
        let Some(connection) = self.slots.get(token) else { return };
        if connection.flags.has(Flags::BLOCKED) {
            return; // Taking what waits for it is the sign of life that is asked for.
        }
        let mut frame = Vec::new();
        let own = !connection.flags.has(Flags::FRAME_PINGS)
            && connection.protocol.codec().encode_ping(&mut frame);
        if own {
            if connection.flags.has(Flags::PINGED) {
                connection.flags.set(Flags::OVERDUE);
            }
            connection.flags.set(Flags::PINGED);
        } else {
            frame.clear();
            ws::encode_ping(&[], &mut frame);
        }
        self.send_own(token, &frame);
    }
}
