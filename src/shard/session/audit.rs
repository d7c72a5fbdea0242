//! The audit: tables that must agree are compared, a slice at a time. A mismatch is a defect of
//! this program; it is counted and logged, and fails tests.

use super::Sessions;
use crate::connection::Flags;
use crate::home::Home;
use crate::ids::Slot;
use crate::kernel::{ConnectionKey, Sockets};
use crate::shard::delivery::Subscriber;

impl<S: Sockets> Sessions<S> {
    /// Audits all connections and channels. Returns how many mismatches there are. For tests.
    pub fn audit(&mut self, home: &Home) -> usize {
        let slots = (0..self.slots.reached()).map(Slot::new);
        let errors: usize = slots.map(|slot| self.audit_slot(slot)).sum();
        let places = 0..self.delivery.places_reached() as u32;
        errors + places.map(|place| self.audit_channel(place, home)).sum::<usize>()
    }

    /// Counts the memory of all outboxes anew. Returns how many numbers that are kept of it are
    /// wrong, and how many blocks are leased for it. For tests.
    pub fn audit_outboxes(&mut self) -> (usize, usize) {
        let mut errors = 0;
        for at in 0..self.slots.reached() {
            let Some(connection) = self.slots.at(Slot::new(at)) else { continue };
            let parked = connection.busy.as_ref().is_some_and(|busy| busy.parked.is_some());
            errors += usize::from(connection.flags.has(Flags::PARKED) && !parked);
        }
        let (wrong, blocks) = self.delivery.audit_outboxes(&mut self.slots);
        (errors + wrong, blocks)
    }

    /// What waits in each outbox that is not empty, by its cost in bytes. For tests.
    pub fn outbox_costs(&mut self) -> Vec<usize> {
        let slots = (0..self.slots.reached()).map(Slot::new);
        let costs = slots.filter_map(|slot| Some(self.slots.at(slot)?.outbox_cost_bytes()));
        costs.filter(|cost| *cost > 0).collect()
    }

    /// Counts and logs mismatches.
    pub fn count_audit_errors(&self, errors: usize) {
        if errors > 0 {
            tracing::error!(errors, "audit: tables of the shard are inconsistent (this is a bug)");
            self.counters.audit_errors.add(errors as u64);
        }
    }

    /// Audits the connection at `slot`. Returns how many mismatches there are.
    pub fn audit_slot(&mut self, slot: Slot) -> usize {
        let Some(connection) = self.slots.at(slot) else { return 0 };
        let key = ConnectionKey { slot, generation: connection.generation };
        let mut errors = usize::from(!self.io.is_open(connection.socket));
        let count = connection.subscriptions_count();
        errors += usize::from(count > 0 && !connection.is_served());
        for index in 0..count {
            let Some(connection) = self.slots.get(key) else { break };
            let Some(&mut subscription) = connection.subscription(index) else { break };
            let listed = self.delivery.at(subscription.channel).and_then(|local| {
                local.subscribers.as_slice().get(subscription.place as usize).copied()
            });
            errors += usize::from(listed != Some(Subscriber::new(slot, index)));
        }
        errors
    }

    fn audit_channel(&mut self, place: u32, home: &Home) -> usize {
        let Some(local) = self.delivery.at(place) else { return 0 };
        let name = local.name.clone();
        let subscribers = local.subscribers.as_slice().to_vec();
        let mut errors = usize::from(local.is_unused());
        if local.home == self.id && !subscribers.is_empty() {
            errors += usize::from(!home.is_interested(name.as_str(), self.id));
        }
        for subscriber in subscribers {
            let connection = self.slots.at(subscriber.slot());
            let index = connection.and_then(|connection| connection.find_subscription(place));
            errors += usize::from(index != Some(subscriber.index()));
        }
        errors
    }
}
