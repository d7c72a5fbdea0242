//! Parked input: what a client has sent and can't be carried out yet, because a request before it
//! waits for its answer, or because there is no room for what it would be answered with.

use std::collections::VecDeque;

use super::Shard;
use super::input::Flow;
use crate::connection::{Flags, Parked, ParkedMessage, State};
use crate::ids::Moment;
use crate::kernel::{ConnectionKey, Sockets};
use crate::protocol::MessageKind;

/// Clients that have been given more history than they may have for the time being.
#[derive(Default)]
pub(super) struct Owing(VecDeque<ConnectionKey>);

impl<S: Sockets> Shard<S> {
    /// Whether a client's next command may be carried out: not while more than one write waits for
    /// it, or one message of many small commands could ask for any number of answers. If not, what
    /// follows is to be parked.
    pub(super) fn has_room_to_answer(&mut self, key: ConnectionKey) -> bool {
        let bytes_max = self.options.reading_bytes_max();
        let Some(connection) = self.slots.get(key) else { return true };
        let room = connection.outbox_cost_bytes() <= bytes_max || crate::sabotage!(UnboundReplies);
        if !room {
            connection.flags.set(Flags::PARKED);
        }
        room
    }

    /// Whether a client may be given publications of a history now. If not, the command is to be
    /// parked, and goes on when the client has waited long enough.
    pub(super) fn may_replay(&mut self, key: ConnectionKey) -> bool {
        let tick = self.tick;
        let Some(connection) = self.slots.get(key) else { return true };
        let may = connection.meter.may_replay(tick);
        if !may {
            connection.flags.set(Flags::PARKED);
            if !connection.flags.has(Flags::OWING) {
                connection.flags.set(Flags::OWING);
                self.owing.0.push_back(key);
            }
        }
        may
    }

    /// Notes that a client was given publications of a history.
    pub(super) fn count_replay(&mut self, key: ConnectionKey, bytes: usize) {
        let tick = self.tick;
        if let Some(connection) = self.slots.get(key) {
            connection.meter.count_replay(tick, bytes);
        }
    }

    /// Since when a client's requests have waited for the bus, one after another, without success.
    /// None of them is waited for anew: whatever is asked meanwhile has its answer in time.
    pub(super) fn unserved(&mut self, key: ConnectionKey) -> Option<Moment> {
        if crate::sabotage!(PatienceForEach) {
            return None;
        }
        self.slots.get(key)?.busy.as_ref()?.unserved
    }

    /// Lets those try again who have been given too much history.
    pub(super) fn on_tick_owing(&mut self) {
        for key in std::mem::take(&mut self.owing.0) {
            if let Some(connection) = self.slots.get(key) {
                connection.flags.clear(Flags::OWING);
                self.list(key);
            }
        }
    }

    /// Keeps what is left of a message.
    pub(super) fn park_message(&mut self, key: ConnectionKey, kind: MessageKind, left: &[u8]) {
        if let Some(connection) = self.slots.get(key)
            && !left.is_empty()
        {
            let parked = connection.busy().parked.get_or_insert_default();
            parked.message = Some(ParkedMessage { kind, bytes: left.to_vec(), done: 0 });
        }
    }

    /// Keeps the bytes that follow that message.
    pub(super) fn park_input(&mut self, key: ConnectionKey, input: &[u8]) {
        if let Some(connection) = self.slots.get(key)
            && !input.is_empty()
        {
            connection.busy().parked.get_or_insert_default().input = input.to_vec();
        }
    }

    /// Goes on where input was parked, after the answer it waited for.
    pub(super) fn resume(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.slots.get(key) {
            connection.flags.clear(Flags::WAITING);
            self.go_on(key);
        }
    }

    /// Goes on where input was parked, unless it still has to wait.
    pub(super) fn go_on(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get(key) else { return };
        if connection.flags.has(Flags::WAITING) {
            return;
        }
        let has_parked = connection.busy.as_ref().is_some_and(|busy| busy.parked.is_some());
        if has_parked && !self.has_room_to_answer(key) {
            return; // It is listed when that has changed.
        }
        let Some(connection) = self.slots.get(key) else { return };
        connection.flags.clear(Flags::PARKED);
        if let Some(busy) = connection.busy.as_mut() {
            busy.unread = None;
        }
        let parked = connection.busy.as_mut().and_then(|busy| busy.parked.take());
        let flow = match parked {
            None => Flow::Continue,
            Some(parked) => self.go_on_parked(key, parked),
        };
        self.charge_inbound(key);
        if let Some(connection) = self.slots.get(key) {
            connection.shrink();
            if flow == Flow::Continue && connection.flags.has(Flags::READABLE) {
                self.mark_readable(key);
            }
        }
    }

    fn go_on_parked(&mut self, key: ConnectionKey, mut parked: Box<Parked>) -> Flow {
        if let Some(mut message) = parked.message.take() {
            let commands = &message.bytes[message.done..];
            let (flow, left) = self.on_commands(key, message.kind, commands);
            if flow == Flow::Wait {
                message.done = message.bytes.len() - left.len();
                parked.message = (!left.is_empty()).then_some(message);
                if let Some(connection) = self.slots.get(key)
                    && connection.state != State::Closing
                {
                    connection.busy().parked = Some(parked);
                }
                return flow;
            }
            if flow == Flow::Stop {
                return flow;
            }
        }
        self.on_frames(key, &mut parked.input)
    }
}
