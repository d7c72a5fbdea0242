//! Subscribers of the envelope that have missed publications in mid-stream. Clients of other
//! protocols come back for them; for these the home shard is asked here, while their subscriptions
//! rest. What has no place in the channel's order is not handed out later.

use std::sync::Arc;

use super::Sessions;
use super::gaps::DueNotice;
use super::server_subscribe::{Pending, Start};
use crate::channel::{ChannelName, Publication};
use crate::connection::{DeliveryMode, Maker};
use crate::ids::{Position, Since, SinceEpoch};
use crate::kernel::{ConnectionKey, Sockets};
use crate::protocol::Push;
use crate::shard::delivery::{Gap, Remedy};

/// What is still to be done for a subscriber that has missed something.
pub(super) enum GapNotice {
    /// It is to be told that its subscription has ended, and who had made it.
    Ended(Maker),
    /// What came after this position is to be asked for.
    Recovering(Position),
}

impl<S: Sockets> Sessions<S> {
    /// Lets the subscription with number `index` rest, which has missed something, until that is
    /// here.
    pub(super) fn begin_recovering(&mut self, key: ConnectionKey, index: usize, gap: Gap) {
        self.slots.connection(key).subscribed(index).mode = DeliveryMode::Recovering;
        let channel = self.delivery.local(gap.place).name.clone();
        if self.gaps.take_allowance() {
            self.ask_for_missed(key, channel, gap.last);
        } else {
            let notice = GapNotice::Recovering(gap.last);
            self.gaps.put_off(DueNotice { key, channel, notice });
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
            let notice = GapNotice::Recovering(last);
            return self.gaps.put_off(DueNotice { key, channel, notice });
        }
        self.server_subscribe.insert(id, &channel, Pending::Missed(last));
        let since = Since { epoch: SinceEpoch::Exactly(last.epoch), offset: last.offset };
        self.request_subscription(key, &channel, Start::After(since));
    }

    /// Whether a subscription rests until what it has missed is here.
    pub(super) fn is_recovering(&mut self, key: ConnectionKey, channel: &str) -> bool {
        // The subscription may have ended meanwhile, or the client have left.
        let Some(place) = self.delivery.find(channel) else { return false };
        let Some(connection) = self.slots.get(key) else { return false };
        let index = connection.find_subscription(place);
        let found = index.and_then(|index| connection.subscription(index));
        found.is_some_and(|found| found.mode == DeliveryMode::Recovering)
    }

    /// The home shard has said what a subscriber missed after `last`, or can't: its subscription
    /// goes on here and now.
    pub(super) fn on_missed(
        &mut self,
        key: ConnectionKey,
        place: u32,
        last: Position,
        recovered: Option<Vec<Arc<Publication>>>,
    ) {
        // Whatever was gathered before this is in the answer.
        self.delivery.seal_channel(place);
        let crowded = self.is_crowded(key);
        // The client may have left, or its subscription have ended and begun anew.
        let connection = self.slots.get(key);
        let Some(connection) = connection else { return self.leave_if_unused(place) };
        let index = connection.find_subscription(place);
        let index = index.filter(|&at| connection.subscribed(at).mode == DeliveryMode::Recovering);
        let Some(index) = index else { return self.leave_if_unused(place) };
        let local = self.delivery.local(place);
        if crowded && recovered.as_ref().is_some_and(|missed| !missed.is_empty()) {
            // Meanwhile its other channels have filled the outbox.
            let (channel, notice) = (local.name.clone(), GapNotice::Recovering(last));
            return self.gaps.put_off(DueNotice { key, channel, notice });
        }
        let subscription = connection.subscribed(index);
        subscription.mode = DeliveryMode::Live;
        subscription.cursor = local.head();
        let (ok, failed) = (&self.counters.recoveries_ok, &self.counters.recoveries_failed);
        if recovered.is_some() { ok } else { failed }.add(1);
        let mut frames = Vec::new();
        match (recovered, local.next()) {
            _ if crate::sabotage!(ForgottenMissed) => {}
            (Some(missed), _) => {
                let wire = connection.wire;
                wire.encode_publications(&local.view(), &missed, &mut frames);
                self.send_own(key, &frames);
            }
            (None, None) => unreachable!("a channel with a subscriber has a position"),
            // It was no more than feared.
            (None, Some(next)) if next == (Position { offset: last.offset + 1, ..last }) => {}
            (None, Some(Position { offset: next, .. })) => {
                self.push_gap(key, Gap { place, last, next, remedy: Remedy::Notice });
            }
        }
    }

    /// Tells a subscriber that it has missed something for good.
    pub(super) fn push_gap(&mut self, key: ConnectionKey, gap: Gap) {
        let channel = self.delivery.local(gap.place).name.as_str();
        let push = Push::Gap { channel, after: gap.last.offset, next: gap.next };
        let mut frames = Vec::new();
        match self.slots.connection(key).wire.encode_push(&push, &mut frames) {
            Ok(()) => self.send_event(key, &frames),
            Err(reason) => self.close(key, reason),
        }
    }

    /// Subscribers that are still to be told of a gap, or to be given what they missed.
    pub fn gap_notices_due_count(&self) -> usize {
        self.gaps.count()
    }

    /// Whether so much waits for a client that it is not given what it has missed.
    fn is_crowded(&mut self, key: ConnectionKey) -> bool {
        let bytes_max = self.options.reading_bytes_max();
        let connection = self.slots.get(key);
        connection.is_some_and(|connection| connection.outbox_cost_bytes() > bytes_max)
    }
}
