//! The input that a connection keeps: an incomplete message, or input that can't be carried out
//! yet.

use super::{Connection, Flags, Parked, ParkedMessage, WaitingSubscribe};
use crate::channel::ChannelName;
use crate::ids::Moment;
use crate::protocol::MessageKind;
use crate::ws::Decoder;

impl Connection {
    /// Removes and returns the decoder, because its results borrow from it.
    pub fn take_decoder(&mut self) -> Decoder {
        let kept = self.busy.as_mut().and_then(|busy| busy.decoder.take());
        kept.map_or_else(Decoder::new, |decoder| *decoder)
    }

    /// Keeps the decoder if it contains a part of a message.
    pub fn restore_decoder(&mut self, decoder: Decoder) {
        if !decoder.is_idle() {
            self.busy().decoder = Some(Box::new(decoder));
        }
        self.shrink();
    }

    /// Keeps the rest of a message.
    pub fn park_message(&mut self, kind: MessageKind, left: &[u8]) {
        if !left.is_empty() {
            let parked = self.busy().parked.get_or_insert_default();
            parked.message = Some(ParkedMessage { kind, bytes: left.to_vec(), done: 0 });
        }
    }

    /// Keeps the bytes after that message.
    pub fn park_input(&mut self, input: &[u8]) {
        if !input.is_empty() {
            let parked = self.busy().parked.get_or_insert_default();
            assert!(parked.input.is_empty(), "input is already parked");
            parked.input = input.to_vec();
        }
    }

    /// Removes and returns the parked input.
    pub fn take_parked(&mut self) -> Option<Box<Parked>> {
        self.busy.as_mut().and_then(|busy| busy.parked.take())
    }

    /// Whether the next command of the client may be carried out. It may not while more than
    /// `bytes_max` wait in the outbox, because one message of many small commands could cause any
    /// amount of answers. In that case the caller must park the rest of the input.
    pub fn has_room_to_answer(&mut self, bytes_max: usize) -> bool {
        let room = self.outbox_cost_bytes() <= bytes_max || crate::sabotage!(UnboundReplies);
        if !room {
            self.flags.set(Flags::PARKED);
        }
        room
    }

    /// Returns when requests of the client began to wait for the bus, if none has succeeded since.
    /// A later request does not restart this time, so a client that sends several requests
    /// gets all answers in time.
    pub fn unserved(&self) -> Option<Moment> {
        if crate::sabotage!(PatienceForEach) {
            return None;
        }
        self.busy.as_ref()?.unserved
    }

    /// Whether publications of the client have not been acknowledged by the bus yet.
    pub fn is_publishing(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| busy.publishing > 0)
    }

    /// Removes and returns the subscription to `channel` that the path of the request contained, if
    /// its answer is still awaited.
    pub fn take_wish(&mut self, channel: &ChannelName) -> Option<WaitingSubscribe> {
        let plain = self.busy.as_mut()?.plain.as_mut()?;
        let at = plain.waiting.iter().position(|waiting| waiting.channel == *channel)?;
        Some(plain.waiting.swap_remove(at))
    }
}
