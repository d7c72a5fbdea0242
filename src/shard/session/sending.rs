//! Bytes to clients: the sweep's chunks, what follows from them for a session, and the ends of
//! clients for which too much waits.

use super::Sessions;
use crate::connection::{Flags, State};
use crate::ids::Slot;
use crate::kernel::{ConnectionKey, Release, Sockets};
use crate::limits::{PIECE_JOIN_BYTES_MAX, REPLY_BUFFER_BYTES_MAX};
use crate::reason::CloseReason;
use crate::shard::delivery::{Halt, Halted, Outcome, Pace, Written};

impl<S: Sockets> Sessions<S> {
    /// Sends one chunk.
    pub fn sweep_chunk(&mut self) {
        let mut halted = self.delivery.gather_chunk(&mut self.slots);
        while let Some(Halted { key, halt }) = halted {
            match halt {
                Halt::TooSlow(reason) => self.close(key, reason),
                Halt::Gap(gap) => self.on_gap_reached(key, gap),
            }
            halted = self.delivery.gather_on(&mut self.slots, key);
        }
        self.delivery.send(&mut self.io);
        while let Some(written) = self.delivery.next_written(&mut self.slots, self.tick) {
            self.on_written(&written);
        }
    }

    fn on_written(&mut self, written: &Written) {
        let key = written.key;
        let Outcome::Sent { blocks, left } = written.outcome else { return self.on_deaf(key) };
        let connection = self.slots.connection(key);
        let (state, flags) = (connection.state, connection.flags);
        if blocks && state == State::Connected {
            self.expect_progress(key);
        }
        if left == 0 && state == State::Closing {
            self.on_closing_sent(key);
        } else if left <= self.options.reading_bytes_max()
            && (flags.has(Flags::READABLE) || flags.has(Flags::PARKED))
            && !flags.has(Flags::WAITING)
            && !flags.has(Flags::OWING)
        {
            self.input.list(&mut self.slots, key);
        }
    }

    /// Puts frames for one connection alone into its outbox.
    pub(super) fn send_own(&mut self, key: ConnectionKey, frames: &[u8]) {
        self.delivery.send_own(&mut self.slots, key, frames);
    }

    /// Puts a reply into its client's outbox. The buffer in which it was encoded is kept for the
    /// next reply, because growing a new one costs more than encoding a short reply; the buffer of
    /// a long reply goes into the outbox itself.
    pub(super) fn send_reply(&mut self, key: ConnectionKey, mut frames: Vec<u8>) {
        if frames.capacity() > REPLY_BUFFER_BYTES_MAX {
            return self.delivery.send_long(&mut self.slots, key, frames);
        }
        self.send_own(key, &frames);
        frames.clear();
        self.input.reply_buffer = frames;
    }

    /// Tells a client something that it has not asked for, or closes it if it does not read that.
    pub(super) fn send_event(&mut self, key: ConnectionKey, frames: &[u8]) {
        match self.delivery.send_event(&mut self.slots, key, frames) {
            Pace::KeepsUp => {}
            Pace::TooSlow(reason) => self.close(key, reason),
        }
    }

    /// Sees that the shard's outboxes have no more memory than it could lease.
    pub fn keep_outboxes_within(&mut self) {
        while let Some(slot) = self.delivery.outbox_beyond_budget() {
            self.close_fullest(slot);
        }
    }

    fn close_fullest(&mut self, slot: Slot) {
        let connection = self.slots.tenant(slot);
        let key = ConnectionKey { slot, generation: connection.generation };
        if !matches!(connection.state, State::Opened | State::Upgrading | State::Connected) {
            // It has had its word.
            return self.release(key, CloseReason::OutboxesFull, Release::Abort);
        }
        self.close(key, CloseReason::OutboxesFull);
        if self.slots.connection(key).outbox_cost_bytes() > 2 * PIECE_JOIN_BYTES_MAX {
            // A long frame has begun, so nothing can be said before its end.
            self.release(key, CloseReason::OutboxesFull, Release::Abort);
        }
    }
}
