//! Limits the bytes that a home returns from its histories in a turn. A request for many
//! publications costs its sender little, so requests beyond the limit wait, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use super::request::Request;
use crate::channel::Publication;
use crate::limits::{REPLAYS_WAITING_MAX, TURN_REPLAY_BYTES_MAX};

/// The requests that wait for the next turn: those of the application, and at most one of each
/// client. A plain WebSocket may have one for each channel in its URL.
#[derive(Default)]
pub(super) struct Replays {
    /// Bytes returned in this turn.
    bytes: usize,
    waiting: VecDeque<Request>,
    /// Whether all waiting requests are for shards that are too busy to receive them.
    resting: bool,
}

impl Replays {
    /// Begins a turn.
    pub(super) fn begin_turn(&mut self) {
        self.bytes = 0;
    }

    /// Whether this turn has reached its limit.
    pub(super) fn is_spent(&self) -> bool {
        self.bytes >= TURN_REPLAY_BYTES_MAX && !crate::sabotage!(UnboundReplies)
    }

    /// Keeps a request for the next turn. Returns the request if too many wait.
    pub(super) fn put_off(&mut self, request: Request) -> Option<Request> {
        if self.waiting.len() >= REPLAYS_WAITING_MAX {
            return Some(request);
        }
        self.waiting.push_back(request);
        None
    }

    /// Removes and returns the oldest waiting request.
    pub(super) fn next(&mut self) -> Option<Request> {
        self.waiting.pop_front()
    }

    /// Number of requests that wait.
    pub(super) fn count_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Records that of `tried` requests, `busy` are for shards that are too busy to receive them.
    /// If these are all, they do not require an immediate turn, and are tried again in the next
    /// turn that a tick or a message causes.
    pub(super) fn on_tried(&mut self, tried: usize, busy: usize) {
        self.resting = busy > 0 && busy == tried;
    }

    /// Counts publications that were returned.
    pub(super) fn count(&mut self, publications: &[Arc<Publication>]) {
        self.bytes +=
            publications.iter().map(|publication| publication.cost_bytes()).sum::<usize>();
    }

    /// Whether requests wait that may be tried again immediately.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() && !self.resting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelName;
    use crate::mesh::{History, Reader, Ticket};
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
                reader: Reader::Control(Ticket(0)),
            }))
        };
        let mut replays = Replays::default();
        assert!((0..REPLAYS_WAITING_MAX).all(|_| replays.put_off(request()).is_none()));
        assert!(replays.put_off(request()).is_some());
        assert_eq!(replays.waiting.len(), REPLAYS_WAITING_MAX);
    }
}
