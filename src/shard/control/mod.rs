//! Requests from the control thread to a shard, and the shard's checks of itself.

mod audit;
mod drain;
mod walks;

use std::collections::VecDeque;

use super::session::Sessions;
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::WALKS_MAX;
use crate::mesh::{Answer, ControlRequest, Ticket};
use crate::reason::ClientError;
use audit::Audit;
use drain::Drain;
use walks::Walk;

/// Requests in progress, and the position of the audit.
#[derive(Default)]
pub struct Control {
    walks: VecDeque<Walk>,
    drain: Option<Drain>,
    audit: Audit,
}

impl Control {
    /// Begins a request. A request for a single connection is finished immediately.
    pub fn on_request<S: Sockets>(
        &mut self,
        sessions: &mut Sessions<S>,
        ticket: Ticket,
        request: ControlRequest,
    ) {
        let single = match &request {
            ControlRequest::Drain { over, last_end } => {
                self.drain = Some(Drain::begin(sessions, ticket, *over, *last_end));
                return;
            }
            ControlRequest::Channels { .. } => None,
            ControlRequest::Disconnect { target, .. }
            | ControlRequest::Unsubscribe { target, .. }
            | ControlRequest::Subscribe { target, .. } => target.connection,
        };
        let walk = Walk::new(ticket, request);
        if let Some(connection) = single {
            // One visit costs less than a place in the queue, and does not wait for other walks.
            walk.over_one(sessions, ConnectionKey::of(connection));
        } else if self.walks.len() < WALKS_MAX {
            self.walks.push_back(walk);
        } else {
            let error = Answer::Error(ClientError::TooManyRequests);
            sessions.post().answer(ticket, error);
        }
    }

    /// Continues the oldest walk.
    pub fn turn<S: Sockets>(&mut self, sessions: &mut Sessions<S>) {
        let Some(walk) = self.walks.pop_front() else { return };
        if let Some(unfinished) = walk.step(sessions) {
            // Walks run one after another, so that each request is answered as early as possible.
            self.walks.push_front(unfinished);
        }
    }

    /// Does the periodic work: a step of the drain and a slice of the audit.
    pub fn on_tick<S: Sockets>(&mut self, sessions: &mut Sessions<S>) {
        if let Some(drain) = self.drain.take() {
            self.drain = drain.step(sessions);
        }
        self.audit.step(sessions);
    }

    /// Whether there is more work to do immediately.
    pub fn has_more(&self) -> bool {
        !self.walks.is_empty()
    }
}
