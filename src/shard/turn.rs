//! The turn: everything that has happened since the last one is carried out, within budgets, and
//! then the results go out in one flush.

use super::Shard;
use crate::kernel::Sockets;
use crate::limits::{
    TURN_BATCHES_MAX, TURN_LOOPBACK_MAX, TURN_READS_MAX, TURN_REPLY_BYTES_MAX, TURN_STALL,
};

impl<S: Sockets> Shard<S> {
    /// Carries out what there is. Answers whether there is more at once: if not, the thread may
    /// sleep until its kernel or another thread wakes it.
    pub fn turn(&mut self) -> bool {
        let began = self.io.now();
        self.now = began;
        self.tick = began.tick();
        self.replied_bytes = 0;
        self.turn_events();
        self.turn_reads();
        self.keep_outboxes_within();
        self.home.begin_turn(self.now, &mut self.post);
        self.turn_batches();
        if self.io.take_tick() {
            self.on_tick();
        }
        self.home.turn_forgetting();
        self.turn_walks();
        self.turn_loopback();
        self.seal();
        self.sweep_chunk();
        self.turn_budget();
        self.home.count();
        let dropped = self.post.flush();
        if dropped > 0 {
            let reason = crate::reason::DropReason::SpillFull;
            self.counters.drops[reason as usize].add(dropped);
        }
        let took = self.io.now().since(began);
        self.counters.busy_nanos.add(took.as_nanos() as u64);
        self.counters.alive_nanos.set(began.nanos());
        if took > TURN_STALL {
            self.counters.loop_stalls.add(1);
        }
        self.has_more()
    }

    fn has_more(&self) -> bool {
        !self.dirty.is_empty()
            || !self.unsealed.is_empty()
            || !self.readable.is_empty()
            || self.post.loopback_len() > 0
            || !self.inbox.is_empty()
            || self.home.has_more()
            || self.has_walks()
    }

    fn turn_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.io.poll(&mut events);
        for ready in events.drain(..) {
            self.on_ready(ready);
        }
        self.events = events;
    }

    fn turn_reads(&mut self) {
        // Those that become readable meanwhile come after the others, in the next turn.
        for _ in 0..self.readable.len().min(TURN_READS_MAX) {
            if self.replied_bytes >= TURN_REPLY_BYTES_MAX {
                return;
            }
            if let Some(key) = self.readable.pop_front() {
                self.on_listed(key);
            }
        }
    }

    fn turn_batches(&mut self) {
        for _ in 0..TURN_BATCHES_MAX {
            let Some(batch) = self.inbox.take() else { return };
            for mail in batch {
                self.on_mail(mail);
            }
            self.keep_outboxes_within();
        }
    }

    /// Messages to this shard itself, in the order in which they were sent: all that there are, and
    /// a bounded number of those that they cause, so a turn ends. A publication whose home is here
    /// goes out in the turn in which it came in.
    fn turn_loopback(&mut self) {
        let mut left = self.post.loopback_len().max(TURN_LOOPBACK_MAX);
        while left > 0
            && let Some(mail) = self.post.take_loopback()
        {
            self.on_mail(mail);
            left -= 1;
        }
        self.keep_outboxes_within();
    }
}
