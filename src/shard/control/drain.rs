//! The drain: all connections are closed before the process ends, evenly spread over time.

use std::time::Duration;

use crate::ids::{Moment, Slot};
use crate::kernel::Sockets;
use crate::mesh::{Answer, Ticket};
use crate::reason::CloseReason;
use crate::shard::session::Sessions;

/// A drain in progress.
pub(super) struct Drain {
    ticket: Ticket,
    began: Moment,
    over: Duration,
    /// Number of connections at the start. Each further walk adds the connections that it has to
    /// close.
    connections: usize,
    closed: usize,
    at: usize,
}

impl Drain {
    /// Begins a drain. No connection may linger for longer than `last_end`.
    pub(super) fn begin<S: Sockets>(
        sessions: &mut Sessions<S>,
        ticket: Ticket,
        over: Duration,
        last_end: Duration,
    ) -> Drain {
        sessions.begin_draining(last_end);
        let (began, connections) = (sessions.now(), sessions.count());
        Drain { ticket, began, over, connections, closed: 0, at: 0 }
    }

    /// Closes as many connections as are due by now. Returns the drain unless it is complete.
    ///
    /// The closes are spread evenly, so that the clients do not all reconnect in the same second.
    pub(super) fn step<S: Sockets>(mut self, sessions: &mut Sessions<S>) -> Option<Drain> {
        let elapsed = sessions.now().since(self.began).as_secs_f64();
        let share = (elapsed / self.over.as_secs_f64().max(0.001)).min(1.0);
        let due = (self.connections as f64 * share).ceil() as usize;
        let due = due.max(self.connections * usize::from(share >= 1.0));
        while self.closed < due && self.at < sessions.slots_reached() {
            if let Some(key) = sessions.key(Slot::new(self.at)) {
                sessions.close(key, CloseReason::Shutdown);
                // `close` does nothing if the connection was closing before, and its deadline may
                // be later.
                sessions.hasten(key);
                self.closed += 1;
            }
            self.at += 1;
        }
        if sessions.count() == 0 {
            // The drain of the node ends when every shard has sent this answer.
            let answer = Answer::Affected(self.closed);
            sessions.post().answer(self.ticket, answer);
            return None;
        }
        if self.at >= sessions.slots_reached() && share >= 1.0 {
            self.at = 0; // Connections may have entered slots that the walk has passed.
            self.connections += sessions.count();
        }
        Some(self)
    }
}
