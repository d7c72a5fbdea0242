//! Channels with subscribers here, and the two lists that must agree: that of a channel's
//! subscribers, and that of a connection's subscriptions.

use std::sync::Arc;

use super::channels::{Local, Locals, Subscriber};
use crate::channel::{ChannelName, Namespace};
use crate::connection::{Slots, Subscription, Terms};
use crate::ids::{LocalId, ShardId, Slot};
use crate::kernel::ConnectionKey;
use crate::metrics::ShardCounters;
use crate::subnets::SubnetId;

/// A channel that nobody here wants any more.
pub struct Unused {
    /// The channel.
    pub channel: ChannelName,
    /// The shard that orders it.
    pub home: ShardId,
    /// The subnet that was charged with it.
    pub brought_by: SubnetId,
}

/// The channels with subscribers here.
pub struct Channels {
    counters: Arc<ShardCounters>,
    locals: Locals,
}

impl Channels {
    /// None yet.
    pub fn new(counters: Arc<ShardCounters>) -> Channels {
        Channels { counters, locals: Locals::default() }
    }

    /// The place of the channel called `name`, if anybody here has or wants a subscription.
    pub fn find(&self, name: &str) -> Option<LocalId> {
        self.locals.find(name)
    }

    /// The channel at `place`, where somebody has or wants a subscription.
    ///
    /// # Panics
    /// There is none.
    pub fn local(&mut self, place: LocalId) -> &mut Local {
        self.locals.local(place)
    }

    /// The channel at `place`, if there is one.
    pub fn at(&mut self, place: LocalId) -> Option<&mut Local> {
        self.locals.at(place)
    }

    /// Every channel's place is below this.
    pub fn places_reached(&self) -> usize {
        self.locals.reached()
    }

    /// The place of the channel called `name`, for one more subscription that waits for its home.
    /// If it is new, `brought_by` is charged with it.
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

    /// Makes a connection one of a channel's subscribers, from the next publication on.
    pub fn subscribe(
        &mut self,
        slots: &mut Slots,
        key: ConnectionKey,
        place: LocalId,
        terms: Terms,
    ) {
        let local = self.locals.local(place);
        let connection = slots.connection(key);
        assert!(connection.find_subscription(place).is_none(), "nobody is subscribed twice");
        let list_index = local.subscribers.as_slice().len() as u32;
        let subscription = Subscription::new(place, list_index, local.head(), terms);
        let index = connection.add_subscription(subscription);
        let listed = local.subscribers.push(Subscriber::new(key.slot, index));
        assert_eq!(listed, list_index as usize, "lists and subscriptions agree");
        self.counters.subscriptions.add(1);
    }

    /// Ends the subscription with number `index` of a connection. Returns its channel's place.
    pub fn unsubscribe(&mut self, slots: &mut Slots, slot: Slot, index: usize) -> LocalId {
        let connection = slots.tenant(slot);
        let removed = *connection.subscribed(index);
        if let Some(moved) = connection.remove_subscription(index) {
            let renumbered = Subscriber::new(slot, index);
            self.locals.local(moved.channel).subscribers.set(moved.place as usize, renumbered);
        }
        self.counters.subscriptions.subtract(1);
        let local = self.locals.local(removed.channel);
        let list_index = removed.place as usize;
        let listed = local.subscribers.as_slice()[list_index];
        assert_eq!(listed.slot(), slot, "lists and subscriptions agree");
        local.subscribers.swap_remove(list_index);
        if let Some(&last) = local.subscribers.as_slice().get(list_index) {
            slots.tenant(last.slot()).subscribed(last.index()).place = removed.place;
        }
        removed.channel
    }

    /// Forgets the channel at `place` if nobody here wants it any more, which its home is to be
    /// told. There may be none: whoever left last has seen to it.
    pub fn take_if_unused(&mut self, place: LocalId) -> Option<Unused> {
        let local = self.locals.at(place).filter(|local| local.is_unused())?;
        let (home, channel) = (local.home, local.name.clone());
        let brought_by = self.locals.remove(place);
        self.counters.channels_local.set(self.locals.count() as u64);
        Some(Unused { channel, home, brought_by })
    }
}

/// Whether a channel had been in use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is new.
    New,
    /// It had.
    Known,
}
