//! Messages that clients did not ask for. Nothing limits their rate, so a client that does not read
//! them is closed.

use super::clients::Clients;
use super::ending::Farewell;
use super::{closing, reporting, subscriptions};
use crate::connection::{Maker, Subscription};
use crate::ids::Slot;
use crate::kernel::{ConnectionKey, Sockets};
use crate::protocol::Push;
use crate::reason::{CloseReason, UnsubscribeReason};
use crate::shard::delivery::{Gap, Pace};
use crate::wire::Wire;

/// The bytes of a push, or the reason to close the connection instead.
type Encoded = Result<Vec<u8>, CloseReason>;

/// Sends an event to a client, or closes the connection if the client does not read.
fn send_event<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, frames: &[u8]) {
    match clients.delivery.send_event(&mut clients.slots, key, frames) {
        Pace::KeepsUp => {}
        Pace::TooSlow(reason) => closing::close(clients, key, reason),
    }
}

/// Sends a push, or closes the connection if its protocol can't express the push.
pub fn send<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, push: Encoded) {
    match push {
        Ok(frames) => send_event(clients, key, &frames),
        Err(reason) => closing::close(clients, key, reason),
    }
}

/// Encodes a push.
///
/// # Errors
/// The reason to close the connection instead.
pub fn encode(wire: Wire, push: &Push<'_>) -> Encoded {
    let mut frames = Vec::new();
    wire.encode_push(push, &mut frames).map(|()| frames)
}

/// Tells a subscriber that it has missed publications, which can't be recovered.
pub fn push_gap<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, gap: Gap) {
    let channel = clients.delivery.local(gap.place).name.as_str();
    let push = Push::Gap { channel, after: gap.last.offset, next: gap.next };
    let frames = encode(clients.slots.connection(key).wire, &push);
    send(clients, key, frames);
}

/// Ends a subscription and tells the client why.
pub fn end_subscription<S: Sockets>(
    clients: &mut Clients<S>,
    slot: Slot,
    index: usize,
    reason: UnsubscribeReason,
) {
    let connection = clients.slots.tenant(slot);
    let key = ConnectionKey { slot, generation: connection.generation };
    let wire = connection.wire;
    let Subscription { channel: place, made_by, .. } = *connection.subscribed(index);
    if made_by == Maker::Application && reason == UnsubscribeReason::InsufficientState {
        // The client did not make this subscription, so it would not subscribe again by itself.
        return closing::close(clients, key, CloseReason::InsufficientState);
    }
    let channel = clients.delivery.local(place).name.as_str();
    let push = encode(wire, &Push::Unsubscribed { channel, reason });
    if push.is_ok() {
        reporting::unsubscribing(clients, slot, index, Farewell::of_subscription(reason));
        subscriptions::remove(clients, slot, index);
    }
    send(clients, key, push);
}
