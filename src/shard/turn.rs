//! The turn: handles everything that has happened since the last one, within budgets, and then
//! sends the results in one flush.

use std::time::Duration;

use super::Shard;
use crate::ids::Moment;
use crate::kernel::Sockets;
use crate::limits::{TURN_BATCHES_MAX, TURN_LOOPBACK_MAX, TURN_STALL, TURN_STALL_LOGGED};
use crate::mesh::Stall;
use crate::reason::DropReason;
use crate::repeats::STALLS;

impl<S: Sockets> Shard<S> {
    /// Runs one turn. Returns true if there is more work to do immediately. If not, the thread may
    /// sleep until its kernel or another thread wakes it.
    pub fn turn(&mut self) -> bool {
        let began = self.sessions.begin_turn();
        self.sessions.turn_events(&mut self.events);
        self.sessions.turn_reads();
        self.sessions.keep_outboxes_within();
        self.home.begin_turn(began, self.sessions.post());
        self.turn_batches();
        if self.sessions.sockets().take_tick() {
            self.sessions.on_tick();
            self.home.on_tick(self.sessions.post());
            self.control.on_tick(&mut self.sessions);
        }
        self.home.turn_walks();
        self.control.turn(&mut self.sessions);
        // This precedes sealing, so that a publication whose home is here needs only this turn.
        self.turn_loopback();
        self.sessions.delivery().seal();
        self.sessions.sweep_chunk();
        self.sessions.keep_outboxes_within();
        self.sessions.delivery().end_turn();
        self.home.count();
        // The flush is last, so that all messages of the turn to one thread travel as one batch.
        let dropped = self.sessions.post().flush();
        if dropped > 0 {
            self.counters.drops[DropReason::SpillFull as usize].add(dropped);
        }
        let took = self.sessions.sockets().now().since(began);
        self.counters.busy_nanos.add(took.as_nanos() as u64);
        self.counters.alive_nanos.set(began.nanos());
        if took > TURN_STALL {
            self.counters.loop_stalls.add(1);
            self.report_stall(began, took);
        }
        self.has_more()
    }

    /// Reports a long stall to control, which knows the delivery times of all shards.
    fn report_stall(&mut self, began: Moment, took: Duration) {
        if took < TURN_STALL_LOGGED {
            return;
        }
        let Some(left_out) = STALLS.admit(began) else { return };
        let shard = self.sessions.shard();
        self.sessions.post().stalled(Stall { shard, took, left_out });
    }

    fn has_more(&self) -> bool {
        self.sessions.has_more()
            || !self.inbox.is_empty()
            || self.home.has_more()
            || self.control.has_more()
    }

    fn turn_batches(&mut self) {
        for _ in 0..TURN_BATCHES_MAX {
            let Some(batch) = self.inbox.take() else { return };
            for mail in batch {
                self.on_mail(mail);
            }
            self.sessions.keep_outboxes_within();
        }
    }

    /// Handles messages from this shard to itself, in the order in which they were sent. It handles
    /// all that exist now, and a bounded number of those that they cause, so the turn ends. A
    /// publication whose home is here is delivered in the turn in which it arrived.
    fn turn_loopback(&mut self) {
        let mut left = self.sessions.post().loopback_len().max(TURN_LOOPBACK_MAX);
        while left > 0
            && let Some(mail) = self.sessions.post().take_loopback()
        {
            self.on_mail(mail);
            left -= 1;
        }
        self.sessions.keep_outboxes_within();
    }
}
