//! Subscriptions that wait for the answer of their home, and that no client asked for: those that
//! the application makes, for which the control thread waits, and those that have missed something.

use std::collections::HashMap;

use crate::channel::ChannelName;
use crate::ids::{ConnectionId, Position};
use crate::mesh::{Answer, Post, Ticket};
use crate::reason::ClientError;

/// Subscriptions that wait for their home shard's answer and that no client asked for.
#[derive(Default)]
pub struct Joining {
    /// What each waits for. A connection waits at most once for each channel.
    pending: HashMap<ConnectionId, Vec<(ChannelName, Pending)>>,
    requests: HashMap<Ticket, Joined>,
}

/// What the answer of a home shard is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
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
    pub fn find(&self, connection: ConnectionId, channel: &str) -> Option<Pending> {
        let pending = self.pending.get(&connection)?;
        pending.iter().find(|(name, _)| name.as_str() == channel).map(|(_, pending)| *pending)
    }

    /// Notes that a connection waits for the answer of a channel's home. It waits for nothing else
    /// there.
    pub fn insert(&mut self, connection: ConnectionId, channel: &ChannelName, pending: Pending) {
        self.pending.entry(connection).or_default().push((channel.clone(), pending));
    }

    /// What an answer of a home shard is for; absent if a client asked for it.
    pub fn take(&mut self, connection: ConnectionId, channel: &ChannelName) -> Option<Pending> {
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
    pub fn cancel(&mut self, connection: ConnectionId, channel: Option<&ChannelName>) -> bool {
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

    /// Notes that a connection waits for a subscription that the request `ticket` asked for.
    pub fn join(&mut self, connection: ConnectionId, channel: &ChannelName, ticket: Ticket) {
        self.insert(connection, channel, Pending::Join(ticket));
        self.requests.entry(ticket).or_default().waiting += 1;
    }

    /// Notes why the request `ticket` can't be carried out for one of its connections.
    pub fn fail(&mut self, ticket: Ticket, error: ClientError) {
        self.requests.entry(ticket).or_default().error = Some(error);
    }

    /// Notes that all connections have been looked at for the request `ticket`, `affected` of them
    /// concerned.
    pub fn end_walk(&mut self, ticket: Ticket, affected: usize, post: &mut Post) {
        self.requests.entry(ticket).or_default().affected = Some(affected);
        self.answer(ticket, post);
    }

    /// A subscription has begun, or will not.
    pub fn end(&mut self, ticket: Ticket, error: Option<ClientError>, post: &mut Post) {
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
            post.answer(ticket, answer);
        }
    }
}
