//! The audit compares tables that must agree, a slice at a time. A mismatch is a bug in this
//! program. It is counted and logged, and fails tests.

use super::clients::Clients;
use crate::connection::Flags;
use crate::home::Home;
use crate::ids::{LocalId, Slot};
use crate::kernel::{ConnectionKey, Socket, Sockets};
use crate::metrics::ShardCounters;
use crate::shard::delivery::Subscriber;

/// The memory of one outbox. For tests.
#[derive(Clone, Copy, Debug)]
pub struct OutboxCost {
    /// The connection.
    pub key: ConnectionKey,
    /// Its socket.
    pub socket: Socket,
    /// The cost of the outbox in bytes.
    pub bytes: usize,
    /// Whether the socket had no room for the last write.
    pub is_blocked: bool,
}

/// Audits all connections and channels. Returns the number of mismatches. For tests.
pub fn audit<S: Sockets>(clients: &mut Clients<S>, home: &Home) -> usize {
    let slots = (0..clients.slots.reached()).map(Slot::new);
    let errors: usize = slots.map(|slot| audit_slot(clients, slot)).sum();
    let places = (0..clients.delivery.places_reached()).map(LocalId::new);
    errors + places.map(|place| audit_channel(clients, place, home)).sum::<usize>()
}

/// Recounts the memory of all outboxes. Returns the number of stored values that are wrong, and the
/// number of leased blocks. For tests.
pub fn audit_outboxes<S: Sockets>(clients: &mut Clients<S>) -> (usize, usize) {
    let mut errors = 0;
    for at in 0..clients.slots.reached() {
        let Some(connection) = clients.slots.at(Slot::new(at)) else { continue };
        let parked = connection.busy.as_ref().is_some_and(|busy| busy.parked.is_some());
        // A connection marked as parked without parked input would never continue. One that has
        // exceeded a rate continues with the next tick, and a listed one in the next turn.
        let flags = connection.flags;
        let goes_on = flags.has(Flags::OWING) || flags.has(Flags::LISTED);
        errors += usize::from(flags.has(Flags::PARKED) && !parked && !goes_on);
    }
    let (wrong, blocks) = clients.delivery.audit_outboxes(&mut clients.slots);
    (errors + wrong, blocks)
}

/// Returns the cost of each outbox that is not empty. For tests.
pub fn outbox_costs<S: Sockets>(clients: &mut Clients<S>) -> Vec<OutboxCost> {
    let slots = (0..clients.slots.reached()).map(Slot::new);
    let costs = slots.filter_map(|slot| {
        let connection = clients.slots.at(slot)?;
        Some(OutboxCost {
            key: ConnectionKey { slot, generation: connection.generation },
            socket: connection.socket,
            bytes: connection.outbox_cost_bytes(),
            is_blocked: connection.flags.has(Flags::BLOCKED),
        })
    });
    costs.filter(|cost| cost.bytes > 0).collect()
}

/// Counts and logs mismatches.
pub fn count_errors(counters: &ShardCounters, errors: usize) {
    if errors > 0 {
        tracing::error!(errors, "audit: tables of the shard are inconsistent (this is a bug)");
        counters.audit_errors.add(errors as u64);
    }
}

/// Audits the connection at `slot`. Returns the number of mismatches.
pub fn audit_slot<S: Sockets>(clients: &mut Clients<S>, slot: Slot) -> usize {
    let Some(connection) = clients.slots.at(slot) else { return 0 }; // The slot is free.
    let key = ConnectionKey { slot, generation: connection.generation };
    let mut errors = usize::from(!clients.io.is_open(connection.socket));
    let count = connection.subscriptions_count();
    errors += usize::from(count > 0 && !connection.is_served());
    for index in 0..count {
        let connection = clients.slots.connection(key);
        let Some(&mut subscription) = connection.subscription(index) else {
            errors += 1; // There are fewer subscriptions than the connection counts.
            continue;
        };
        let listed = clients.delivery.local_at(subscription.channel).and_then(|local| {
            local.subscribers.as_slice().get(subscription.list_index as usize).copied()
        });
        errors += usize::from(listed != Some(Subscriber::new(slot, index)));
    }
    errors
}

fn audit_channel<S: Sockets>(clients: &mut Clients<S>, place: LocalId, home: &Home) -> usize {
    let Some(local) = clients.delivery.local_at(place) else { return 0 }; // The place is free.
    let name = local.name.clone();
    let subscribers = local.subscribers.as_slice().to_vec();
    let mut errors = usize::from(local.is_unused());
    if local.home == clients.id && !subscribers.is_empty() {
        errors += usize::from(!home.is_interested(name.as_str(), clients.id));
    }
    for subscriber in subscribers {
        let connection = clients.slots.at(subscriber.slot());
        let index = connection.and_then(|connection| connection.find_subscription(place));
        errors += usize::from(index != Some(subscriber.index()));
    }
    errors
}
