//! Subscribers of the envelope that have missed publications in mid-stream. Clients of other
//! protocols come back for them; for these the home shard is asked here, while their subscriptions
//! rest. What has no place in the channel's order is not handed out later.

use std::sync::Arc;

use super::clients::Clients;
use super::homes::{Homes, Start};
use super::joining::Pending;
use super::notices::{DueNotice, GapNotice};
use super::{pushing, subscriptions};
use crate::channel::{ChannelName, Publication};
use crate::connection::DeliveryMode;
use crate::ids::{LocalId, Position, Since, SinceEpoch};
use crate::kernel::{ConnectionKey, Sockets};
use crate::shard::delivery::{Gap, Remedy};

/// A subscriber that has missed what follows `last`.
#[derive(Clone, Copy, Debug)]
pub struct Missed {
    /// Its connection.
    pub key: ConnectionKey,
    /// The place of the channel.
    pub place: LocalId,
    /// Where it stands.
    pub last: Position,
}

/// Lets subscription `index` rest until the publications that it has missed are here.
pub fn begin_recovering<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    index: usize,
    gap: Gap,
) {
    clients.slots.connection(key).subscribed(index).mode = DeliveryMode::Recovering;
    let channel = clients.delivery.channels.local(gap.place).name.clone();
    if homes.notices.take_allowance() {
        ask_for_missed(clients, homes, key, channel, gap.last);
    } else {
        let notice = GapNotice::Recovering(gap.last);
        homes.notices.put_off(DueNotice { key, channel, notice });
    }
}

/// Asks the home shard for what a subscriber has missed, unless it has not read what it has.
pub fn ask_for_missed<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    channel: ChannelName,
    last: Position,
) {
    let id = clients.connection_id(key);
    if homes.joining.find(id, channel.as_str()).is_some() {
        return;
    }
    if is_crowded(clients, key) {
        let notice = GapNotice::Recovering(last);
        return homes.notices.put_off(DueNotice { key, channel, notice });
    }
    homes.joining.insert(id, &channel, Pending::Missed(last));
    let since = Since { epoch: SinceEpoch::Exactly(last.epoch), offset: last.offset };
    homes.request_subscription(clients, key, &channel, Start::After(since));
}

/// Whether a subscription rests until what it has missed is here.
pub fn is_recovering<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    channel: &str,
) -> bool {
    // The subscription may have ended meanwhile, or the client have left.
    let Some(place) = clients.delivery.channels.find(channel) else { return false };
    let Some(connection) = clients.slots.get(key) else { return false };
    let index = connection.find_subscription(place);
    let found = index.and_then(|index| connection.subscription(index));
    found.is_some_and(|found| found.mode == DeliveryMode::Recovering)
}

/// The home shard has said what a subscriber missed after `last`, or can't: its subscription
/// goes on here and now.
pub fn on_missed<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    Missed { key, place, last }: Missed,
    recovered: Option<Vec<Arc<Publication>>>,
) {
    // Whatever was gathered before this is in the answer.
    clients.delivery.seal_channel(place);
    let crowded = is_crowded(clients, key);
    // The client may have left, or its subscription have ended and begun anew.
    let connection = clients.slots.get(key);
    let Some(connection) = connection else {
        return subscriptions::leave_if_unused(clients, place);
    };
    let index = connection.find_subscription(place);
    let index = index.filter(|&at| connection.subscribed(at).mode == DeliveryMode::Recovering);
    let Some(index) = index else { return subscriptions::leave_if_unused(clients, place) };
    let local = clients.delivery.channels.local(place);
    if crowded && recovered.as_ref().is_some_and(|missed| !missed.is_empty()) {
        // Meanwhile its other channels have filled the outbox.
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
        // It was no more than feared.
        (None, Some(next)) if next == (Position { offset: last.offset + 1, ..last }) => {}
        (None, Some(Position { offset: next, .. })) => {
            pushing::push_gap(clients, key, Gap { place, last, next, remedy: Remedy::Notice });
        }
    }
}

/// Whether so much waits for a client that it is not given what it has missed.
fn is_crowded<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) -> bool {
    let bytes_max = clients.options.reading_bytes_max();
    let connection = clients.slots.get(key);
    connection.is_some_and(|connection| connection.outbox_cost_bytes() > bytes_max)
}
