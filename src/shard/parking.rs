//! Parked input: what a client has sent and can't be carried out yet, because a request before it
//! waits for its answer, or because there is no room for what it would be answered with.

use std::collections::VecDeque;

use super::input::Flow;
use super::{Shard, Sockets, Token};
use crate::connection::{Flags, Parked, ParkedMessage, State};
use crate::ids::Moment;
use crate::ws::Opcode;

/// Clients that have been given more history than they may have for the time being.
#[derive(Default)]
pub(super) struct Owing(VecDeque<Token>);

impl<S: Sockets> Shard<S> {
    /// Whether a client's next command may be carried out: not while more than one write waits for
    /// it, or one message of many small commands could ask for any number of answers. If not, what
    /// follows is to be parked.
    pub(super) fn has_room_to_answer(&mut self, token: Token) -> bool {
        let bytes_max = self.options.reading_bytes_max();
        let Some(connection) = self.slots.get(token) else { return true };
        let room = connection.outbox_cost_bytes() <= bytes_max || crate::sabotage!(UnboundReplies);
        if !room {
            connection.flags.set(Flags::PARKED);
        }
        room
    }

    /// Whether a client may be given publications of a history now. If not, the command is to be
    /// parked, and goes on when the client has waited long enough.
    pub(super) fn may_replay(&mut self, token: Token) -> bool {
        let tick = self.tick;
        let Some(connection) = self.slots.get(token) else { return true };
        let may = connection.meter.may_replay(tick);
        if !may {
            connection.flags.set(Flags::PARKED);
            if !connection.flags.has(Flags::OWING) {
                connection.flags.set(Flags::OWING);
                self.owing.0.push_back(token);
            }
        }
        may
    }

    /// Notes that a client was given publications of a history.
    pub(super) fn count_replay(&mut self, token: Token, bytes: usize) {
        let tick = self.tick;
        if let Some(connection) = self.slots.get(token) {
            connection.meter.count_replay(tick, bytes);
        }
    }

    /// Since when a client's requests have waited for the bus, one after another, without success.
    /// None of them is waited for anew: whatever is asked meanwhile has its answer in time.
    pub(super) fn unserved(&mut self, token: Token) -> Option<Moment> {
        if crate::sabotage!(PatienceForEach) {
            return None;
        }
        self.slots.get(token)?.extra.as_ref()?.unserved
    }

    /// Lets those try again who have been given too much history.
    pub(super) fn on_tick_owing(&mut self) {
        for token in std::mem::take(&mut self.owing.0) {
            if let Some(connection) = self.slots.get(token) {
                connection.flags.clear(Flags::OWING);
                self.list(token);
            }
        }
    }

    /// Keeps what is left of a message.
    pub(super) fn park_message(&mut self, token: Token, opcode: Opcode, left: &[u8]) {
        if let Some(connection) = self.slots.get(token)
            && !left.is_empty()
        {
            let parked = connection.extra().parked.get_or_insert_default();
            parked.message = Some(ParkedMessage { opcode, bytes: left.to_vec(), done: 0 });
        }
    }

    /// Keeps the bytes that follow that message.
    pub(super) fn park_input(&mut self, token: Token, input: &[u8]) {
        if let Some(connection) = self.slots.get(token)
            && !input.is_empty()
        {
            connection.extra().parked.get_or_insert_default().input = input.to_vec();
        }
    }

    /// Goes on where input was parked, after the answer it waited for.
    pub(super) fn resume(&mut self, token: Token) {
        if let Some(connection) = self.slots.get(token) {
            connection.flags.clear(Flags::WAITING);
            self.go_on(token);
        }
    }

    /// Goes on where input was parked, unless it still has to wait.
    pub(super) fn go_on(&mut self, token: Token) {
        let Some(connection) = self.slots.get(token) else { return };
        if connection.flags.has(Flags::WAITING) {
            return;
        }
        let has_parked = connection.extra.as_ref().is_some_and(|extra| extra.parked.is_some());
        if has_parked && !self.has_room_to_answer(token) {
            return; // It is listed when that has changed.
        }
        let Some(connection) = self.slots.get(token) else { return };
        connection.flags.clear(Flags::PARKED);
        if let Some(extra) = connection.extra.as_mut() {
            extra.unread = None;
        }
        let parked = connection.extra.as_mut().and_then(|extra| extra.parked.take());
        let flow = match parked {
            None => Flow::Continue,
            Some(parked) => self.go_on_parked(token, parked),
        };
        self.charge_inbound(token);
        if let Some(connection) = self.slots.get(token) {
            connection.shrink();
            if flow == Flow::Continue && connection.flags.has(Flags::READABLE) {
                self.mark_readable(token);
            }
        }
    }

    fn go_on_parked(&mut self, token: Token, mut parked: Box<Parked>) -> Flow {
        if let Some(mut message) = parked.message.take() {
            let commands = &message.bytes[message.done..];
            let (flow, left) = self.on_commands(token, message.opcode, commands);
            if flow == Flow::Wait {
                message.done = message.bytes.len() - left.len();
                parked.message = (!left.is_empty()).then_some(message);
                if let Some(connection) = self.slots.get(token)
                    && connection.state != State::Closing
                {
                    connection.extra().parked = Some(parked);
                }
                return flow;
            }
            if flow == Flow::Stop {
                return flow;
            }
        }
        self.on_frames(token, &mut parked.input)
    }
}
