//! How connections end: the close handshake with its deadline, and the way back of a slot, which
//! is free only when the kernel's watch of its socket has ended.

use std::time::Duration;

use super::upgrading::passes;
use super::{Release, Shard, Socket, Sockets, Token};
use crate::connection::{Flags, State};
use crate::ids::Tick;
use crate::limits::{CLOSE_REASON_BYTES_MAX, CLOSE_TIMEOUT};
use crate::reason::CloseReason;
use crate::ws;

impl<S: Sockets> Shard<S> {
    /// Closes a connection with the code and text of `reason`.
    pub(super) fn close(&mut self, token: Token, reason: CloseReason) {
        let row = reason.row();
        self.close_with(token, reason, (row.code, row.text));
    }

    /// Closes a connection with a code and text of its own.
    pub(super) fn close_with(&mut self, token: Token, reason: CloseReason, said: (u16, &str)) {
        let Some(connection) = self.slots.get(token) else { return };
        match connection.state {
            State::Opened | State::Connected => {}
            State::Upgrading if passes(reason) => return self.refuse_upgrade(token, said.1),
            State::Upgrading => {
                self.cells.handshakes_refused.add(1);
                self.send_response(token);
            }
            State::Handshaking => return self.release(token, reason, Release::Graceful),
            State::Vacant | State::Closing | State::Released => return,
        }
        let Some(connection) = self.slots.get(token) else { return };
        let too_late =
            matches!(reason, CloseReason::Slow | CloseReason::OutboxesFull | CloseReason::NoPong);
        if !too_late && connection.state == State::Connected {
            // What was published before the close goes before it, as far as it fits.
            self.seal();
            self.absorb_last(token.slot);
        }
        self.begin_closing(token, reason, Some(said));
        let Some(connection) = self.slots.get(token) else { return };
        let mut frame = Vec::new();
        ws::encode_close(said.0, cut(said.1), &mut frame);
        if too_late && let Some(extra) = connection.extra.as_mut() {
            // It would not be read in time anyway; what was begun must be finished.
            extra.outbox.discard_unsent(&mut self.budget.accounts);
            self.budget.rank(token.slot, &mut extra.outbox);
        }
        self.send_own(token, &frame);
    }

    /// Answers a request head with HTTP, and closes.
    pub(super) fn respond(&mut self, token: Token, response: &[u8]) {
        self.begin_closing(token, CloseReason::Refused, None);
        self.send_own(token, response);
    }

    /// The peer has sent a close frame: it gets one back, and the connection ends.
    pub(super) fn on_close_frame(&mut self, token: Token, code: Option<u16>) {
        if let Some(connection) = self.slots.get(token) {
            connection.flags.set(Flags::PEER_CLOSED);
        }
        // RFC 6455 §5.5.1: the endpoint typically echoes the status code.
        self.close_with(token, CloseReason::ClientClosed, (code.unwrap_or(0), ""));
    }

    /// Takes a connection out of everything but the sending of its last bytes. What it is told is
    /// absent if it never became a session.
    fn begin_closing(&mut self, token: Token, reason: CloseReason, said: Option<(u16, &str)>) {
        let connected = self.is_connected(token);
        self.count_close(token, reason);
        self.unsubscribe_all(token.slot);
        if let Some((code, text)) = said.filter(|_| connected) {
            let text = if text.is_empty() { reason.row().text } else { text };
            self.report_disconnect(token, (code, text));
        }
        let deadline = self.linger_end(CLOSE_TIMEOUT);
        self.slots.set_deadline(token.slot, deadline);
        if let Some(connection) = self.slots.get(token) {
            connection.state = State::Closing;
            connection.flags.clear(Flags::WAITING);
            connection.flags.clear(Flags::PARKED);
            let extra = connection.extra();
            extra.head = Vec::new();
            extra.decoder = ws::Decoder::new();
            extra.parked = None;
            extra.waiting = None;
            extra.plain = None;
            extra.skips = Vec::new();
            extra.unserved = None;
            extra.closing = Some(reason);
        }
        self.account_inbound(token);
        self.mark_readable(token);
        self.mark_dirty(token.slot);
        if self.slots.get(token).is_some_and(|connection| connection.flags.has(Flags::DEAF)) {
            self.release(token, reason, Release::Abort);
        }
    }

    /// Until when a connection that ends now may linger.
    pub(super) fn linger_end(&self, most: Duration) -> Tick {
        self.tick.after(most).min(self.last_end)
    }

