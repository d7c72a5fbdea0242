//! From the home shard to subscribers: publications are checked for continuity and gathered, and
//! whoever misses something is told before anything newer.

use std::sync::Arc;

use super::Shard;
use super::missed::GapNotice;
use crate::channel::{ChannelName, Publication};
use crate::connection::Delivery;
use crate::ids::Position;
use crate::kernel::Sockets;
use crate::limits::GAPS_TOLD_PER_TICK;
use crate::protocol::{Codec, OnGap, Push};
use crate::reason::{CloseReason, UnsubscribeReason};

impl<S: Sockets> Shard<S> {
    /// Live publications of a channel.
    pub(super) fn on_live(&mut self, channel: &ChannelName, publications: Vec<Arc<Publication>>) {
        let Some(place) = self.locals.find(channel.as_str()) else { return };
        for publication in publications {
            self.on_live_one(place, publication);
        }
    }

    fn on_live_one(&mut self, place: u32, publication: Arc<Publication>) {
        let Some(local) = self.locals.at(place) else { return };
        // Before the first answer nobody here is subscribed.
        let Some(mut next) = local.next() else { return };
        let offset = publication.offset;
        if offset != 0 {
            if offset < next.offset {
                return; // The answer to a subscription has counted it already.
            }
            let missed = offset > next.offset;
            let last = Position { offset: next.offset - 1, ..next };
            next.offset = offset + 1;
            local.set_next(next);
            if missed {
                self.tell_gap(place, last, offset);
            }
        }
        if crate::sabotage!(DroppedRead) && self.next_random().is_multiple_of(10_000) {
            return;
        }
        let Some(local) = self.locals.at(place) else { return };
        if !local.is_open() {
            self.unsealed.push(place);
        }
        if local.append(publication) {
            self.seal_channel(place);
        }
    }

    /// Publications from after `after` up to before `next` were dropped on the way here.
    pub(super) fn on_gap(&mut self, channel: &ChannelName, next: u64) {
        let Some(place) = self.locals.find(channel.as_str()) else { return };
        let Some(local) = self.locals.at(place) else { return };
        let Some(mut expected) = local.next() else { return };
        if next > expected.offset {
            let last = Position { offset: expected.offset - 1, ..expected };
            expected.offset = next;
            local.set_next(expected);
            self.tell_gap(place, last, next);
        }
    }

    /// The home shard has found that the channel stands elsewhere than it said.
    pub(super) fn on_moved(&mut self, channel: &ChannelName, top: Position) {
        let Some(place) = self.locals.find(channel.as_str()) else { return };
        // Before the first answer nobody here is subscribed.
        if self.locals.at(place).is_some_and(|local| local.next().is_some()) {
            self.check_continuity(place, top);
        }
    }

    /// Brings the channel to where the home shard says it stands.
    pub(super) fn check_continuity(&mut self, place: u32, top: Position) {
        let Some(local) = self.locals.at(place) else { return };
        let next = Position { offset: top.offset + 1, ..top };
        let before = local.next();
        local.set_next(next);
        let subscribed = !local.subscribers.as_slice().is_empty();
        let Some(before) = before.filter(|_| subscribed) else { return };
        if before != next {
            let last = Position { offset: before.offset - 1, ..before };
            self.tell_gap(place, last, next.offset);
        }
    }

    /// Tells every subscriber that wants to know that it has missed what stands between `last` and
    /// `next`, unless it can be given that here.
    fn tell_gap(&mut self, place: u32, last: Position, next: u64) {
        if crate::sabotage!(SkippedGap) {
            return;
        }
        self.seal_channel(place);
        let Some(local) = self.locals.at(place) else { return };
        let same_epoch = local.next().is_some_and(|next| next.epoch == last.epoch);
        let recoverable = local.namespace.has_history() && same_epoch;
        // Telling may end subscriptions, and so change the list.
        let subscribers: Vec<_> =
            local.subscribers.as_slice().iter().map(|subscriber| subscriber.slot()).collect();
        for slot in subscribers {
            let Some(key) = self.slots.key(slot) else { continue };
            let Some(connection) = self.slots.at(slot) else { continue };
            let Some(index) = connection.find_subscription(place) else { continue };
            let wire = connection.wire;
            let Some(found) = connection.subscription(index) else { continue };
            let (positioned, server_side) = (found.positioned, found.server_side);
            if !positioned || found.delivery == Delivery::Recovering {
                continue;
            }
            if wire.protocol.on_gap() == OnGap::Notice && recoverable {
                self.begin_recovering(slot, place, last);
            } else if wire.protocol.on_gap() == OnGap::Notice {
                // What came before the gap goes first.
                self.collect_pending(slot);
                // Or it was too slow for that, and nothing may follow its close frame.
                if self.slots.get(key).is_some_and(|connection| connection.is_served()) {
                    self.push_gap(key, place, (last.offset, next));
                }
            } else if self.gaps_allowed > 0 {
                self.gaps_allowed -= 1;
                match wire.protocol.on_gap() {
                    OnGap::Unsubscribe => {
                        self.end_subscription(slot, index, UnsubscribeReason::InsufficientState);
                    }
                    _ => self.close(key, CloseReason::InsufficientState),
                }
            } else {
                // It will be told soon; until then it gets nothing newer.
                let Some(local) = self.locals.at(place) else { continue };
                let entry = (key, local.name.clone(), GapNotice::Ended { server_side });
                self.gap_notices_due.push_back(entry);
                self.collect_pending(slot);
                let reason = UnsubscribeReason::InsufficientState;
                self.report_unsubscribe(slot, index, reason.code_and_text());
                self.remove_subscription(slot, index);
            }
        }
    }

    /// Tells those who wait for it that they have missed something, as many as a tick may, or asks
    /// for it.
    pub(super) fn on_tick_gaps(&mut self) {
        self.gaps_allowed = GAPS_TOLD_PER_TICK;
        for _ in 0..self.gap_notices_due.len().min(GAPS_TOLD_PER_TICK) {
            let Some((key, channel, gap_notices_due)) = self.gap_notices_due.pop_front() else {
                return;
            };
            self.gaps_allowed -= 1;
            let server_side = match gap_notices_due {
                GapNotice::Ended { server_side } => server_side,
                GapNotice::Recovering(last) => {
                    if self.is_recovering(key, channel.as_str()) {
                        self.ask_for_missed(key, channel, last);
                    }
                    continue;
                }
            };
            let subscribed = self.is_subscribed(key, channel.as_str());
            let Some(connection) = self.slots.get(key) else { continue };
            if subscribed || !connection.is_served() {
                continue;
            }
            let wire = connection.wire;
            if server_side || wire.protocol.on_gap() == OnGap::Close {
                self.close(key, CloseReason::InsufficientState);
                continue;
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

    /// Seals what has been gathered, and marks everybody who is to receive it.
    pub(super) fn seal(&mut self) {
        for place in std::mem::take(&mut self.unsealed) {
            self.seal_channel(place);
        }
    }

    /// The same for one channel, if it has gathered anything.
    pub(super) fn seal_channel(&mut self, place: u32) {
        let Some(local) = self.locals.at(place).filter(|local| local.is_open()) else { return };
        if !local.holds_segments() {
            self.channels_with_segments.push(place);
        }
        local.seal(self.sweep.pass());
        for subscriber in local.subscribers.as_slice() {
            self.dirty.insert(subscriber.slot().index());
        }
    }
}
