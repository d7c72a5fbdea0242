//! What the control thread asks of a shard. Requests that concern many channels or connections
//! are walks: a bounded number of steps a turn, so that nobody waits for them.

use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::channel::ChannelName;
use crate::connection::State;
use crate::ids::{ConnectionId, Moment, Slot};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::{WALK_STEPS_MAX, WALKS_MAX};
use crate::mesh::{Answer, Asker, ControlRequest, Target, Ticket};
use crate::reason::{ClientError, CloseReason, UnsubscribeReason};
use crate::shard::Shard;

/// Walks and drains that are under way.
#[derive(Default)]
pub(in crate::shard) struct Requests {
    walks: VecDeque<Walk>,
    drain: Option<Drain>,
}

struct Walk {
    ticket: Ticket,
    request: ControlRequest,
    /// The next channel or slot to look at.
    at: usize,
    affected: usize,
    /// The smallest names so far, the largest of them first.
    names: BinaryHeap<(ChannelName, u32)>,
}

struct Drain {
    ticket: Ticket,
    began: Moment,
    over: Duration,
    /// Connections when it began.
    connections: usize,
    closed: usize,
    at: usize,
}

impl<S: Sockets> Shard<S> {
    pub(in crate::shard) fn on_control(&mut self, ticket: Ticket, request: ControlRequest) {
        let single = match &request {
            ControlRequest::Drain { over, last_end } => {
                return self.begin_drain(ticket, (*over, *last_end));
            }
            ControlRequest::Channels { .. } => None,
            ControlRequest::Disconnect { target, .. }
            | ControlRequest::Unsubscribe { target, .. }
            | ControlRequest::Subscribe { target, .. } => target.connection,
        };
        if let Some(connection) = single {
            let affected = self.apply(ticket, &request, Self::key_of(connection));
            if matches!(request, ControlRequest::Subscribe { .. }) {
                return self.end_walk_of_joins(ticket, usize::from(affected));
            }
            return self
                .post
                .answer(Asker::Control(ticket), Answer::Affected(usize::from(affected)));
        }
        if self.requests.walks.len() >= WALKS_MAX {
            let error = Answer::Error(ClientError::TooManyRequests);
            return self.post.answer(Asker::Control(ticket), error);
        }
        let walk = Walk { ticket, request, at: 0, affected: 0, names: BinaryHeap::new() };
        self.requests.walks.push_back(walk);
    }

    pub(in crate::shard) fn has_walks(&self) -> bool {
        !self.requests.walks.is_empty()
    }

    /// Goes on with the oldest walk.
    pub(in crate::shard) fn turn_walks(&mut self) {
        let Some(mut walk) = self.requests.walks.pop_front() else { return };
        let channels = matches!(walk.request, ControlRequest::Channels { .. });
        let end = if channels { self.locals.reached() } else { self.slots.reached() };
        let until = end.min(walk.at + WALK_STEPS_MAX);
        for at in walk.at..until {
            if channels {
                self.walk_channel(&mut walk, at as u32);
            } else if let Some(key) = self.slots.key(Slot::new(at)) {
                walk.affected += usize::from(self.apply(walk.ticket, &walk.request, key));
            }
        }
        walk.at = until;
        if until < end {
            return self.requests.walks.push_front(walk);
        }
        if matches!(walk.request, ControlRequest::Subscribe { .. }) {
            return self.end_walk_of_joins(walk.ticket, walk.affected);
        }
        let answer = if channels {
            Answer::Channels(walk.names.into_sorted_vec())
        } else {
            Answer::Affected(walk.affected)
        };
        self.post.answer(Asker::Control(walk.ticket), answer);
    }

    fn walk_channel(&mut self, walk: &mut Walk, place: u32) {
        let ControlRequest::Channels { pattern, after, limit } = &walk.request else { return };
        let Some(local) = self.locals.at(place) else { return };
        let name = local.name.as_str();
        let count = local.subscribers.as_slice().len() as u32;
        let too_late = walk.names.len() >= *limit
            && walk.names.peek().is_none_or(|(last, _)| name >= last.as_str());
        if count == 0 || too_late || name <= &**after || !matches_glob(pattern, name) {
            return;
        }
        walk.names.push((local.name.clone(), count));
        if walk.names.len() > *limit {
            walk.names.pop();
        }
    }

