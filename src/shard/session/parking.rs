//! Parked input: what a client has sent and can't be carried out yet, because a request before it
//! waits for its answer, or because there is no room for what it would be answered with.

use super::Sessions;
use super::input::Flow;
use crate::connection::{Flags, Parked, State};
use crate::kernel::{ConnectionKey, Sockets};

impl<S: Sockets> Sessions<S> {
    /// Goes on where input was parked, after the answer it waited for.
    pub(super) fn resume(&mut self, key: ConnectionKey) {
        self.slots.connection(key).flags.clear(Flags::WAITING);
        self.go_on(key);
    }

    /// Goes on where input was parked, unless it still has to wait.
    pub(super) fn go_on(&mut self, key: ConnectionKey) {
        let connection = self.slots.connection(key);
        if connection.flags.has(Flags::WAITING) {
            return;
        }
        let has_parked = connection.busy.as_ref().is_some_and(|busy| busy.parked.is_some());
        if has_parked && !connection.has_room_to_answer(self.options.reading_bytes_max()) {
            return; // It is listed when that has changed.
        }
        connection.flags.clear(Flags::PARKED);
        if let Some(busy) = connection.busy.as_mut() {
            busy.unread = None;
        }
        let flow = match connection.take_parked() {
            None => Flow::Continue,
            Some(parked) => self.go_on_parked(key, parked),
        };
        self.charge_inbound(key);
        let connection = self.slots.connection(key);
        connection.shrink();
        if flow == Flow::Continue && connection.flags.has(Flags::READABLE) {
            self.input.mark_readable(&mut self.slots, key);
        }
    }

    fn go_on_parked(&mut self, key: ConnectionKey, mut parked: Box<Parked>) -> Flow {
        if let Some(mut message) = parked.message.take() {
            let commands = &message.bytes[message.done..];
            let (flow, left) = self.on_commands(key, message.kind, commands);
            if flow == Flow::Wait {
                message.done = message.bytes.len() - left.len();
                parked.message = (!left.is_empty()).then_some(message);
                let connection = self.slots.connection(key);
                if connection.state != State::Closing {
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
