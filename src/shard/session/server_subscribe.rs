//! Subscriptions that the application makes for its clients. The client has asked for nothing, so
//! what it is told is a push, and whoever waits is the control thread.

use std::collections::HashMap;

use super::Sessions;
use crate::auth::Wish;
use crate::channel::ChannelName;
use crate::connection::{Maker, PendingRequest, State, Terms};
use crate::ids::{ConnectionId, Position, Since};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::SUBSCRIBING_REPLY_BYTES;
use crate::mesh::{Answer, Asker, Post, Subscribe, Subscribed, Ticket, ToHome};
use crate::protocol::{self, Codec, Push};
use crate::reason::{ClientError, UnsubscribeReason};
use crate::shard::delivery::{Entered, Pace};

/// Subscriptions that wait for their home shard's answer and that no client asked for.
#[derive(Default)]
pub(super) struct Joining {
    /// What each waits for. A connection waits at most once for each channel.
    pending: HashMap<ConnectionId, Vec<(ChannelName, Pending)>>,
    requests: HashMap<Ticket, Joined>,
}

/// What the answer of a home shard is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// A request of the application.
    Join(Ticket),
    /// The same, but the application has ended the subscription before it began.
    Cancelled(Ticket),
    /// A subscription that has missed what follows this position.
    Missed(Position),
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With the next publication.
    Live,
    /// With all that came after this position, if its channel still has that.
    After(Since),
    /// With so many of the newest publications.
    Newest(usize),
}

/// How far a request has come.
#[derive(Default)]
struct Joined {
    waiting: usize,
    /// Why one of the subscriptions can't be had.
    error: Option<ClientError>,
    /// Connections that it concerned, once all have been looked at.
    affected: Option<usize>,
}

impl Joining {
    /// What a connection waits for in `channel`.
    pub(super) fn find(&self, connection: ConnectionId, channel: &str) -> Option<Pending> {
        let pending = self.pending.get(&connection)?;
        pending.iter().find(|(name, _)| name.as_str() == channel).map(|(_, pending)| *pending)
    }

    /// Notes that a connection waits for the answer of a channel's home. It waits for nothing else
    /// there.
    pub(super) fn insert(
        &mut self,
        connection: ConnectionId,
        channel: &ChannelName,
        pending: Pending,
    ) {
        self.pending.entry(connection).or_default().push((channel.clone(), pending));
    }

    /// What an answer of a home shard is for; absent if a client asked for it.
    pub(super) fn take(
        &mut self,
        connection: ConnectionId,
        channel: &ChannelName,
    ) -> Option<Pending> {
        let pending = self.pending.get_mut(&connection)?;
        let at = pending.iter().position(|(name, _)| name == channel)?;
        let (_, taken) = pending.swap_remove(at);
        if pending.is_empty() {
            self.pending.remove(&connection);
        }
        Some(taken)
    }

    /// Sees to it that a connection is not subscribed to `channel`, or to any, by what it waits
    /// for. Answers whether it would have been.
    pub(super) fn cancel(
        &mut self,
        connection: ConnectionId,
        channel: Option<&ChannelName>,
    ) -> bool {
        let mut cancelled = false;
        for (name, pending) in self.pending.get_mut(&connection).into_iter().flatten() {
            if let Pending::Join(ticket) = *pending
                && channel.is_none_or(|channel| channel == name)
            {
                (*pending, cancelled) = (Pending::Cancelled(ticket), true);
            }
        }
        cancelled
    }

    /// A subscription has begun, or will not.
    fn end(&mut self, ticket: Ticket, error: Option<ClientError>, post: &mut Post) {
        if let Some(joined) = self.requests.get_mut(&ticket) {
            joined.waiting -= 1;
            joined.error = joined.error.or(error);
        }
        self.answer(ticket, post);
    }

    /// Answers a request for which everything has been done.
    fn answer(&mut self, ticket: Ticket, post: &mut Post) {
        let joined = self.requests.get(&ticket);
        if let Some(Joined { waiting: 0, error, affected: Some(affected) }) = joined {
            let answer = error.map_or(Answer::Affected(*affected), Answer::Error);
            self.requests.remove(&ticket);
            post.answer(Asker::Control(ticket), answer);
        }
    }
}

impl<S: Sockets> Sessions<S> {
    /// Asks for the subscription of one connection; answers whether it was concerned.
    pub fn join(
        &mut self,
        key: ConnectionKey,
        ticket: Ticket,
        name: &ChannelName,
        recover: Option<Since>,
    ) -> bool {
        let id = self.connection_id(key);
        let subscribed = self.is_subscribed(key, name.as_str());
        let connection = self.slots.connection(key);
        if !connection.wire.protocol.names_channels() {
            return false; // A message does not say which channel it is from.
        }
        let waiting = connection.busy.as_ref().and_then(|busy| busy.waiting.as_deref());
        let asked = matches!(waiting, Some(PendingRequest::Subscribe(own)) if own.channel == *name);
        let error = match self.server_subscribe.find(id, name.as_str()) {
            _ if subscribed || asked => return true,
            // The next answer is not for this request.
            Some(Pending::Cancelled(_)) => ClientError::TooManyRequests,
            Some(Pending::Join(_) | Pending::Missed(_)) => return true,
            None if connection.subscriptions_count() < self.options.client().channels_max => {
                return self.begin_join(key, ticket, name, recover);
            }
            None => ClientError::LimitExceeded,
        };
        self.server_subscribe.requests.entry(ticket).or_default().error = Some(error);
        true
    }

