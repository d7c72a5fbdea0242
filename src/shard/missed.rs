//! Subscribers of the envelope that have missed publications in mid-stream. Clients of other
//! protocols come back for them; for these the home shard is asked here, while their subscriptions
//! rest. What has no place in the channel's order is not handed out later.

use std::sync::Arc;

use super::Shard;
use super::server_subscribe::Pending;
use crate::channel::{ChannelName, Publication};
use crate::connection::Delivery;
use crate::ids::{Position, Since, SinceEpoch, Slot};
use crate::kernel::{ConnectionKey, Sockets};
use crate::protocol::Push;

/// What is still to be done for a subscriber that has missed something.
pub(super) enum GapNotice {
    /// Its subscription has ended, which it is to be told; and whether the application made it.
    Ended { server_side: bool },
    /// What came after this position is to be asked for.
    Recovering(Position),
}

impl<S: Sockets> Shard<S> {
    /// Lets a subscription rest, which has missed what follows `last`, until that is here.
    pub(super) fn begin_recovering(&mut self, slot: Slot, place: u32, last: Position) {
        // What came before the gap goes first.
        self.collect_pending(slot);
        let Some(key) = self.slots.key(slot) else { return };
        let Some(local) = self.locals.at(place) else { return };
        let Some(connection) = self.slots.at(slot) else { return };
        // It may have been too slow for that.
        let Some(index) = connection.find_subscription(place) else { return };
        let Some(subscription) = connection.subscription(index) else { return };
        subscription.delivery = Delivery::Recovering;
        let channel = local.name.clone();
        if self.gaps_allowed > 0 {
            self.gaps_allowed -= 1;
            self.ask_for_missed(key, channel, last);
        } else {
            self.gap_notices_due.push_back((key, channel, GapNotice::Recovering(last)));
        }
    }

    /// Asks the home shard for what a subscriber has missed, unless it has not read what it has.
    pub(super) fn ask_for_missed(
        &mut self,
        key: ConnectionKey,
        channel: ChannelName,
        last: Position,
    ) {
        let id = self.connection_id(key);
        if self.server_subscribe.find(id, channel.as_str()).is_some() {
            return;
        }
        if self.is_crowded(key) {
            return self.gap_notices_due.push_back((key, channel, GapNotice::Recovering(last)));
        }
        self.server_subscribe.insert(id, &channel, Pending::Missed(last));
        let since = Since { epoch: SinceEpoch::Exactly(last.epoch), offset: last.offset };
        self.request_subscription(key, &channel, (Some(since), 0));
    }

    /// Whether a subscription rests until what it has missed is here.
    pub(super) fn is_recovering(&mut self, key: ConnectionKey, channel: &str) -> bool {
        let Some(place) = self.locals.find(channel) else { return false };
        let Some(connection) = self.slots.get(key) else { return false };
        let index = connection.find_subscription(place);
        let found = index.and_then(|index| connection.subscription(index));
        found.is_some_and(|found| found.delivery == Delivery::Recovering)
    }

    /// The home shard has said what a subscriber missed after `last`, or can't: its subscription
    /// goes on here and now.
    pub(super) fn on_missed(
        &mut self,
        key: ConnectionKey,
        place: u32,
        (last, recovered): (Position, Option<Vec<Arc<Publication>>>),
    ) {
        // Whatever was gathered before this is in the answer.
        self.seal_channel(place);
        let crowded = self.is_crowded(key);
        let Some(local) = self.locals.at(place) else { return };
        let Some(next) = local.next() else { return };
        let index = self.slots.get(key).and_then(|found| found.find_subscription(place));
        let Some(connection) = self.slots.get(key) else { return self.leave_if_unused(place) };
        let found = index.and_then(|index| connection.subscription(index));
        let Some(subscription) = found.filter(|found| found.delivery == Delivery::Recovering)
        else {
            return self.leave_if_unused(place);
        };
        if crowded && recovered.as_ref().is_some_and(|missed| !missed.is_empty()) {
            // Meanwhile its other channels have filled the outbox.
            let entry = (key, local.name.clone(), GapNotice::Recovering(last));
            return self.gap_notices_due.push_back(entry);
        }
        subscription.delivery = Delivery::Live;
        subscription.cursor = local.head();
        let (ok, failed) = (&self.counters.recoveries_ok, &self.counters.recoveries_failed);
        if recovered.is_some() { ok } else { failed }.add(1);
        let mut frames = Vec::new();
        match recovered {
            _ if crate::sabotage!(ForgottenMissed) => {}
            Some(missed) => {
                connection.wire.encode_publications(&local.view(), &missed, &mut frames);
                self.send_own(key, &frames);
            }
            // It was no more than feared.
            None if next == (Position { offset: last.offset + 1, ..last }) => {}
            None => self.push_gap(key, place, (last.offset, next.offset)),
        }
    }

    /// Tells a subscriber that it has missed something for good.
    pub(super) fn push_gap(&mut self, key: ConnectionKey, place: u32, (after, next): (u64, u64)) {
        let Some(local) = self.locals.at(place) else { return };
        let Some(connection) = self.slots.get(key) else { return };
        let push = Push::Gap { channel: local.name.as_str(), after, next };
        let mut frames = Vec::new();
        match connection.wire.encode_push(&push, &mut frames) {
            Ok(()) => self.send_event(key, &frames),
            Err(reason) => self.close(key, reason),
        }
    }

    /// Subscribers that are still to be told of a gap, or to be given what they missed.
    pub fn gap_notices_due_count(&self) -> usize {
        self.gap_notices_due.len()
    }

    /// Whether so much waits for a client that it is not given what it has missed.
    fn is_crowded(&mut self, key: ConnectionKey) -> bool {
        let bytes_max = self.options.reading_bytes_max();
        let connection = self.slots.get(key);
        connection.is_some_and(|connection| connection.outbox_cost_bytes() > bytes_max)
    }
}
