//! Subscribers that have missed publications and must be told. A tick tells only a limited number
//! of them, because each then subscribes again, or causes a request to its home.

use std::collections::VecDeque;

use crate::channel::ChannelName;
use crate::connection::Maker;
use crate::ids::Position;
use crate::kernel::ConnectionKey;
use crate::limits::GAPS_TOLD_PER_TICK;

/// Postponed notices, and the number that a tick may still give.
pub struct Notices {
    due: VecDeque<DueNotice>,
    /// Number of notices that this tick may still give.
    allowed: usize,
}

/// A subscriber that must be told later.
pub struct DueNotice {
    /// Key of its connection.
    pub key: ConnectionKey,
    /// The channel in which it has missed publications.
    pub channel: ChannelName,
    /// The required action.
    pub notice: GapNotice,
}

/// The action for a subscriber that has missed publications.
pub enum GapNotice {
    /// Tell the client that its subscription has ended. The field says who had made it.
    Ended(Maker),
    /// Ask the home for the publications after this position.
    Recovering(Position),
}

impl Notices {
    /// Creates an empty list.
    pub fn new() -> Notices {
        Notices { due: VecDeque::new(), allowed: GAPS_TOLD_PER_TICK }
    }

    /// Begins a tick. Returns the number of notices that may be taken in it.
    pub fn begin_tick(&mut self) -> usize {
        self.allowed = GAPS_TOLD_PER_TICK;
        self.due.len().min(GAPS_TOLD_PER_TICK)
    }

    /// Whether one more subscriber may be told now. If so, it is counted.
    pub fn take_allowance(&mut self) -> bool {
        let allowed = self.allowed > 0;
        self.allowed -= usize::from(allowed);
        allowed
    }

    /// Takes and counts the oldest notice.
    pub fn take(&mut self) -> Option<DueNotice> {
        let due = self.due.pop_front()?;
        self.take_allowance();
        Some(due)
    }

    /// Postpones a notice.
    pub fn put_off(&mut self, due: DueNotice) {
        self.due.push_back(due);
    }

    /// Number of postponed notices.
    pub fn count(&self) -> usize {
        self.due.len()
    }
}
