//! Pending subscriptions that no client requested. Some are server-side subscriptions, which the
//! application makes, and control waits for the result. Others have missed publications.

use std::collections::HashMap;

use crate::channel::ChannelName;
use crate::ids::{ConnectionId, Position};
use crate::mesh::{Answer, Post, Ticket};
use crate::reason::ClientError;

/// Pending subscriptions that no client requested.
#[derive(Default)]
pub struct PendingSubscriptions {
    /// The pending subscriptions of each connection, at most one for each channel.
    pending: HashMap<ConnectionId, Vec<(ChannelName, Purpose)>>,
    requests: HashMap<Ticket, Progress>,
}

/// The purpose of an answer from a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server-side subscription that the application requested.
    ServerSubscribe(Ticket),
    /// A request of the application that it has cancelled before the subscription began.
    Cancelled(Ticket),
    /// The publications after this position, which a subscription has missed.
    Missed(Position),
}

/// The progress of a request of the application.
#[derive(Default)]
struct Progress {
    waiting: usize,
    /// Why one of the subscriptions failed.
    error: Option<ClientError>,
    /// Number of affected connections. `None` while the walk over connections is in progress.
    affected: Option<usize>,
}

impl PendingSubscriptions {
    /// The pending subscription of a connection to `channel`.
    pub fn find(&self, connection: ConnectionId, channel: &str) -> Option<Purpose> {
        let pending = self.pending.get(&connection)?;
        pending.iter().find(|(name, _)| name.as_str() == channel).map(|(_, pending)| *pending)
    }

    /// Records that a connection waits for the home of a channel. The connection must not have a
    /// pending subscription to that channel.
    pub fn insert(&mut self, connection: ConnectionId, channel: &ChannelName, pending: Purpose) {
        assert!(
            self.find(connection, channel.as_str()).is_none(),
            "a connection has one pending subscription to a channel at most"
        );
        self.pending.entry(connection).or_default().push((channel.clone(), pending));
    }

    /// Takes the purpose of a home's answer. `None` if a client asked for it.
    pub fn take(&mut self, connection: ConnectionId, channel: &ChannelName) -> Option<Purpose> {
        let pending = self.pending.get_mut(&connection)?;
        let at = pending.iter().position(|(name, _)| name == channel)?;
        let (_, taken) = pending.swap_remove(at);
        if pending.is_empty() {
            self.pending.remove(&connection);
        }
        Some(taken)
    }

    /// Cancels the pending subscriptions of a connection to `channel`, or to all channels. Returns
    /// true if there were any.
    pub fn cancel(&mut self, connection: ConnectionId, channel: Option<&ChannelName>) -> bool {
        let mut cancelled = false;
        for (name, pending) in self.pending.get_mut(&connection).into_iter().flatten() {
            if let Purpose::ServerSubscribe(ticket) = *pending
                && channel.is_none_or(|channel| channel == name)
            {
                // The entry stays, because the answer will still arrive and must not count for a
                // later request.
                (*pending, cancelled) = (Purpose::Cancelled(ticket), true);
            }
        }
        cancelled
    }

    /// Records that a connection waits for a subscription of the request `ticket`.
    pub fn insert_requested(
        &mut self,
        connection: ConnectionId,
        channel: &ChannelName,
        ticket: Ticket,
    ) {
        self.insert(connection, channel, Purpose::ServerSubscribe(ticket));
        self.requests.entry(ticket).or_default().waiting += 1;
    }

    /// Records why the request `ticket` fails for one of its connections.
    pub fn fail(&mut self, ticket: Ticket, error: ClientError) {
        self.requests.entry(ticket).or_default().error = Some(error);
    }

    /// Records that the request `ticket` has visited all connections, and that `affected` of them
    /// are affected.
    pub fn end_walk(&mut self, ticket: Ticket, affected: usize, post: &mut Post) {
        self.requests.entry(ticket).or_default().affected = Some(affected);
        self.answer(ticket, post);
    }

    /// Records that a subscription of the request `ticket` has begun, or will not begin.
    pub fn end(&mut self, ticket: Ticket, error: Option<ClientError>, post: &mut Post) {
        let Some(progress) = self.requests.get_mut(&ticket).filter(|progress| progress.waiting > 0)
        else {
            unreachable!("a request is kept until all of its subscriptions have ended")
        };
        progress.waiting -= 1;
        progress.error = progress.error.or(error);
        self.answer(ticket, post);
    }

    /// Answers a request when nothing of it is pending.
    fn answer(&mut self, ticket: Ticket, post: &mut Post) {
        let progress = self.requests.get(&ticket);
        if let Some(Progress { waiting: 0, error, affected: Some(affected) }) = progress {
            let answer = error.map_or(Answer::Affected(*affected), Answer::Error);
            self.requests.remove(&ticket);
            post.answer(ticket, answer);
        }
    }
}
