//! Subscriptions that the application makes for its clients. The client has asked for nothing, so
//! what it is told is a push, and whoever waits is the control thread.

use std::collections::HashMap;

use super::{Shard, Sockets, Token};
use crate::channel::ChannelName;
use crate::connection::{State, Waiting};
use crate::ids::{ConnectionId, Since};
use crate::mesh::{Answer, Asker, Message, Subscribe, Subscribed, Ticket};
use crate::protocol::{self, Protocol, Push};
use crate::reason::ClientError;

/// Subscriptions that wait for their home shard's answer.
#[derive(Default)]
pub(super) struct Joining {
    /// Which request each belongs to. A connection waits at most once for each channel.
    pending: HashMap<(ConnectionId, ChannelName), Ticket, foldhash::quality::RandomState>,
    requests: HashMap<Ticket, Joined, foldhash::quality::RandomState>,
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
    /// Whether a connection is about to be subscribed to `channel`.
    pub(super) fn is_pending(&self, connection: ConnectionId, channel: &str) -> bool {
        !self.pending.is_empty()
            && self.pending.contains_key(&(connection, ChannelName::new(channel)))
    }

    /// The request that an answer of a home shard belongs to; absent if a client made it.
    pub(super) fn take(
        &mut self,
        connection: ConnectionId,
        channel: &ChannelName,
    ) -> Option<Ticket> {
        if self.pending.is_empty() {
            return None;
        }
        self.pending.remove(&(connection, channel.clone()))
    }
}

impl<S: Sockets> Shard<S> {
    /// Asks for the subscription of one connection; answers whether it was concerned.
    pub(super) fn join(
        &mut self,
        token: Token,
        ticket: Ticket,
        (name, recover): (&ChannelName, Option<Since>),
    ) -> bool {
        let id = self.connection_id(token);
        let subscribed = self.is_subscribed(token, name.as_str());
        let Some(connection) = self.slots.get(token) else { return false };
        if !matches!(connection.protocol, Protocol::Centrifugo | Protocol::Envelope) {
            return false; // A message of the others does not say which channel it is from.
        }
        let waiting = connection.extra.as_ref().and_then(|extra| extra.waiting.as_deref());
        let asked = matches!(waiting, Some(Waiting::Subscribe(own)) if own.channel == *name);
        if subscribed || asked || self.joining.is_pending(id, name.as_str()) {
            return true;
        }
        if connection.subscriptions_count() >= self.options.channels_max {
            let joined = self.joining.requests.entry(ticket).or_default();
            joined.error = Some(ClientError::LimitExceeded);
            return true;
        }
        let Ok(namespace) = self.options.namespaces.resolve(name.as_str()) else { return false };
        let recover = recover.filter(|_| namespace.has_history());
        self.joining.pending.insert((id, name.clone()), ticket);
        self.joining.requests.entry(ticket).or_default().waiting += 1;
        self.request_subscription(token, name, (recover, 0));
        true
    }

    /// All connections have been looked at, `affected` of them concerned.
    pub(super) fn end_walk_of_joins(&mut self, ticket: Ticket, affected: usize) {
        self.joining.requests.entry(ticket).or_default().affected = Some(affected);
        self.answer_joins(ticket);
    }

    /// A subscription has begun, or will not.
    pub(super) fn end_join(&mut self, ticket: Ticket, error: Option<ClientError>) {
        if let Some(joined) = self.joining.requests.get_mut(&ticket) {
            joined.waiting -= 1;
            joined.error = joined.error.or(error);
        }
        self.answer_joins(ticket);
    }

    fn answer_joins(&mut self, ticket: Ticket) {
        let joined = self.joining.requests.get(&ticket);
        if let Some(Joined { waiting: 0, error, affected: Some(affected) }) = joined {
            let answer = error.map_or(Answer::Affected(*affected), Answer::Error);
            self.joining.requests.remove(&ticket);
            self.answer(Asker::Control(ticket), answer);
        }
    }

    /// The home shard's answer: the subscription begins here and now.
    pub(super) fn on_joined(&mut self, token: Token, place: u32, answer: &Subscribed) {
        let channels_max = self.options.channels_max;
        let fits = self.slots.get(token).is_some_and(|connection| {
            connection.state == State::Connected
                && connection.find_subscription(place).is_none()
                && connection.subscriptions_count() < channels_max
        });
        if !fits {
            return self.leave_if_unused(place);
        }
        let insecure = self.options.insecure;
        let Some(local) = self.locals.at(place) else { return };
        let namespace = &local.namespace;
        let has_history = namespace.has_history();
        let recoverable =
            has_history && (insecure || namespace.allow_recovery || namespace.force_recovery);
        let positioned = recoverable
            || has_history && (namespace.allow_positioning || namespace.force_positioning);
        let publications = answer.recovered.as_deref().unwrap_or_default();
        let mut position = answer.top;
        position.offset -= publications.len() as u64;
        let push = Push::Subscribed(protocol::Subscribed {
            channel: local.view(),
            recoverable,
            positioned,
            was_recovering: false,
            recovered: false,
            publications,
            position,
        });
        let Some(connection) = self.slots.get(token) else { return };
        let mut frames = Vec::new();
        let encoded = connection.protocol.codec().encode_push(&push, &mut frames);
        self.add_subscription(token, place, (positioned, true));
        match encoded {
            Ok(()) => self.send_event(token, &frames),
            Err(reason) => self.close(token, reason),
        }
    }

    /// Asks the home shard of a channel for a subscription that begins with what was missed, or
    /// with so many of the newest publications.
    pub(super) fn request_subscription(
        &mut self,
        token: Token,
        channel: &ChannelName,
        (recover, last): (Option<Since>, usize),
    ) {
        let Ok(namespace) = self.options.namespaces.resolve(channel.as_str()) else { return };
        let home = self.home_map.home(channel.as_str());
        let is_new = self.locals.find(channel.as_str()).is_none();
        let place = self.locals.enter(channel, namespace, home);
        if let Some(local) = self.locals.at(place) {
            local.waiting += 1;
            if is_new {
                local.brought_by = self.slots.subnet(token.slot);
                self.subnets.add_channel(local.brought_by);
            }
        }
        self.cells.channels_local.set(self.locals.count() as u64);
        let connection = self.connection_id(token);
        let channel = channel.clone();
        let (confirmed, unserved) = (false, self.unserved(token));
        let subscribe = Subscribe { channel, connection, recover, last, confirmed, unserved };
        self.send_to_shard(home, Message::Subscribe(Box::new(subscribe)));
    }
}
