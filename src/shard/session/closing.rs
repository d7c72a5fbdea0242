//! How connections end: the close handshake with its deadline, and the way back of a slot, which
//! is free only when the kernel's watch of its socket has ended.

use std::time::Duration;

use super::Sessions;
use super::upgrading::passes;
use crate::connection::{Flags, State};
use crate::ids::Tick;
use crate::kernel::{ConnectionKey, Release, Socket, Sockets};
use crate::limits::{CLOSE_REASON_BYTES_MAX, CLOSE_TIMEOUT};
use crate::reason::{CloseReason, UnsubscribeReason};

/// What a client is told at the end of its connection or subscription, and the application of it.
#[derive(Clone, Copy, Debug)]
pub struct Farewell<'a> {
    /// The code.
    pub code: u16,
    /// The text.
    pub text: &'a str,
}

impl Farewell<'static> {
    /// The words for a close reason.
    pub fn of(reason: CloseReason) -> Farewell<'static> {
        Farewell { code: reason.row().code, text: reason.row().text }
    }

    /// The words for the end of a subscription.
    pub fn of_subscription(reason: UnsubscribeReason) -> Farewell<'static> {
        let (code, text) = reason.code_and_text();
        Farewell { code, text }
    }
}

/// The end of all connections, before the process ends.
pub(super) struct Ending {
    /// Connections are closed, and no more are taken.
    pub(super) draining: bool,
    /// When no closing connection may linger any longer.
    last_end: Tick,
}

impl Default for Ending {
    fn default() -> Ending {
        Ending { draining: false, last_end: Tick::NEVER }
    }
}

impl<S: Sockets> Sessions<S> {
    /// Takes no more connections. None may linger for longer than `last_end` from now on.
    pub fn begin_draining(&mut self, last_end: Duration) {
        self.ending.draining = true;
        self.ending.last_end = self.ending.last_end.min(self.tick.after(last_end));
    }

    /// Whether no more connections are taken.
    pub fn is_draining(&self) -> bool {
        self.ending.draining
    }

    /// Sees to it that a connection which was closing when the drain began ends with the others.
    pub fn hasten(&mut self, key: ConnectionKey) {
        if self.slots.connection(key).state == State::Closing {
            self.slots.bring_forward(key.slot, self.ending.last_end);
        }
    }

    /// Closes a connection with the code and text of `reason`.
    pub fn close(&mut self, key: ConnectionKey, reason: CloseReason) {
        self.close_with(key, reason, Farewell::of(reason));
    }

    /// Closes a connection with a code and text of its own.
    pub fn close_with(&mut self, key: ConnectionKey, reason: CloseReason, farewell: Farewell<'_>) {
        let connection = self.slots.connection(key);
        match connection.state {
            State::Opened | State::Connected => {}
            State::Upgrading if passes(reason) => return self.refuse_upgrade(key, farewell.text),
            State::Upgrading => {
                self.counters.handshakes_refused.add(1);
                self.send_response(key);
            }
            State::Handshaking => return self.release(key, reason, Release::Graceful),
            State::Vacant | State::Closing | State::Released => return,
        }
        let connection = self.slots.connection(key);
        let wire = connection.wire;
        let too_late =
            matches!(reason, CloseReason::Slow | CloseReason::OutboxesFull | CloseReason::NoPong);
        if !too_late && connection.state == State::Connected {
            // What was published before the close goes before it, as far as it fits.
            self.delivery.seal();
            self.delivery.collect_last(&mut self.slots, key.slot);
        }
        self.begin_closing(key, reason, Some(farewell));
        let mut frame = Vec::new();
        wire.encode_close(farewell.code, cut(farewell.text), &mut frame);
        if too_late {
            // It would not be read in time anyway; what was begun must be finished.
            self.delivery.discard_unsent(&mut self.slots, key);
        }
        self.send_own(key, &frame);
    }

    /// Answers a request head with HTTP, and closes.
    pub(super) fn respond(&mut self, key: ConnectionKey, response: &[u8]) {
        self.begin_closing(key, CloseReason::Refused, None);
        self.send_own(key, response);
    }

    /// The peer has sent a close frame: it gets one back, and the connection ends.
    pub(super) fn on_close_frame(&mut self, key: ConnectionKey, code: Option<u16>) {
        self.slots.connection(key).flags.set(Flags::PEER_CLOSED);
        // RFC 6455 §5.5.1: the endpoint typically echoes the status code.
        let farewell = Farewell { code: code.unwrap_or(0), text: "" };
        self.close_with(key, CloseReason::ClientClosed, farewell);
    }

    /// Takes a connection out of everything but the sending of its last bytes. What it is told is
    /// absent if it never became a session.
    fn begin_closing(
        &mut self,
        key: ConnectionKey,
        reason: CloseReason,
        farewell: Option<Farewell<'_>>,
    ) {
        let connected = self.is_connected(key);
        self.count_close(key, reason);
        self.unsubscribe_all(key.slot);
        if let Some(Farewell { code, text }) = farewell.filter(|_| connected) {
            let text = if text.is_empty() { reason.row().text } else { text };
            self.report_disconnect(key, Farewell { code, text });
        }
        let deadline = self.linger_end(CLOSE_TIMEOUT);
        self.slots.set_deadline(key.slot, deadline);
        let connection = self.slots.connection(key);
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
        self.input.account(&mut self.slots, key);
        self.input.mark_readable(&mut self.slots, key);
        self.delivery.mark_dirty(key.slot);
        if self.slots.connection(key).flags.has(Flags::DEAF) {
            self.release(key, reason, Release::Abort);
        }
    }

