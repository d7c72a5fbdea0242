//! What a home shard hands out from its histories: a bounded number of bytes in a turn. A request
//! for much costs its sender little, so what comes beyond it waits for the next turn, in order.

use std::collections::VecDeque;

use super::{Shard, Sockets};
use crate::channel::Publication;
use crate::limits::TURN_REPLAY_BYTES_MAX;
use crate::mesh::Message;
use std::sync::Arc;

/// Requests that wait for the next turn: those of the application, and of each client at most one,
/// or as many as the path of plain WebSocket has channels.
#[derive(Default)]
pub(super) struct Replays {
    /// Bytes that this turn has handed out.
    bytes: usize,
    waiting: VecDeque<Message>,
}

impl Replays {
    /// Whether this turn has handed out all that it may.
    pub(super) fn is_spent(&self) -> bool {
        self.bytes >= TURN_REPLAY_BYTES_MAX && !crate::sabotage!(UnboundReplies)
    }

    /// Keeps a request for the next turn.
    pub(super) fn put_off(&mut self, request: Message) {
        self.waiting.push_back(request);
    }

    /// Notes what was handed out.
    pub(super) fn count(&mut self, publications: &[Arc<Publication>]) {
        self.bytes +=
            publications.iter().map(|publication| publication.cost_bytes()).sum::<usize>();
    }

    /// Whether requests wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl<S: Sockets> Shard<S> {
    /// Begins a turn: those who wait come before whoever asks now.
    pub(super) fn turn_replays(&mut self) {
        self.replays.bytes = 0;
        while !self.replays.is_spent() {
            let Some(request) = self.replays.waiting.pop_front() else { return };
            self.on_message(request);
        }
    }
}
