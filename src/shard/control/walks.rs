//! Requests for many channels or connections are walks. A walk takes a bounded number of steps in
//! each turn, so that no client has to wait for it.

use std::collections::BinaryHeap;

use crate::channel::ChannelName;
use crate::ids::{ConnectionId, LocalId, Slot};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::WALK_STEPS_MAX;
use crate::mesh::{Answer, ControlRequest, Target, Ticket};
use crate::reason::CloseReason;
use crate::shard::session::{Farewell, ServerSubscribe, Sessions};

/// A request in progress.
pub(super) struct Walk {
    ticket: Ticket,
    request: ControlRequest,
    /// Index of the next channel or slot to visit.
    at: usize,
    affected: usize,
    /// The smallest matching names so far. The largest of them is on top of the heap.
    names: BinaryHeap<(ChannelName, u32)>,
}

impl Walk {
    /// Creates a walk that has not begun.
    pub(super) fn new(ticket: Ticket, request: ControlRequest) -> Walk {
        Walk { ticket, request, at: 0, affected: 0, names: BinaryHeap::new() }
    }

    /// Carries out the request for one connection only.
    pub(super) fn over_one<S: Sockets>(mut self, sessions: &mut Sessions<S>, key: ConnectionKey) {
        self.visit(sessions, key);
        self.end(sessions);
    }

    /// Takes a bounded number of steps. Returns the walk unless it is finished.
    pub(super) fn step<S: Sockets>(mut self, sessions: &mut Sessions<S>) -> Option<Walk> {
        let channels = matches!(self.request, ControlRequest::Channels { .. });
        let reached =
            if channels { sessions.delivery().places_reached() } else { sessions.slots_reached() };
        let until = reached.min(self.at + self.steps_max());
        for at in self.at..until {
            if channels {
                self.visit_channel(sessions, LocalId::new(at));
            } else if let Some(key) = sessions.key(Slot::new(at)) {
                self.visit(sessions, key);
            }
        }
        self.at = until;
        if until < reached {
            return Some(self);
        }
        self.end(sessions);
        None
    }

    /// Number of channels or connections to visit in one turn.
    fn steps_max(&self) -> usize {
        match &self.request {
            ControlRequest::Channels { pattern, .. } => (WALK_STEPS_MAX / pattern.cost()).max(1),
            _ => WALK_STEPS_MAX,
        }
    }

    /// Sends the answer. Requests for subscriptions are answered when all of these have begun.
    fn end<S: Sockets>(self, sessions: &mut Sessions<S>) {
        let answer = match self.request {
            ControlRequest::Subscribe { .. } => {
                return sessions.end_walk_of_subscribes(self.ticket, self.affected);
            }
            ControlRequest::Channels { .. } => Answer::Channels(self.names.into_sorted_vec()),
            _ => Answer::Affected(self.affected),
        };
        sessions.post().answer(self.ticket, answer);
    }

    fn visit_channel<S: Sockets>(&mut self, sessions: &mut Sessions<S>, place: LocalId) {
        let ControlRequest::Channels { pattern, after, limit } = &self.request else {
            unreachable!("no other request visits channels")
        };
        // Places of channels that have ended may be vacant.
        let Some(local) = sessions.delivery().local_at(place) else { return };
        let name = local.name.as_str();
        let count = local.subscribers.as_slice().len() as u32;
        let too_late = self.names.len() >= *limit
            && self.names.peek().is_none_or(|(last, _)| name >= last.as_str());
        if count == 0 || too_late || name <= &**after || !pattern.matches(name) {
            return;
        }
        // Only one page of names is kept, so a walk over a million channels needs little memory.
        self.names.push((local.name.clone(), count));
        if self.names.len() > *limit {
            self.names.pop();
        }
    }

    fn visit<S: Sockets>(&mut self, sessions: &mut Sessions<S>, key: ConnectionKey) {
        let connection = sessions.connection_id(key);
        // The connection may have ended since the request was sent.
        if sessions.is_connected(key) {
            self.affected += usize::from(self.apply(sessions, key, connection));
        }
    }

    /// Applies the request to one connection. Returns true if the connection was affected.
    fn apply<S: Sockets>(
        &self,
        sessions: &mut Sessions<S>,
        key: ConnectionKey,
        connection: ConnectionId,
    ) -> bool {
        match &self.request {
            ControlRequest::Disconnect { target, whitelist, code, text } => {
                let spared = whitelist.contains(&connection);
                if spared || !matches(target, connection) {
                    return false;
                }
                // Metrics count by reason, so a code of the application's own counts as `Custom`.
                let known = CloseReason::ALL.iter().find(|known| known.details().code == *code);
                let reason = known.copied().unwrap_or(CloseReason::Custom);
                sessions.close_with(key, reason, Farewell { code: *code, text });
                true
            }
            ControlRequest::Unsubscribe { target, channel } => {
                matches(target, connection) && sessions.unsubscribe_by_api(key, channel.as_ref())
            }
            ControlRequest::Subscribe { target, channel, recover } => {
                let request = ServerSubscribe { ticket: self.ticket, channel, recover: *recover };
                matches(target, connection) && sessions.server_subscribe(key, &request)
            }
            ControlRequest::Channels { .. } | ControlRequest::Drain { .. } => {
                unreachable!("these requests do not visit connections")
            }
        }
    }
}

/// Whether a request applies to a connection. All connections are anonymous, so their user is "".
fn matches(target: &Target, connection: ConnectionId) -> bool {
    target.user.is_empty() && target.connection.is_none_or(|meant| meant == connection)
}