    /// The kernel takes nothing more for a connection. What its peer has sent before is still
    /// carried out: a client may send its last words and be gone.
    pub(super) fn on_deaf(&mut self, token: Token) {
        let Some(connection) = self.slots.get(token) else { return };
        if !matches!(connection.state, State::Opened | State::Connected) {
            return self.release(token, CloseReason::PeerGone, Release::Abort);
        }
        connection.flags.set(Flags::DEAF);
        connection.flags.set(Flags::BLOCKED);
        if let Some(extra) = connection.extra.as_mut() {
            extra.outbox.clear(&mut self.budget.accounts);
            self.budget.rank(token.slot, &mut extra.outbox);
        }
        connection.shrink();
        self.slots.set_deadline(token.slot, self.linger_end(CLOSE_TIMEOUT));
        self.mark_readable(token);
    }

    /// The peer has ended its stream, and all that came before has been read.
    pub(super) fn on_end(&mut self, token: Token) {
        let Some(connection) = self.slots.get(token) else { return };
        connection.flags.clear(Flags::READABLE);
        connection.flags.set(Flags::PEER_CLOSED);
        match connection.state {
            State::Opened | State::Connected => {
                self.slots.set_deadline(token.slot, self.linger_end(CLOSE_TIMEOUT));
                self.end_if_done(token);
            }
            // What is on its way out goes first: a peer may close its sending side and still read.
            State::Closing if connection.outbox_cost_bytes() > 0 => {}
            _ => self.release(token, CloseReason::PeerGone, Release::Graceful),
        }
    }

    /// Ends a connection whose peer has ended its stream, if nothing that it asked for is under way
    /// any more. The answers go out first: the peer may still read.
    pub(super) fn end_if_done(&mut self, token: Token) {
        let Some(connection) = self.slots.get(token) else { return };
        let open = matches!(connection.state, State::Opened | State::Connected);
        let publishing = connection.extra.as_ref().is_some_and(|extra| extra.publishing > 0);
        if !open || publishing || !connection.flags.has(Flags::PEER_CLOSED) {
            return;
        }
        if connection.outbox_cost_bytes() == 0 {
            return self.release(token, CloseReason::PeerGone, Release::Graceful);
        }
        let row = CloseReason::PeerGone.row();
        self.begin_closing(token, CloseReason::PeerGone, Some((row.code, row.text)));
    }

    fn is_connected(&mut self, token: Token) -> bool {
        self.slots.get(token).is_some_and(|connection| connection.state == State::Connected)
    }

    fn count_close(&mut self, token: Token, reason: CloseReason) {
        let Some(connection) = self.slots.get(token) else { return };
        match connection.state {
            State::Handshaking | State::Upgrading => self.cells.handshaking.subtract(1),
            State::Opened | State::Connected => {
                self.cells.connections[connection.protocol as usize].subtract(1);
            }
            State::Vacant | State::Closing | State::Released => return,
        }
        self.cells.closes[reason as usize].add(1);
    }

    /// A closing connection has sent its last byte.
    pub(super) fn on_closing_sent(&mut self, token: Token) {
        let Some(connection) = self.slots.get(token) else { return };
        if connection.flags.has(Flags::PEER_CLOSED) {
            return self.release(token, CloseReason::ClientClosed, Release::Graceful);
        }
        if !connection.flags.has(Flags::FINISHED) {
            // The peer sees the end at once; what it has still sent is read and thrown away, or
            // closing would become a reset that outruns the close frame.
            connection.flags.set(Flags::FINISHED);
            let socket = connection.socket;
            self.io.finish(socket);
            self.mark_readable(token);
        }
    }

    /// Gives a connection up. Its slot is free when the watch of its socket has ended.
    pub(super) fn release(&mut self, token: Token, reason: CloseReason, how: Release) {
        if let Some(socket) = self.forget(token, reason) {
            self.io.release(socket, token, how);
        }
    }

    /// Takes a connection out of every table but that of the slots; answers its socket, if this
    /// had not been done before.
    pub(super) fn forget(&mut self, token: Token, reason: CloseReason) -> Option<Socket> {
        let connection = self.slots.get(token)?;
        if connection.state == State::Released {
            return None;
        }
        let connected = connection.state == State::Connected;
        self.count_close(token, reason);
        self.unsubscribe_all(token.slot);
        if connected {
            self.report_disconnect(token, (reason.row().code, reason.row().text));
        }
        self.slots.set_deadline(token.slot, Tick::NEVER);
        let connection = self.slots.get(token)?;
        connection.state = State::Released;
        if let Some(mut extra) = connection.extra.take() {
            self.unfinished.charge(token, extra.charged, 0);
            self.cells.inbound_bytes.set(self.unfinished.bytes() as u64);
            extra.outbox.clear(&mut self.budget.accounts);
            self.budget.rank(token.slot, &mut extra.outbox);
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
