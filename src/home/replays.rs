//! What a home hands out from its histories: a bounded number of bytes in a turn. A request for
//! many publications costs its sender little, so those beyond the bound wait, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Request;
use crate::channel::Publication;
use crate::limits::{REPLAYS_WAITING_MAX, TURN_REPLAY_BYTES_MAX};

/// Requests that wait for the next turn: those of the application, and of each client at most one,
/// or as many as the path of plain WebSocket has channels.
#[derive(Default)]
pub(super) struct Replays {
    /// Bytes that this turn has handed out.
    bytes: usize,
    waiting: VecDeque<Request>,
    /// Whether all that wait are for shards that have too much to do.
    resting: bool,
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

    /// Keeps a request for the next turn. Returns it if too many wait.
    pub(super) fn put_off(&mut self, request: Request) -> Option<Request> {
        if self.waiting.len() >= REPLAYS_WAITING_MAX {
            return Some(request);
        }
        self.waiting.push_back(request);
        None
    }

    /// The request that has waited longest.
    pub(super) fn next(&mut self) -> Option<Request> {
        self.waiting.pop_front()
    }

    /// Number of requests that wait.
    pub(super) fn count_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Notes whether all that wait are for shards that have too much to do. Then ticks bring turns,
    /// and whatever is sent here.
    pub(super) fn set_resting(&mut self, resting: bool) {
        self.resting = resting;
    }

    /// Notes publications that were handed out.
    pub(super) fn count(&mut self, publications: &[Arc<Publication>]) {
        self.bytes +=
            publications.iter().map(|publication| publication.cost_bytes()).sum::<usize>();
    }

    /// Whether requests wait that may be tried again at once.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() && !self.resting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelName;
    use crate::mesh::{Asker, History};
    use crate::protocol::HistoryPage;

    #[test]
    fn a_bounded_number_of_requests_waits() {
        let request = || {
            Request::History(Box::new(History {
                channel: ChannelName::new("c"),
                page: HistoryPage::newest(1),
                publications_max: 1,
                bytes_max: 1,
                confirmed: true,
                unserved: None,
                asker: Asker::Nobody,
            }))
        };
        let mut replays = Replays::default();
        assert!((0..REPLAYS_WAITING_MAX).all(|_| replays.put_off(request()).is_none()));
        assert!(replays.put_off(request()).is_some());
        assert_eq!(replays.waiting.len(), REPLAYS_WAITING_MAX);
    }
}