    fn begin_join(
        &mut self,
        key: ConnectionKey,
        ticket: Ticket,
        name: &ChannelName,
        recover: Option<Since>,
    ) -> bool {
        // Another node may have been asked, which has other namespaces.
        let Ok(namespace) = self.options.namespaces().resolve(name.as_str()) else { return false };
        let recover = recover.filter(|_| namespace.has_history());
        self.server_subscribe.insert(self.connection_id(key), name, Pending::Join(ticket));
        self.server_subscribe.requests.entry(ticket).or_default().waiting += 1;
        self.request_subscription(key, name, recover.map_or(Start::Live, Start::After));
        true
    }

    /// Ends a connection's subscription to `channel`, or to all; and those that are about to begin,
    /// which must not come after this. Returns whether there were any.
    pub fn unsubscribe_by_api(
        &mut self,
        key: ConnectionKey,
        channel: Option<&ChannelName>,
    ) -> bool {
        let mut affected = self.server_subscribe.cancel(self.connection_id(key), channel);
        let place = match channel {
            None => None,
            Some(name) => match self.delivery.find(name.as_str()) {
                None => return false,
                place => place,
            },
        };
        // It may be closed for one of them.
        while self.is_connected(key) {
            let connection = self.slots.connection(key);
            let index = match place {
                Some(place) => connection.find_subscription(place),
                None => connection.subscriptions_count().checked_sub(1),
            };
            let Some(index) = index else { break };
            match self.delivery.collect_of_leaving(&mut self.slots, key.slot, index) {
                Pace::KeepsUp => {
                    self.end_subscription(key.slot, index, UnsubscribeReason::Server);
                }
                Pace::TooSlow(reason) => self.close(key, reason),
            }
            affected = true;
        }
        affected
    }

    /// All connections have been looked at, `affected` of them concerned.
    pub fn end_walk_of_joins(&mut self, ticket: Ticket, affected: usize) {
        self.server_subscribe.requests.entry(ticket).or_default().affected = Some(affected);
        self.server_subscribe.answer(ticket, &mut self.post);
    }

    /// The home shard's answer to what no client asked for.
    pub(super) fn on_pending_answer(
        &mut self,
        key: ConnectionKey,
        place: u32,
        pending: Pending,
        answer: Result<Subscribed, ClientError>,
    ) {
        match (pending, answer) {
            (Pending::Missed(last), answer) => {
                let recovered = answer.ok().and_then(|answer| answer.recovered);
                self.on_missed(key, place, last, recovered);
            }
            (Pending::Join(ticket), Ok(answer)) => {
                self.on_joined(key, place, &answer);
                self.server_subscribe.end(ticket, None, &mut self.post);
            }
            (Pending::Join(ticket), Err(error)) => {
                self.leave_if_unused(place);
                self.server_subscribe.end(ticket, Some(error), &mut self.post);
            }
            (Pending::Cancelled(ticket), _) => {
                self.leave_if_unused(place);
                self.server_subscribe.end(ticket, None, &mut self.post);
            }
        }
    }

    /// The home shard's answer: the subscription begins here and now.
    fn on_joined(&mut self, key: ConnectionKey, place: u32, answer: &Subscribed) {
        let channels_max = self.options.client().channels_max;
        let fits = self.slots.get(key).is_some_and(|connection| {
            connection.state == State::Connected
                && connection.find_subscription(place).is_none()
                && connection.subscriptions_count() < channels_max
        });
        if !fits {
            return self.leave_if_unused(place);
        }
        let connection = self.slots.connection(key);
        let local = self.delivery.local(place);
        let grant = connection.permissions.grant(&local.namespace, Wish::Server);
        let publications = answer.recovered.as_deref().unwrap_or_default();
        let mut position = answer.top;
        position.offset -= publications.len() as u64;
        let push = Push::Subscribed(protocol::Subscribed {
            channel: local.view(),
            recoverable: grant.recoverable,
            positioned: grant.positioned,
            was_recovering: false,
            recovered: false,
            publications,
            position,
        });
        let mut frames = Vec::new();
        let encoded = connection.wire.encode_push(&push, &mut frames);
        let terms = Terms { positioned: grant.positioned, made_by: Maker::Application };
        self.add_subscription(key, place, terms);
        match encoded {
            Ok(()) => self.send_event(key, &frames),
            Err(reason) => self.close(key, reason),
        }
    }

    /// Asks the home shard of a channel for a subscription that begins with what was missed, or
    /// with so many of the newest publications.
    pub(super) fn request_subscription(
        &mut self,
        key: ConnectionKey,
        channel: &ChannelName,
        start: Start,
    ) {
        let Ok(namespace) = self.options.namespaces().resolve(channel.as_str()) else {
            unreachable!("the name was checked when it was asked for")
        };
        let home = self.home_map.home(channel.as_str());
        let subnet = self.slots.subnet(key.slot);
        if self.delivery.expect_answer(channel, namespace, home, subnet) == Entered::New {
            self.subnets.add_channel(subnet);
        }
        self.delivery.count_replied(SUBSCRIBING_REPLY_BYTES);
        let connection = self.connection_id(key);
        let channel = channel.clone();
        let (confirmed, unserved) = (false, self.slots.connection(key).unserved());
        let (recover, last) = match start {
            Start::Live => (None, 0),
            Start::After(since) => (Some(since), 0),
            Start::Newest(count) => (None, count),
        };
        let subscribe = Subscribe { channel, connection, recover, last, confirmed, unserved };
        self.post.to_shard(home, ToHome::Subscribe(Box::new(subscribe)));
    }
}
