//! Subscribers of the envelope that have missed publications. Clients of other protocols subscribe
//! again by themselves. For these, the shard asks the home while their subscriptions rest.
//! Publications without an offset can't be recovered.

use std::sync::Arc;

use super::clients::Clients;
use super::homes::{Homes, Start};
use super::notices::{DueNotice, GapNotice};
use super::pending::Purpose;
use super::{pushing, subscriptions};
use crate::channel::{ChannelName, Publication};
use crate::connection::DeliveryMode;
use crate::ids::{LocalId, Position, Since, SinceEpoch};
use crate::kernel::{ConnectionKey, Sockets};
use crate::shard::delivery::{Gap, Remedy};

/// A subscriber that has missed the publications after `last`.
#[derive(Clone, Copy, Debug)]
pub struct Missed {
    /// Key of its connection.
    pub key: ConnectionKey,
    /// Place of the channel.
    pub place: LocalId,
    /// Its position.
    pub last: Position,
}

/// Lets subscription `index` rest until the missed publications arrive.
pub fn begin_recovering<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    index: usize,
    gap: Gap,
) {
    clients.slots.connection(key).subscribed(index).mode = DeliveryMode::Recovering;
    let channel = clients.delivery.local(gap.place).name.clone();
    if homes.notices.take_allowance() {
        ask_for_missed(clients, homes, key, channel, gap.last);
    } else {
        let notice = GapNotice::Recovering(gap.last);
        homes.notices.put_off(DueNotice { key, channel, notice });
    }
}

/// Asks the home for the publications that a subscriber has missed. If the client has not read its
/// earlier data, this is postponed.
pub fn ask_for_missed<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    channel: ChannelName,
    last: Position,
) {
    let id = clients.connection_id(key);
    if homes.pending.find(id, channel.as_str()).is_some() {
        return;
    }
    if is_crowded(clients, key) {
        let notice = GapNotice::Recovering(last);
        // A missed range can be large, and must not make a slow client exceed its limit.
        return homes.notices.put_off(DueNotice { key, channel, notice });
    }
    homes.pending.insert(id, &channel, Purpose::Missed(last));
    let since = Since { epoch: SinceEpoch::Exactly(last.epoch), offset: last.offset };
    homes.request_subscription(clients, key, &channel, Start::After(since));
}

/// Whether a subscription rests until its missed publications arrive.
pub fn is_recovering<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    channel: &str,
) -> bool {
    // In the meantime, the subscription may have ended, or the client may have left.
    let Some(place) = clients.delivery.find(channel) else { return false };
    let Some(connection) = clients.slots.get(key) else { return false };
    let index = connection.find_subscription(place);
    let found = index.and_then(|index| connection.subscription(index));
    found.is_some_and(|found| found.mode == DeliveryMode::Recovering)
}

/// Handles the home's answer with the publications missed after `last`, or its refusal. The
/// subscription continues from here.
pub fn on_missed<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    Missed { key, place, last }: Missed,
    recovered: Option<Vec<Arc<Publication>>>,
) {
    // The answer includes all publications gathered before it.
    clients.delivery.seal_channel(place);
    let crowded = is_crowded(clients, key);
    // The client may have left, or its subscription may have ended and begun again.
    let connection = clients.slots.get(key);
    let Some(connection) = connection else {
        return subscriptions::leave_if_unused(clients, place);
    };
    let index = connection.find_subscription(place);
    let index = index.filter(|&at| connection.subscribed(at).mode == DeliveryMode::Recovering);
    let Some(index) = index else { return subscriptions::leave_if_unused(clients, place) };
    let local = clients.delivery.local(place);
    if crowded && recovered.as_ref().is_some_and(|missed| !missed.is_empty()) {
        // In the meantime, its other channels have filled the outbox. The home is asked again
        // later.
        let (channel, notice) = (local.name.clone(), GapNotice::Recovering(last));
        return homes.notices.put_off(DueNotice { key, channel, notice });
    }
    let subscription = connection.subscribed(index);
    subscription.mode = DeliveryMode::Live;
    subscription.cursor = local.head();
    let (ok, failed) = (&clients.counters.recoveries_ok, &clients.counters.recoveries_failed);
    if recovered.is_some() { ok } else { failed }.add(1);
    let mut frames = Vec::new();
    match (recovered, local.next()) {
        _ if crate::sabotage!(ForgottenMissed) => {}
        (Some(missed), _) => {
            let wire = connection.wire;
            wire.encode_publications(&local.view(), &missed, &mut frames);
            clients.send_own(key, &frames);
        }
        (None, None) => unreachable!("a channel with a subscriber has a position"),
        // Nothing is missing: the channel's position directly follows `last`.
        (None, Some(next)) if next == (Position { offset: last.offset + 1, ..last }) => {}
        (None, Some(Position { offset: next, .. })) => {
            pushing::push_gap(clients, key, Gap { place, last, next, remedy: Remedy::Notice });
        }
    }
}

/// Whether too much data waits for a client to add missed publications.
fn is_crowded<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) -> bool {
    let bytes_max = clients.options.reading_bytes_max();
    let connection = clients.slots.get(key);
    connection.is_some_and(|connection| connection.outbox_cost_bytes() > bytes_max)
}
