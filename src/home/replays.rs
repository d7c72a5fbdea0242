//! What a home hands out from its histories: a bounded number of bytes in a turn. A request for
//! many publications costs its sender little, so those beyond the bound wait, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Request;
use crate::channel::Publication;
use crate::limits::TURN_REPLAY_BYTES_MAX;

/// Requests that wait for the next turn: those of the application, and of each client at most one,
/// or as many as the path of plain WebSocket has channels.
#[derive(Default)]
pub(super) struct Replays {
    /// Bytes that this turn has handed out.
    bytes: usize,
    waiting: VecDeque<Request>,
}

impl Replays {
    /// Begins a turn: nothing has been handed out in it.
    pub(super) fn begin_turn(&mut self) {
        self.bytes = 0;
    }

    /// Whether this turn has handed out all that it may.
    pub(super) fn is_spent(&self) -> bool {
        self.bytes >= TURN_REPLAY_BYTES_MAX && !crate::sabotage!(UnboundReplies)
    }

    /// Keeps a request for the next turn.
    pub(super) fn put_off(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    /// The request that has waited longest.
    pub(super) fn next(&mut self) -> Option<Request> {
        self.waiting.pop_front()
    }

    /// Notes publications that were handed out.
    pub(super) fn count(&mut self, publications: &[Arc<Publication>]) {
        self.bytes +=
            publications.iter().map(|publication| publication.cost_bytes()).sum::<usize>();
    }

    /// Whether requests wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}