    /// Does to one connection what is asked; answers whether it was concerned.
    fn apply(&mut self, ticket: Ticket, request: &ControlRequest, key: ConnectionKey) -> bool {
        let connection = self.connection_id(key);
        let open = self.slots.get(key).is_some_and(|found| found.state == State::Connected);
        match request {
            _ if !open => false,
            ControlRequest::Disconnect { target, whitelist, code, text } => {
                let spared = whitelist.contains(&connection);
                if spared || !matches(target, connection) {
                    return false;
                }
                let known = CloseReason::ALL.iter().find(|known| known.row().code == *code);
                let reason = known.copied().unwrap_or(CloseReason::Custom);
                self.close_with(key, reason, (*code, text));
                true
            }
            ControlRequest::Unsubscribe { target, channel } => {
                matches(target, connection) && self.apply_unsubscribe(key, channel.as_ref())
            }
            ControlRequest::Subscribe { target, channel, recover } => {
                matches(target, connection) && self.join(key, ticket, (channel, *recover))
            }
            ControlRequest::Channels { .. } | ControlRequest::Drain { .. } => false,
        }
    }

    fn apply_unsubscribe(&mut self, key: ConnectionKey, channel: Option<&ChannelName>) -> bool {
        // One that is about to begin must not come after this.
        let mut affected = self.server_subscribe.cancel(self.connection_id(key), channel);
        let place = match channel {
            None => None,
            Some(name) => match self.locals.find(name.as_str()) {
                None => return false,
                place => place,
            },
        };
        loop {
            let index = self.slots.get(key).and_then(|connection| match place {
                Some(place) => connection.find_subscription(place),
                None => connection.subscriptions_count().checked_sub(1),
            });
            let open = self.slots.get(key).is_some_and(|found| found.state == State::Connected);
            let Some(index) = index.filter(|_| open) else { return affected };
            self.end_subscription(key.slot, index, UnsubscribeReason::Server);
            affected = true;
        }
    }

    fn begin_drain(&mut self, ticket: Ticket, (over, last_end): (Duration, Duration)) {
        self.draining = true;
        self.last_end = self.last_end.min(self.tick.after(last_end));
        let connections = self.slots.count();
        let (began, closed, at) = (self.now, 0, 0);
        self.requests.drain = Some(Drain { ticket, began, over, connections, closed, at });
    }

    /// Sees to it that a connection which was closing when the drain began ends with the others.
    fn hasten(&mut self, key: ConnectionKey) {
        if self.slots.get(key).is_some_and(|connection| connection.state == State::Closing) {
            self.slots.bring_forward(key.slot, self.last_end);
        }
    }

    /// Closes as many connections as are due, so that the closes are spread evenly and nobody's
    /// clients all come back in the same second.
    pub(in crate::shard) fn drain_step(&mut self) {
        let Some(mut drain) = self.requests.drain.take() else { return };
        let elapsed = self.now.since(drain.began).as_secs_f64();
        let share = (elapsed / drain.over.as_secs_f64().max(0.001)).min(1.0);
        let due = (drain.connections as f64 * share).ceil() as usize;
        while drain.closed < due.max(drain.connections * usize::from(share >= 1.0))
            && drain.at < self.slots.reached()
        {
            if let Some(key) = self.slots.key(Slot::new(drain.at)) {
                self.close(key, CloseReason::Shutdown);
                self.hasten(key);
                drain.closed += 1;
            }
            drain.at += 1;
        }
        if self.slots.count() == 0 {
            let answer = Answer::Affected(drain.closed);
            return self.post.answer(Asker::Control(drain.ticket), answer);
        }
        if drain.at >= self.slots.reached() && share >= 1.0 {
            drain.at = 0; // Those that came into passed slots meanwhile.
            drain.connections += self.slots.count();
        }
        self.requests.drain = Some(drain);
    }
}

/// Whether a request means a connection. All connections are anonymous: their user is "".
fn matches(target: &Target, connection: ConnectionId) -> bool {
    target.user.is_empty() && target.connection.is_none_or(|meant| meant == connection)
}

/// Whether `name` matches a pattern in which `*` stands for any text and `?` for one character.
/// Linear in the product of the lengths, without recursion.
fn matches_glob(pattern: &str, name: &str) -> bool {
    if pattern.is_empty() {
        return true;
    }
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut in_pattern) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                star = Some((in_pattern, at));
                in_pattern += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[at] => {
                in_pattern += 1;
                at += 1;
            }
            _ => match star {
                None => return false,
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (in_pattern, at) = (after + 1, from + 1);
                }
            },
        }
    }
    pattern[in_pattern..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("", "any", true),
            ("*", "", true),
            ("news", "news", true),
            ("news", "news:1", false),
            ("news:*", "news:1", true),
            ("*:1", "news:1:1", true),
            ("n?ws*", "news", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
        ] {
            assert_eq!(matches_glob(pattern, name), expected, "{pattern} {name}");
        }
    }
}
