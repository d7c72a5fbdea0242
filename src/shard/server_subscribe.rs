//! Subscriptions that the application makes for its clients. The client has asked for nothing, so
//! what it is told is a push, and whoever waits is the control thread.

use std::collections::HashMap;

use super::Shard;
use crate::channel::ChannelName;
use crate::connection::{PendingRequest, State};
use crate::ids::{ConnectionId, Position, Since};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::SUBSCRIBING_REPLY_BYTES;
use crate::mesh::{Answer, Asker, Subscribe, Subscribed, Ticket, ToHome};
use crate::protocol::{self, Codec, Push};
use crate::reason::ClientError;

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
}

impl<S: Sockets> Shard<S> {
    /// Asks for the subscription of one connection; answers whether it was concerned.
    pub(super) fn join(
        &mut self,
        key: ConnectionKey,
        ticket: Ticket,
        (name, recover): (&ChannelName, Option<Since>),
    ) -> bool {
        let id = self.connection_id(key);
        let subscribed = self.is_subscribed(key, name.as_str());
        let Some(connection) = self.slots.get(key) else { return false };
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
                return self.begin_join(key, ticket, (name, recover));
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
        (name, recover): (&ChannelName, Option<Since>),
    ) -> bool {
        let Ok(namespace) = self.options.namespaces().resolve(name.as_str()) else { return false };
        let recover = recover.filter(|_| namespace.has_history());
        self.server_subscribe.insert(self.connection_id(key), name, Pending::Join(ticket));
        self.server_subscribe.requests.entry(ticket).or_default().waiting += 1;
        self.request_subscription(key, name, (recover, 0));
        true
    }

    /// All connections have been looked at, `affected` of them concerned.
    pub(super) fn end_walk_of_joins(&mut self, ticket: Ticket, affected: usize) {
        self.server_subscribe.requests.entry(ticket).or_default().affected = Some(affected);
        self.answer_joins(ticket);
    }

    /// A subscription has begun, or will not.
    pub(super) fn end_join(&mut self, ticket: Ticket, error: Option<ClientError>) {
        if let Some(joined) = self.server_subscribe.requests.get_mut(&ticket) {
            joined.waiting -= 1;
            joined.error = joined.error.or(error);
        }
        self.answer_joins(ticket);
    }

    fn answer_joins(&mut self, ticket: Ticket) {
        let joined = self.server_subscribe.requests.get(&ticket);
        if let Some(Joined { waiting: 0, error, affected: Some(affected) }) = joined {
            let answer = error.map_or(Answer::Affected(*affected), Answer::Error);
            self.server_subscribe.requests.remove(&ticket);
            self.post.answer(Asker::Control(ticket), answer);
        }
    }

    /// The home shard's answer to what no client asked for.
    pub(super) fn on_pending_answer(
        &mut self,
        key: ConnectionKey,
        place: u32,
        (pending, answer): (Pending, Result<Subscribed, ClientError>),
    ) {
        match (pending, answer) {
            (Pending::Missed(last), answer) => {
                let recovered = answer.ok().and_then(|answer| answer.recovered);
                self.on_missed(key, place, (last, recovered));
            }
            (Pending::Join(ticket), Ok(answer)) => {
                self.on_joined(key, place, &answer);
                self.end_join(ticket, None);
            }
            (Pending::Join(ticket), Err(error)) => {
                self.leave_if_unused(place);
                self.end_join(ticket, Some(error));
            }
            (Pending::Cancelled(ticket), _) => {
                self.leave_if_unused(place);
                self.end_join(ticket, None);
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
        let insecure = self.options.auth().insecure;
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
        let Some(connection) = self.slots.get(key) else { return };
        let mut frames = Vec::new();
        let encoded = connection.wire.encode_push(&push, &mut frames);
        self.add_subscription(key, place, (positioned, true));
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
        (recover, last): (Option<Since>, usize),
    ) {
        let Ok(namespace) = self.options.namespaces().resolve(channel.as_str()) else { return };
        let home = self.home_map.home(channel.as_str());
        let is_new = self.locals.find(channel.as_str()).is_none();
        let place = self.locals.enter(channel, namespace, home);
        if let Some(local) = self.locals.at(place) {
            local.waiting += 1;
            if is_new {
                local.brought_by = self.slots.subnet(key.slot);
                self.subnets.add_channel(local.brought_by);
            }
        }
        self.replied_bytes += SUBSCRIBING_REPLY_BYTES;
        self.counters.channels_local.set(self.locals.count() as u64);
        let connection = self.connection_id(key);
        let channel = channel.clone();
        let (confirmed, unserved) = (false, self.unserved(key));
        let subscribe = Subscribe { channel, connection, recover, last, confirmed, unserved };
        self.post.to_shard(home, ToHome::Subscribe(Box::new(subscribe)));
    }
}
