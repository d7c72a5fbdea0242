//! Publications on their way to subscribers, and reports that some are lost. A gap is an entry of
//! the channel's log, and the sweep finds each subscriber that reaches it. So a turn tells a
//! bounded number of subscribers, however many the channel has, and tells each before it receives
//! anything newer.

use std::sync::Arc;

use super::clients::Clients;
use super::ending::Farewell;
use super::homes::Homes;
use super::notices::{DueNotice, GapNotice};
use super::{closing, missed, pushing, reporting, subscriptions};
use crate::channel::{ChannelName, Publication};
use crate::connection::{DeliveryMode, Maker};
use crate::ids::Position;
use crate::kernel::{ConnectionKey, Sockets};
use crate::protocol::{Codec, OnGap, Push};
use crate::reason::{CloseReason, UnsubscribeReason};
use crate::shard::delivery::{Delivery, Gap, Remedy, Step};

/// Handles live publications of a channel.
pub fn on_live<S: Sockets>(
    clients: &mut Clients<S>,
    channel: &ChannelName,
    publications: Vec<Arc<Publication>>,
) {
    // The last subscriber may have left while they were on their way.
    let Some(place) = clients.delivery.find(channel.as_str()) else { return };
    for publication in publications {
        if clients.delivery.follow(place, publication.offset) == Step::Past {
            continue;
        }
        if crate::sabotage!(DroppedRead) && clients.clock.random().is_multiple_of(10_000) {
            continue;
        }
        clients.delivery.append(place, publication);
    }
}

/// Handles a report that publications before `next` were dropped on the way to this shard.
pub fn on_gap(delivery: &mut Delivery, channel: &ChannelName, next: u64) {
    // The last subscriber may have left while the notice was on its way.
    if let Some(place) = delivery.find(channel.as_str()) {
        delivery.skip_to(place, next);
    }
}

/// Handles a report of the home that the channel's position differs from the one it gave before.
pub fn on_moved(delivery: &mut Delivery, channel: &ChannelName, top: Position) {
    // The last subscriber may have left while the notice was on its way.
    let Some(place) = delivery.find(channel.as_str()) else { return };
    // Nobody here is subscribed before the home's first answer.
    if delivery.local(place).next().is_some() {
        delivery.stand_at(place, top);
    }
}

/// Tells a subscriber that has reached a gap that it has missed publications, or asks the home for
/// them. It has received everything before the gap.
pub fn on_gap_reached<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    gap: Gap,
) {
    let connection = clients.slots.connection(key);
    let on_gap = connection.wire.protocol.on_gap();
    let Some(index) = connection.find_subscription(gap.place) else {
        unreachable!("only subscribers reach a gap")
    };
    if on_gap == OnGap::Notice {
        return match gap.remedy {
            Remedy::AskHome => missed::begin_recovering(clients, homes, key, index, gap),
            Remedy::Notice => pushing::push_gap(clients, key, gap),
        };
    }
    // The client must receive nothing newer before it is told and its subscription ends.
    let subscription = connection.subscribed(index);
    subscription.mode = DeliveryMode::Recovering;
    let made_by = subscription.made_by;
    if !homes.notices.take_allowance() {
        // The client is told by a later tick. The subscription itself ends now.
        let channel = clients.delivery.local(gap.place).name.clone();
        homes.notices.put_off(DueNotice { key, channel, notice: GapNotice::Ended(made_by) });
        let reason = UnsubscribeReason::InsufficientState;
        reporting::unsubscribing(clients, key.slot, index, Farewell::of_subscription(reason));
        subscriptions::remove(clients, key.slot, index);
    } else if on_gap == OnGap::Unsubscribe {
        pushing::end_subscription(clients, key.slot, index, UnsubscribeReason::InsufficientState);
    } else {
        closing::close(clients, key, CloseReason::InsufficientState);
    }
}

/// Handles as many postponed notices as a tick allows: tells the clients, or asks homes for the
/// missed publications.
pub fn on_tick<S: Sockets>(clients: &mut Clients<S>, homes: &mut Homes) {
    for _ in 0..homes.notices.begin_tick() {
        let Some(DueNotice { key, channel, notice }) = homes.notices.take() else {
            unreachable!("each step takes one of the notices that were due before")
        };
        match notice {
            GapNotice::Ended(made_by) => tell_ended(clients, key, &channel, made_by),
            GapNotice::Recovering(last)
                if missed::is_recovering(clients, key, channel.as_str()) =>
            {
                missed::ask_for_missed(clients, homes, key, channel, last);
            }
            GapNotice::Recovering(_) => {}
        }
    }
}

/// Tells a client that its subscription has ended, because it missed publications.
fn tell_ended<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    channel: &ChannelName,
    made_by: Maker,
) {
    let subscribed = subscriptions::is_subscribed(clients, key, channel.as_str());
    // In the meantime, the client may have left, or subscribed to the channel again.
    let Some(connection) = clients.slots.get(key) else { return };
    if subscribed || !connection.is_served() {
        return;
    }
    let wire = connection.wire;
    if made_by == Maker::Application || wire.protocol.on_gap() == OnGap::Close {
        return closing::close(clients, key, CloseReason::InsufficientState);
    }
    let reason = UnsubscribeReason::InsufficientState;
    let push = Push::Unsubscribed { channel: channel.as_str(), reason };
    pushing::send(clients, key, pushing::encode(wire, &push));
}
