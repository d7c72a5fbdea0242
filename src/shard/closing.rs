//! How connections end: the close handshake with its deadline, and the way back of a slot, which
//! is free only when the kernel's watch of its socket has ended.

use std::time::Duration;

use super::Shard;
use super::upgrading::passes;
use crate::connection::{Flags, State};
use crate::ids::Tick;
use crate::kernel::{ConnectionKey, Release, Socket, Sockets};
use crate::limits::{CLOSE_REASON_BYTES_MAX, CLOSE_TIMEOUT};
use crate::reason::CloseReason;
use crate::ws::Decoder;

impl<S: Sockets> Shard<S> {
    /// Closes a connection with the code and text of `reason`.
    pub(super) fn close(&mut self, key: ConnectionKey, reason: CloseReason) {
        let row = reason.row();
        self.close_with(key, reason, (row.code, row.text));
    }

    /// Closes a connection with a code and text of its own.
    pub(super) fn close_with(
        &mut self,
        key: ConnectionKey,
        reason: CloseReason,
        said: (u16, &str),
    ) {
        let Some(connection) = self.slots.get(key) else { return };
        match connection.state {
            State::Opened | State::Connected => {}
            State::Upgrading if passes(reason) => return self.refuse_upgrade(key, said.1),
            State::Upgrading => {
                self.counters.handshakes_refused.add(1);
                self.send_response(key);
            }
            State::Handshaking => return self.release(key, reason, Release::Graceful),
            State::Vacant | State::Closing | State::Released => return,
        }
        let Some(connection) = self.slots.get(key) else { return };
        let too_late =
            matches!(reason, CloseReason::Slow | CloseReason::OutboxesFull | CloseReason::NoPong);
        if !too_late && connection.state == State::Connected {
            // What was published before the close goes before it, as far as it fits.
            self.seal();
            self.collect_last(key.slot);
        }
        self.begin_closing(key, reason, Some(said));
        let Some(connection) = self.slots.get(key) else { return };
        let mut frame = Vec::new();
        connection.wire.encode_close(said.0, cut(said.1), &mut frame);
        if too_late && let Some(busy) = connection.busy.as_mut() {
            // It would not be read in time anyway; what was begun must be finished.
            busy.outbox.discard_unsent(connection.wire, &mut self.budget.accounts);
            self.budget.rank(key.slot, &mut busy.outbox);
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
        if let Some(connection) = self.slots.get(key) {
            connection.flags.set(Flags::PEER_CLOSED);
        }
        // RFC 6455 §5.5.1: the endpoint typically echoes the status code.
        self.close_with(key, CloseReason::ClientClosed, (code.unwrap_or(0), ""));
    }

    /// Takes a connection out of everything but the sending of its last bytes. What it is told is
    /// absent if it never became a session.
    fn begin_closing(
        &mut self,
        key: ConnectionKey,
        reason: CloseReason,
        said: Option<(u16, &str)>,
    ) {
        let connected = self.is_connected(key);
        self.count_close(key, reason);
        self.unsubscribe_all(key.slot);
        if let Some((code, text)) = said.filter(|_| connected) {
            let text = if text.is_empty() { reason.row().text } else { text };
            self.report_disconnect(key, (code, text));
        }
        let deadline = self.linger_end(CLOSE_TIMEOUT);
        self.slots.set_deadline(key.slot, deadline);
        if let Some(connection) = self.slots.get(key) {
            connection.state = State::Closing;
            connection.flags.clear(Flags::WAITING);
            connection.flags.clear(Flags::PARKED);
            let busy = connection.busy();
            busy.head = Vec::new();
            busy.decoder = Decoder::new();
            busy.parked = None;
            busy.waiting = None;
            busy.plain = None;
            busy.skips = Vec::new();
            busy.unserved = None;
            busy.closing = Some(reason);
        }
        self.account_inbound(key);
        self.mark_readable(key);
        self.mark_dirty(key.slot);
        if self.slots.get(key).is_some_and(|connection| connection.flags.has(Flags::DEAF)) {
            self.release(key, reason, Release::Abort);
        }
    }

    /// Until when a connection that ends now may linger.
    pub(super) fn linger_end(&self, most: Duration) -> Tick {
        self.tick.after(most).min(self.last_end)
    }

    /// The kernel takes nothing more for a connection. What its peer has sent before is still
    /// carried out: a client may send its last words and be gone.
    pub(super) fn on_deaf(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get(key) else { return };
        if !matches!(connection.state, State::Opened | State::Connected) {
            return self.release(key, CloseReason::PeerGone, Release::Abort);
        }
        connection.flags.set(Flags::DEAF);
        connection.flags.set(Flags::BLOCKED);
        if let Some(busy) = connection.busy.as_mut() {
            busy.outbox.clear(&mut self.budget.accounts);
            self.budget.rank(key.slot, &mut busy.outbox);
        }
        connection.shrink();
        self.slots.set_deadline(key.slot, self.linger_end(CLOSE_TIMEOUT));
        self.mark_readable(key);
    }

    /// The peer has ended its stream, and all that came before has been read.
    pub(super) fn on_end(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get(key) else { return };
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
        let Some(connection) = self.slots.get(key) else { return };
        let open = matches!(connection.state, State::Opened | State::Connected);
        let publishing = connection.busy.as_ref().is_some_and(|busy| busy.publishing > 0);
        if !open || publishing || !connection.flags.has(Flags::PEER_CLOSED) {
            return;
        }
        if connection.outbox_cost_bytes() == 0 {
            return self.release(key, CloseReason::PeerGone, Release::Graceful);
        }
        let row = CloseReason::PeerGone.row();
        self.begin_closing(key, CloseReason::PeerGone, Some((row.code, row.text)));
    }

    fn is_connected(&mut self, key: ConnectionKey) -> bool {
        self.slots.get(key).is_some_and(|connection| connection.state == State::Connected)
    }

    fn count_close(&mut self, key: ConnectionKey, reason: CloseReason) {
        let Some(connection) = self.slots.get(key) else { return };
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
        let Some(connection) = self.slots.get(key) else { return };
        if connection.flags.has(Flags::PEER_CLOSED) {
            return self.release(key, CloseReason::ClientClosed, Release::Graceful);
        }
        if !connection.flags.has(Flags::FINISHED) {
            // The peer sees the end at once; what it has still sent is read and thrown away, or
            // closing would become a reset that outruns the close frame.
            connection.flags.set(Flags::FINISHED);
            let socket = connection.socket;
            self.io.finish(socket);
            self.mark_readable(key);
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
        let connection = self.slots.get(key)?;
        if connection.state == State::Released {
            return None;
        }
        let connected = connection.state == State::Connected;
        self.count_close(key, reason);
        self.unsubscribe_all(key.slot);
        if connected {
            self.report_disconnect(key, (reason.row().code, reason.row().text));
        }
        self.slots.set_deadline(key.slot, Tick::NEVER);
        let connection = self.slots.get(key)?;
        connection.state = State::Released;
        if let Some(mut busy) = connection.busy.take() {
            self.unfinished.charge(key, busy.charged, 0);
            self.counters.inbound_bytes.set(self.unfinished.bytes() as u64);
            busy.outbox.clear(&mut self.budget.accounts);
            self.budget.rank(key.slot, &mut busy.outbox);
        }
        Some(connection.socket)
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
