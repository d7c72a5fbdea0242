//! Channels with subscribers on this shard, and two lists that must agree: the subscribers of a
//! channel, and the subscriptions of a connection.

use std::sync::Arc;

use super::channels::{Local, Locals, Subscriber};
use crate::channel::{ChannelName, Namespace};
use crate::connection::{Slots, Subscription, Terms};
use crate::ids::{LocalId, ShardId, Slot};
use crate::kernel::ConnectionKey;
use crate::metrics::ShardCounters;
use crate::subnets::SubnetId;

/// A channel that has just lost its last subscriber on this shard.
pub struct Unused {
    /// Name of the channel.
    pub channel: ChannelName,
    /// The shard that keeps the channel's history.
    pub home: ShardId,
    /// The subnet that was charged with the channel.
    pub brought_by: SubnetId,
}

/// The channels with subscribers on this shard.
pub struct LocalChannels {
    counters: Arc<ShardCounters>,
    locals: Locals,
}

impl LocalChannels {
    /// Creates an empty table.
    pub fn new(counters: Arc<ShardCounters>) -> LocalChannels {
        LocalChannels { counters, locals: Locals::default() }
    }

    /// The place of the channel called `name`, if it has or awaits subscriptions on this shard.
    pub fn find(&self, name: &str) -> Option<LocalId> {
        self.locals.find(name)
    }

    /// The channel at `place`, which has or awaits subscriptions.
    ///
    /// # Panics
    /// If there is no channel at `place`.
    pub fn local(&mut self, place: LocalId) -> &mut Local {
        self.locals.local(place)
    }

    /// The channel at `place`, if there is one.
    pub fn at(&mut self, place: LocalId) -> Option<&mut Local> {
        self.locals.at(place)
    }

    /// Upper bound of the places: each channel's place is below it.
    pub fn places_reached(&self) -> usize {
        self.locals.reached()
    }

    /// Adds a subscription that waits for its home to the channel called `name`. If the channel is
    /// new, `brought_by` is charged with it.
    pub fn expect_answer(
        &mut self,
        name: &ChannelName,
        namespace: &Arc<Namespace>,
        home: ShardId,
        brought_by: SubnetId,
    ) -> Entered {
        let is_new = self.find(name.as_str()).is_none();
        let place = self.locals.enter(name, namespace, home);
        let local = self.locals.local(place);
        local.waiting += 1;
        if is_new {
            local.brought_by = brought_by;
            self.counters.channels_local.set(self.locals.count() as u64);
        }
        if is_new { Entered::New } else { Entered::Known }
    }

    /// Subscribes a connection to a channel, from the next publication on.
    pub fn subscribe(
        &mut self,
        slots: &mut Slots,
        key: ConnectionKey,
        place: LocalId,
        terms: Terms,
    ) {
        let local = self.locals.local(place);
        let connection = slots.connection(key);
        assert!(
            connection.find_subscription(place).is_none(),
            "the connection is already subscribed"
        );
        let list_index = local.subscribers.as_slice().len() as u32;
        let subscription = Subscription::new(place, list_index, local.head(), terms);
        let index = connection.add_subscription(subscription);
        let listed = local.subscribers.push(Subscriber::new(key.slot, index));
        assert_eq!(
            listed, list_index as usize,
            "the channel's list and the subscription must agree"
        );
        self.counters.subscriptions.add(1);
    }

    /// Ends the subscription with number `index` of a connection. Returns the place of its channel.
    pub fn unsubscribe(&mut self, slots: &mut Slots, slot: Slot, index: usize) -> LocalId {
        let connection = slots.tenant(slot);
        // Both lists fill the hole with their last entry, so removal takes constant time. The other
        // list stores the index of the moved entry, and must be updated.
        let removed = *connection.subscribed(index);
        if let Some(moved) = connection.remove_subscription(index) {
            let renumbered = Subscriber::new(slot, index);
            self.locals.local(moved.channel).subscribers.set(moved.list_index as usize, renumbered);
        }
        self.counters.subscriptions.subtract(1);
        let local = self.locals.local(removed.channel);
        let list_index = removed.list_index as usize;
        let listed = local.subscribers.as_slice()[list_index];
        assert_eq!(listed.slot(), slot, "the channel's list and the subscription must agree");
        local.subscribers.swap_remove(list_index);
        if let Some(&last) = local.subscribers.as_slice().get(list_index) {
            slots.tenant(last.slot()).subscribed(last.index()).list_index = removed.list_index;
        }
        removed.channel
    }

    /// Removes the channel at `place` if it has no more subscriptions; the caller must tell its
    /// home. Returns `None` if it is in use, or if the last subscriber has already removed it.
    pub fn take_if_unused(&mut self, place: LocalId) -> Option<Unused> {
        let local = self.locals.at(place).filter(|local| local.is_unused())?;
        let (home, channel) = (local.home, local.name.clone());
        let brought_by = self.locals.remove(place);
        self.counters.channels_local.set(self.locals.count() as u64);
        Some(Unused { channel, home, brought_by })
    }
}

/// Whether a channel was in use on this shard before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The channel is new here.
    New,
    /// The channel was known here.
    Known,
}
