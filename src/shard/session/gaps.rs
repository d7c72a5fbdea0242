//! Publications on their way to subscribers, and the news that some of them are lost. A gap stands
//! in the channel's log, and the sweep finds each subscriber that comes to it, so a turn tells a
//! bounded number of them, however many a channel has, and each before it gets anything newer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Sessions;
use super::closing::Farewell;
use super::missed::GapNotice;
use crate::channel::{ChannelName, Publication};
use crate::connection::{DeliveryMode, Maker};
use crate::ids::Position;
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::GAPS_TOLD_PER_TICK;
use crate::protocol::{Codec, OnGap, Push};
use crate::reason::{CloseReason, UnsubscribeReason};
use crate::shard::delivery::{Gap, Remedy, Step};

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
            if self.delivery.follow(place, publication.offset) == Step::Past {
                continue;
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
        if let Some(place) = self.delivery.find(channel.as_str()) {
            self.delivery.skip_to(place, next);
        }
    }

    /// The home shard has found that the channel stands elsewhere than it said.
    pub(super) fn on_moved(&mut self, channel: &ChannelName, top: Position) {
        // The last subscriber may have left while the notice was on its way.
        let Some(place) = self.delivery.find(channel.as_str()) else { return };
        // Before the first answer nobody here is subscribed.
        if self.delivery.local(place).next().is_some() {
            self.delivery.stand_at(place, top);
        }
    }

    /// Tells a subscriber that has come to a gap that it has missed something, unless it can be
    /// given that here. It has been given what came before.
    pub(super) fn on_gap_reached(&mut self, key: ConnectionKey, gap: Gap) {
        let connection = self.slots.connection(key);
        let on_gap = connection.wire.protocol.on_gap();
        let Some(index) = connection.find_subscription(gap.place) else {
            unreachable!("who comes to a gap is subscribed")
        };
        if on_gap == OnGap::Notice {
            return match gap.remedy {
                Remedy::AskHome => self.begin_recovering(key, index, gap),
                Remedy::Notice => self.push_gap(key, gap),
            };
        }
        // Nothing newer comes before it is told, and it ends.
        let subscription = connection.subscribed(index);
        subscription.mode = DeliveryMode::Recovering;
        let made_by = subscription.made_by;
        if !self.gaps.take_allowance() {
            // It will be told soon.
            let channel = self.delivery.local(gap.place).name.clone();
            self.gaps.put_off(DueNotice { key, channel, notice: GapNotice::Ended(made_by) });
            let reason = UnsubscribeReason::InsufficientState;
            self.report_unsubscribe(key.slot, index, Farewell::of_subscription(reason));
            self.remove_subscription(key.slot, index);
        } else if on_gap == OnGap::Unsubscribe {
            self.end_subscription(key.slot, index, UnsubscribeReason::InsufficientState);
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
