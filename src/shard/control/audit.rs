//! Sets the pace of the audit, which compares the tables that must agree, a slice at a time.

use crate::ids::{Slot, Tick};
use crate::kernel::Sockets;
use crate::limits::{AUDIT_INTERVAL, AUDIT_SLOTS_MAX};
use crate::shard::session::Sessions;

/// The position of the audit.
#[derive(Default)]
pub(super) struct Audit {
    due: Tick,
    at: usize,
}

impl Audit {
    /// Audits the next slice if it is due.
    pub(super) fn step<S: Sockets>(&mut self, sessions: &mut Sessions<S>) {
        if sessions.tick() < self.due {
            return;
        }
        // A full audit in one turn would stall every client, so each interval checks one slice.
        self.due = sessions.tick().after(AUDIT_INTERVAL);
        let reached = sessions.slots_reached();
        let begin = if self.at < reached { self.at } else { 0 };
        let end = reached.min(begin + AUDIT_SLOTS_MAX);
        self.at = end;
        let errors = (begin..end).map(|at| sessions.audit_slot(Slot::new(at))).sum();
        sessions.count_audit_errors(errors);
    }
}