    /// Until when a connection that ends now may linger.
    pub(super) fn linger_end(&self, most: Duration) -> Tick {
        self.tick.after(most).min(self.ending.last_end)
    }

    /// The kernel takes nothing more for a connection. What its peer has sent before is still
    /// carried out: a client may send its last words and be gone.
    pub(super) fn on_deaf(&mut self, key: ConnectionKey) {
        let connection = self.slots.connection(key);
        if !matches!(connection.state, State::Opened | State::Connected) {
            return self.release(key, CloseReason::PeerGone, Release::Abort);
        }
        connection.flags.set(Flags::DEAF);
        connection.flags.set(Flags::BLOCKED);
        self.delivery.clear_outbox(&mut self.slots, key);
        self.slots.connection(key).shrink();
        self.slots.set_deadline(key.slot, self.linger_end(CLOSE_TIMEOUT));
        self.input.mark_readable(&mut self.slots, key);
    }

    /// The peer has ended its stream, and all that came before has been read.
    pub(super) fn on_end(&mut self, key: ConnectionKey) {
        let connection = self.slots.connection(key);
        connection.flags.clear(Flags::READABLE);
        connection.flags.set(Flags::PEER_CLOSED);
        match connection.state {
            State::Opened | State::Connected => {
                self.slots.set_deadline(key.slot, self.linger_end(CLOSE_TIMEOUT));
                self.end_if_done(key);
            }
            // What is on its way out goes first: a peer may close its sending side and still read.
            State::Closing if connection.outbox_cost_bytes() > 0 => {}
            _ => self.release(key, CloseReason::PeerGone, Release::Graceful),
        }
    }

    /// Ends a connection whose peer has ended its stream, if nothing that it asked for is under way
    /// any more. The answers go out first: the peer may still read.
    pub(super) fn end_if_done(&mut self, key: ConnectionKey) {
        let connection = self.slots.connection(key);
        let open = matches!(connection.state, State::Opened | State::Connected);
        let publishing = connection.busy.as_ref().is_some_and(|busy| busy.publishing > 0);
        if !open || publishing || !connection.flags.has(Flags::PEER_CLOSED) {
            return;
        }
        if connection.outbox_cost_bytes() == 0 {
            return self.release(key, CloseReason::PeerGone, Release::Graceful);
        }
        let farewell = Farewell::of(CloseReason::PeerGone);
        self.begin_closing(key, CloseReason::PeerGone, Some(farewell));
    }

    /// Whether a connection is there, and its session runs.
    pub fn is_connected(&mut self, key: ConnectionKey) -> bool {
        self.slots.get(key).is_some_and(|connection| connection.state == State::Connected)
    }

    fn count_close(&mut self, key: ConnectionKey, reason: CloseReason) {
        let connection = self.slots.connection(key);
        match connection.state {
            State::Handshaking | State::Upgrading => self.counters.handshaking.subtract(1),
            State::Opened | State::Connected => {
                self.counters.connections[connection.wire.protocol as usize].subtract(1);
            }
            State::Vacant | State::Closing | State::Released => return,
        }
        self.counters.closes[reason as usize].add(1);
    }

    /// A closing connection has sent its last byte.
    pub(super) fn on_closing_sent(&mut self, key: ConnectionKey) {
        let connection = self.slots.connection(key);
        if connection.flags.has(Flags::PEER_CLOSED) {
            return self.release(key, CloseReason::ClientClosed, Release::Graceful);
        }
        if !connection.flags.has(Flags::FINISHED) {
            // The peer sees the end at once; what it has still sent is read and thrown away, or
            // closing would become a reset that outruns the close frame.
            connection.flags.set(Flags::FINISHED);
            let socket = connection.socket;
            self.io.finish(socket);
            self.input.mark_readable(&mut self.slots, key);
        }
    }

    /// Gives a connection up. Its slot is free when the watch of its socket has ended.
    pub(super) fn release(&mut self, key: ConnectionKey, reason: CloseReason, how: Release) {
        if let Some(socket) = self.forget(key, reason) {
            self.io.release(socket, key, how);
        }
    }

    /// Takes a connection out of every table but that of the slots; answers its socket, if this
    /// had not been done before.
    pub(super) fn forget(&mut self, key: ConnectionKey, reason: CloseReason) -> Option<Socket> {
        let connection = self.slots.connection(key);
        if connection.state == State::Released {
            return None;
        }
        let connected = connection.state == State::Connected;
        self.count_close(key, reason);
        self.unsubscribe_all(key.slot);
        if connected {
            self.report_disconnect(key, Farewell::of(reason));
        }
        self.slots.set_deadline(key.slot, Tick::NEVER);
        self.delivery.clear_outbox(&mut self.slots, key);
        let connection = self.slots.connection(key);
        connection.state = State::Released;
        let socket = connection.socket;
        if let Some(busy) = connection.busy.take() {
            self.input.unfinished.charge(key, busy.charged, 0);
            self.counters.inbound_bytes.set(self.input.unfinished.bytes() as u64);
        }
        Some(socket)
    }
}

/// The part of an application's text that fits a close frame.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(CLOSE_REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
