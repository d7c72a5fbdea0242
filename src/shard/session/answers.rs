//! Answers of home shards and of the bus to requests of clients. The position of the answer in the
//! queue is exactly where live publications begin, so there is nothing to buffer or to merge.

use super::clients::Clients;
use super::homes::Homes;
use super::missed::{self, Missed};
use super::pending::Purpose;
use super::replying::{self, Flow};
use super::{closing, parking, resuming, server_subscribe, subscriptions, upgrading};
use crate::channel::ChannelName;
use crate::connection::{
    Charge, Flags, Maker, PendingRequest, Recovery, State, Terms, WaitingSubscribe,
};
use crate::ids::{ConnectionId, LocalId};
use crate::kernel::{ConnectionKey, Sockets};
use crate::mesh::{Page, Subscribed};
use crate::protocol::{self, Reply};
use crate::reason::ClientError;
use crate::shard::delivery::Delivery;

/// Handles the home's answer to a request for a subscription. The subscription begins here.
pub fn on_subscribed<S: Sockets>(clients: &mut Clients<S>, homes: &mut Homes, answer: Subscribed) {
    let key = ConnectionKey::of(answer.connection);
    let place = awaited(&clients.delivery, &answer.channel);
    clients.delivery.on_home_answered(place, &answer.channel, answer.top);
    match homes.pending.take(answer.connection, &answer.channel) {
        Some(Purpose::Missed(last)) => {
            missed::on_missed(clients, homes, Missed { key, place, last }, answer.recovered);
        }
        Some(Purpose::ServerSubscribe(ticket)) => {
            server_subscribe::on_subscribed(clients, key, place, &answer);
            homes.pending.end(ticket, None, &mut clients.post);
        }
        Some(Purpose::Cancelled(ticket)) => {
            subscriptions::leave_if_unused(clients, place);
            homes.pending.end(ticket, None, &mut clients.post);
        }
        None => match take_waiting_subscribe(clients, homes, key, &answer.channel) {
            None => subscriptions::leave_if_unused(clients, place),
            Some(waiting) => begin_subscription(clients, homes, place, &waiting, answer),
        },
    }
}

/// Handles the refusal of a subscription by its home.
pub fn on_refused<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    channel: &ChannelName,
    connection: ConnectionId,
    error: ClientError,
) {
    let key = ConnectionKey::of(connection);
    let place = awaited(&clients.delivery, channel);
    clients.delivery.on_home_refused(place);
    let requested = match homes.pending.take(connection, channel) {
        Some(Purpose::Missed(last)) => {
            return missed::on_missed(clients, homes, Missed { key, place, last }, None);
        }
        Some(Purpose::ServerSubscribe(ticket)) => Some((ticket, Some(error))),
        Some(Purpose::Cancelled(ticket)) => Some((ticket, None)),
        None => None,
    };
    if let Some((ticket, error)) = requested {
        subscriptions::leave_if_unused(clients, place);
        return homes.pending.end(ticket, error, &mut clients.post);
    }
    let waiting = take_waiting_subscribe(clients, homes, key, channel);
    subscriptions::leave_if_unused(clients, place);
    let Some(waiting) = waiting else { return };
    match clients.slots.connection(key).state {
        State::Upgrading => return upgrading::refuse(clients, key, error, channel.as_str()),
        State::Resuming => {
            resuming::on_refused(clients, key, error, channel.as_str());
            return;
        }
        _ => {}
    }
    if replying::fail(clients, key, waiting.request, error) != Flow::Stop {
        parking::resume(clients, homes, key);
    }
}

/// The place of a channel whose home has answered. The channel is in the table because a request
/// waited for this answer.
#[expect(clippy::expect_used, reason = "a home answers each request once")]
fn awaited(delivery: &Delivery, channel: &ChannelName) -> LocalId {
    delivery.find(channel.as_str()).expect("a channel stays until its home has answered")
}

/// Takes the request that the answer is for. `None` if the connection has ended in the meantime.
/// Otherwise the request still waits, because only its answer ends the wait.
fn take_waiting_subscribe<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    channel: &ChannelName,
) -> Option<WaitingSubscribe> {
    // The client may have left since it asked.
    let connection = clients.slots.get(key)?;
    let waiting = match connection.state {
        State::Upgrading => {
            let Some(wish) = connection.take_wish(channel) else {
                unreachable!("a plain WebSocket asks for each channel of its URL once")
            };
            wish
        }
        State::Resuming => resuming::take_waiting(clients, key, channel)?,
        State::Connected => match connection.busy().waiting.take().map(|waiting| *waiting) {
            Some(PendingRequest::Subscribe(waiting)) if waiting.channel == *channel => waiting,
            other => unreachable!("a client waits for the home that it has asked: {other:?}"),
        },
        State::Closing | State::Released => return None,
        State::Vacant | State::Handshaking | State::Opened => {
            unreachable!("only sessions ask homes for subscriptions")
        }
    };
    // The charge is settled also for a request that failed, because the name has been answered.
    if waiting.charge == Charge::Charged {
        homes.creating.on_name_answered(clients, key);
    }
    Some(waiting)
}

