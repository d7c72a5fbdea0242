//! Publications on their way to subscribers, and the news that some of them are lost: whoever
//! misses something is told before anything newer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Sessions;
use super::closing::Farewell;
use super::missed::GapNotice;
use crate::channel::{ChannelName, Publication};
use crate::connection::{DeliveryMode, Maker};
use crate::ids::{Position, Slot};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::GAPS_TOLD_PER_TICK;
use crate::protocol::{Codec, OnGap, Push};
use crate::reason::{CloseReason, UnsubscribeReason};
use crate::shard::delivery::{Gap, Step};

/// Subscribers that have missed something and are still to be told, because a tick tells only so
/// many: told, they come back, or their home is asked.
pub(super) struct Gaps {
    due: VecDeque<DueNotice>,
    /// How many more may be told in this tick.
    allowed: usize,
}

/// One that is still to be told.
pub(super) struct DueNotice {
    pub(super) key: ConnectionKey,
    pub(super) channel: ChannelName,
    pub(super) notice: GapNotice,
}

/// What can be done for a subscriber that does not come back for what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// The channel's home may have it.
    AskHome,
    /// It is lost, so a notice is all.
    Notice,
}

impl Gaps {
    /// Nobody has missed anything.
    pub(super) fn new() -> Gaps {
        Gaps { due: VecDeque::new(), allowed: GAPS_TOLD_PER_TICK }
    }

    /// Whether one more may be told now. If so, it is counted.
    pub(super) fn take_allowance(&mut self) -> bool {
        let allowed = self.allowed > 0;
        self.allowed -= usize::from(allowed);
        allowed
    }

    /// Puts one off.
    pub(super) fn put_off(&mut self, due: DueNotice) {
        self.due.push_back(due);
    }

    /// How many are put off.
    pub(super) fn count(&self) -> usize {
        self.due.len()
    }
}

impl<S: Sockets> Sessions<S> {
    /// Live publications of a channel.
    pub(super) fn on_live(&mut self, channel: &ChannelName, publications: Vec<Arc<Publication>>) {
        // The last subscriber may have left while they were on their way.
        let Some(place) = self.delivery.find(channel.as_str()) else { return };
        for publication in publications {
            match self.delivery.follow(place, publication.offset) {
                Step::Past => continue,
                Step::Next => {}
                Step::Beyond(gap) => self.tell_gap(gap),
            }
            // Those who were told may have been the last subscribers.
            if self.delivery.find(channel.as_str()) != Some(place) {
                return;
            }
            if crate::sabotage!(DroppedRead) && self.next_random().is_multiple_of(10_000) {
                continue;
            }
            self.delivery.append(place, publication);
        }
    }

    /// Publications up to before `next` were dropped on the way here.
    pub(super) fn on_gap(&mut self, channel: &ChannelName, next: u64) {
        // The last subscriber may have left while the notice was on its way.
        let Some(place) = self.delivery.find(channel.as_str()) else { return };
        if let Some(gap) = self.delivery.skip_to(place, next) {
            self.tell_gap(gap);
        }
    }

    /// The home shard has found that the channel stands elsewhere than it said.
    pub(super) fn on_moved(&mut self, channel: &ChannelName, top: Position) {
        // The last subscriber may have left while the notice was on its way.
        let Some(place) = self.delivery.find(channel.as_str()) else { return };
        // Before the first answer nobody here is subscribed.
        if self.delivery.local(place).next().is_some() {
            self.check_continuity(place, top);
        }
    }

    /// Brings the channel to where the home shard says it stands.
    pub(super) fn check_continuity(&mut self, place: u32, top: Position) {
        if let Some(gap) = self.delivery.stand_at(place, top) {
            self.tell_gap(gap);
        }
    }

