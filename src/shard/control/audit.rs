//! The audit: tables that must agree are compared, a slice at a time. A mismatch is a defect of
//! this program; it is counted and logged, and fails tests.

use crate::connection::Flags;
use crate::ids::{Slot, Tick};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::{AUDIT_INTERVAL, AUDIT_SLOTS_MAX};
use crate::shard::Shard;
use crate::shard::delivery::Subscriber;

/// Where the audit is.
#[derive(Default)]
pub(in crate::shard) struct Audit {
    due: Tick,
    at: usize,
}

impl<S: Sockets> Shard<S> {
    /// Audits the next slice, if it is time.
    pub(in crate::shard) fn audit_step(&mut self) {
        if self.tick < self.audit.due {
            return;
        }
        self.audit.due = self.tick.after(AUDIT_INTERVAL);
        let begin = if self.audit.at < self.slots.reached() { self.audit.at } else { 0 };
        let end = self.slots.reached().min(begin + AUDIT_SLOTS_MAX);
        self.audit.at = end;
        let errors = (begin..end).map(|at| self.audit_slot(Slot::new(at))).sum();
        self.count_audit_errors(errors);
    }

    /// Audits everything at once; answers how many mismatches there are. For tests.
    pub fn audit(&mut self) -> usize {
        let mut errors = (0..self.slots.reached()).map(|at| self.audit_slot(Slot::new(at))).sum();
        for place in 0..self.locals.reached() as u32 {
            errors += self.audit_channel(place);
        }
        errors += self.home.audit();
        self.count_audit_errors(errors);
        errors
    }

    /// Counts the memory of all outboxes anew. Answers how many numbers that are kept of it are
    /// wrong, and how many blocks are leased for it. For tests.
    pub fn audit_outboxes(&mut self) -> (usize, usize) {
        let (mut errors, mut own) = (0, 0);
        let mut shared = std::collections::BTreeMap::new();
        for at in 0..self.slots.reached() {
            let Some(connection) = self.slots.at(Slot::new(at)) else { continue };
            let parked = connection.busy.as_ref().is_some_and(|busy| busy.parked.is_some());
            errors += usize::from(connection.flags.has(Flags::PARKED) && !parked);
            let Some(busy) = connection.busy.as_ref() else { continue };
            errors += usize::from(!busy.outbox.is_consistent());
            own += busy.outbox.memory_bytes();
            shared.extend(busy.outbox.shared());
        }
        let accounts = &self.budget.accounts;
        errors += usize::from(accounts.own_bytes() != own);
        errors += usize::from(accounts.shared_bytes() != shared.values().sum::<usize>());
        let (blocks, bytes) = self.budget.leased();
        (errors + usize::from(accounts.bytes() > bytes), blocks)
    }

    /// What waits in each outbox that is not empty, by its cost in bytes. For tests.
    pub fn outbox_costs(&mut self) -> Vec<usize> {
        let slots = (0..self.slots.reached()).map(Slot::new);
        let costs = slots.filter_map(|slot| Some(self.slots.at(slot)?.outbox_cost_bytes()));
        costs.filter(|cost| *cost > 0).collect()
    }

    fn count_audit_errors(&self, errors: usize) {
        if errors > 0 {
            tracing::error!(errors, "tables disagree");
            self.counters.audit_errors.add(errors as u64);
        }
    }

    fn audit_slot(&mut self, slot: Slot) -> usize {
        let Some(connection) = self.slots.at(slot) else { return 0 };
        let key = ConnectionKey { slot, generation: connection.generation };
        let mut errors = usize::from(!self.io.is_open(connection.socket));
        let count = connection.subscriptions_count();
        errors += usize::from(count > 0 && !connection.is_served());
        for index in 0..count {
            let Some(connection) = self.slots.get(key) else { break };
            let Some(&mut subscription) = connection.subscription(index) else { break };
            let listed = self.locals.at(subscription.channel).and_then(|local| {
                local.subscribers.as_slice().get(subscription.place as usize).copied()
            });
            errors += usize::from(listed != Some(Subscriber::new(slot, index)));
        }
        errors
    }

    fn audit_channel(&mut self, place: u32) -> usize {
        let Some(local) = self.locals.at(place) else { return 0 };
        let name = local.name.clone();
        let subscribers = local.subscribers.as_slice().to_vec();
        let mut errors = usize::from(local.is_unused());
        if local.home == self.id && !subscribers.is_empty() {
            errors += usize::from(!self.home.is_interested(name.as_str(), self.id));
        }
        for subscriber in subscribers {
            let connection = self.slots.at(subscriber.slot());
            let index = connection.and_then(|connection| connection.find_subscription(place));
            errors += usize::from(index != Some(subscriber.index()));
        }
        errors
    }
}