fn begin_subscription<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    place: LocalId,
    waiting: &WaitingSubscribe,
    mut answer: Subscribed,
) {
    let key = ConnectionKey::of(answer.connection);
    let upgrading = clients.slots.connection(key).state == State::Upgrading;
    if upgrading {
        closing::send_response(clients, key);
        upgrading::limit_replay(clients, key, &mut answer);
    }
    let recovered = answer.recovered.is_some();
    if waiting.recovery.is_asked() {
        let counters = &clients.counters;
        let counter = if recovered { &counters.recoveries_ok } else { &counters.recoveries_failed };
        counter.add(1);
    }
    if clients.slots.connection(key).state == State::Resuming {
        resuming::on_subscribed(clients, key, place, waiting, answer);
        if resuming::end(clients, key) {
            parking::resume(clients, homes, key);
        }
        return;
    }
    if waiting.recovery == Recovery::Required && !recovered {
        // A client that insists on recovery gets no subscription, and an error instead.
        subscriptions::leave_if_unused(clients, place);
        replying::fail(clients, key, waiting.request, ClientError::UnrecoverablePosition);
        return parking::resume(clients, homes, key);
    }
    let local = clients.delivery.local(place);
    let publications = answer.recovered.unwrap_or_default();
    let mut position = answer.top;
    position.offset -= publications.len() as u64;
    let reply = Reply::Subscribed(protocol::Subscribed {
        channel: local.view(),
        recoverable: waiting.grant.recoverable,
        positioned: waiting.grant.positioned,
        was_recovering: waiting.recovery.is_asked(),
        recovered,
        publications: &publications,
        position,
    });
    let connection = clients.slots.connection(key);
    if let Some(busy) = connection.busy.as_mut() {
        busy.unserved = busy.unserved.and(Some(clients.clock.now()));
    }
    let mut frames = clients.input.take_reply_buffer();
    let encoded = connection.wire.encode_reply(waiting.request, &reply, &mut frames);
    let terms = Terms { positioned: waiting.grant.positioned, made_by: Maker::Client };
    subscriptions::add(clients, key, place, terms);
    if let Err(reason) = encoded {
        return closing::close(clients, key, reason);
    }
    if !publications.is_empty() {
        clients.slots.connection(key).meter.count_replay(clients.clock.tick(), frames.len());
    }
    clients.send_reply(key, frames);
    if !upgrading || upgrading::end(clients, key) {
        parking::resume(clients, homes, key);
    }
}

/// Handles the result of a publication of a client that continues with other commands in the
/// meantime.
pub fn on_pipelined<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    id: u32,
    result: Result<(), ClientError>,
) {
    let now = clients.clock.now();
    // The client may have left since it published.
    let Some(connection) = clients.slots.get(key) else { return };
    let Some(busy) = connection.busy.as_mut().filter(|busy| busy.publishing > 0) else {
        return; // The connection is closing and expects no answers.
    };
    busy.publishing -= 1;
    let left = busy.publishing;
    // Which of the publications were charged is not stored, only their number. So the last ones to
    // be answered count as charged.
    let charged = busy.charged_publishing > left;
    busy.charged_publishing = busy.charged_publishing.min(left);
    if let Some(unserved) = busy.unserved.as_mut()
        && result.is_ok()
    {
        *unserved = now;
    }
    let over = |waiting: &mut Box<PendingRequest>| match **waiting {
        PendingRequest::Room => true,
        PendingRequest::Publications => left == 0,
        PendingRequest::Connect(_) | PendingRequest::Subscribe(_) | PendingRequest::Answer(_) => {
            false
        }
    };
    let waited = busy.waiting.take_if(over).is_some();
    let connected = connection.state == State::Connected;
    if connected && result.is_ok() {
        connection.flags.set(Flags::PUBLISHED);
        connection.flags.clear(Flags::PUBLISHED_BEFORE);
    }
    if charged {
        homes.creating.on_name_answered(clients, key);
    }
    if !connected || reply_published(clients, key, id, result) == Flow::Stop {
        return;
    }
    if waited {
        parking::resume(clients, homes, key);
    } else {
        clients.slots.connection(key).shrink();
    }
    closing::end_if_done(clients, key);
}

/// Handles the result of a publication for which its client waits.
pub fn on_published<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    id: u32,
    result: Result<(), ClientError>,
) {
    if ends_waiting(clients, homes, key, &result)
        && reply_published(clients, key, id, result) != Flow::Stop
    {
        parking::resume(clients, homes, key);
    }
}

/// Handles a page of history for which its client waits.
pub fn on_page<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    id: u32,
    page: Result<Page, ClientError>,
) {
    if !ends_waiting(clients, homes, key, &page) {
        return;
    }
    let flow = match page {
        Ok(Page { channel, publications, top, .. }) => {
            let Ok(namespace) = clients.options.namespaces().resolve(channel.as_str()) else {
                unreachable!("the name was resolved before the request was sent")
            };
            let view = crate::channel::ChannelView {
                name: channel.as_str(),
                data: namespace.data,
                has_history: namespace.has_history(),
                epoch: top.epoch,
            };
            let publications = &publications;
            replying::reply(clients, key, id, &Reply::History { channel: view, publications, top })
        }
        Err(error) => replying::fail(clients, key, id, error),
    };
    if flow != Flow::Stop {
        parking::resume(clients, homes, key);
    }
}

fn reply_published<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    id: u32,
    result: Result<(), ClientError>,
) -> Flow {
    let reply = result.map_or_else(Reply::Error, |()| Reply::Published);
    replying::reply(clients, key, id, &reply)
}

/// Ends the wait for an answer. Returns false if the client no longer waits, because it has left
/// since it asked.
fn ends_waiting<S: Sockets, T>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    answer: &Result<T, ClientError>,
) -> bool {
    let Some(connection) = clients.slots.get(key) else { return false };
    if connection.state != State::Connected || !connection.flags.has(Flags::WAITING) {
        return false;
    }
    let busy = connection.busy();
    let Some(PendingRequest::Answer(charge)) = busy.waiting.take().map(|waiting| *waiting) else {
        unreachable!("a client that waits for an answer has one request")
    };
    if answer.is_ok() {
        busy.unserved = busy.unserved.and(Some(clients.clock.now()));
    }
    if charge == Charge::Charged {
        homes.creating.on_name_answered(clients, key);
    }
    true
}