    /// Tells every subscriber that wants to know that it has missed something, unless it can be
    /// given that here.
    fn tell_gap(&mut self, gap: Gap) {
        if crate::sabotage!(SkippedGap) {
            return;
        }
        self.delivery.seal_channel(gap.place);
        let local = self.delivery.local(gap.place);
        // Telling may end subscriptions, and so change the list.
        let subscribers: Vec<_> =
            local.subscribers.as_slice().iter().map(|subscriber| subscriber.slot()).collect();
        let same_epoch = local.next().is_some_and(|next| next.epoch == gap.last.epoch);
        let recovers = local.namespace.has_history() && same_epoch;
        let remedy = if recovers { Remedy::AskHome } else { Remedy::Notice };
        for slot in subscribers {
            self.tell_gap_to(slot, gap, remedy);
        }
    }

    fn tell_gap_to(&mut self, slot: Slot, gap: Gap, remedy: Remedy) {
        let connection = self.slots.tenant(slot);
        let key = ConnectionKey { slot, generation: connection.generation };
        // Telling another one may have closed it.
        let Some(index) = connection.find_subscription(gap.place) else { return };
        let on_gap = connection.wire.protocol.on_gap();
        let found = *connection.subscribed(index);
        if !found.positioned || found.mode == DeliveryMode::Recovering {
            return;
        }
        if on_gap == OnGap::Notice && remedy == Remedy::AskHome {
            return self.begin_recovering(key, gap);
        }
        // What came before the gap goes first.
        self.collect_pending(key);
        // Or it was too slow for that, and nothing may follow its close frame.
        if !self.slots.connection(key).is_served() {
            return;
        }
        if on_gap == OnGap::Notice {
            self.push_gap(key, gap);
        } else if !self.gaps.take_allowance() {
            // It will be told soon; until then it gets nothing newer.
            let channel = self.delivery.local(gap.place).name.clone();
            let notice = GapNotice::Ended(found.made_by);
            self.gaps.put_off(DueNotice { key, channel, notice });
            let reason = UnsubscribeReason::InsufficientState;
            self.report_unsubscribe(slot, index, Farewell::of_subscription(reason));
            self.remove_subscription(slot, index);
        } else if on_gap == OnGap::Unsubscribe {
            self.end_subscription(slot, index, UnsubscribeReason::InsufficientState);
        } else {
            self.close(key, CloseReason::InsufficientState);
        }
    }

    /// Tells those who wait for it that they have missed something, as many as a tick may, or asks
    /// for it.
    pub(super) fn on_tick_gaps(&mut self) {
        self.gaps.allowed = GAPS_TOLD_PER_TICK;
        for _ in 0..self.gaps.due.len().min(GAPS_TOLD_PER_TICK) {
            let Some(DueNotice { key, channel, notice }) = self.gaps.due.pop_front() else {
                return;
            };
            self.gaps.take_allowance();
            match notice {
                GapNotice::Ended(made_by) => self.tell_ended(key, &channel, made_by),
                GapNotice::Recovering(last) if self.is_recovering(key, channel.as_str()) => {
                    self.ask_for_missed(key, channel, last);
                }
                GapNotice::Recovering(_) => {}
            }
        }
    }

    /// Tells a client that a subscription has ended, because it has missed something.
    fn tell_ended(&mut self, key: ConnectionKey, channel: &ChannelName, made_by: Maker) {
        let subscribed = self.is_subscribed(key, channel.as_str());
        // The client may have left meanwhile, or have come back to the channel.
        let Some(connection) = self.slots.get(key) else { return };
        if subscribed || !connection.is_served() {
            return;
        }
        let wire = connection.wire;
        if made_by == Maker::Application || wire.protocol.on_gap() == OnGap::Close {
            return self.close(key, CloseReason::InsufficientState);
        }
        let reason = UnsubscribeReason::InsufficientState;
        let push = Push::Unsubscribed { channel: channel.as_str(), reason };
        let mut frames = Vec::new();
        match wire.encode_push(&push, &mut frames) {
            Ok(()) => self.send_event(key, &frames),
            Err(reason) => self.close(key, reason),
        }
    }
}
