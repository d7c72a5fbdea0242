//! Subscribers that have missed something and are still to be told. A tick tells only so many:
//! told, they come back, or their home is asked.

use std::collections::VecDeque;

use crate::channel::ChannelName;
use crate::connection::Maker;
use crate::ids::Position;
use crate::kernel::ConnectionKey;
use crate::limits::GAPS_TOLD_PER_TICK;

/// Notices that are still to be given, and how many a tick may give.
pub struct Notices {
    due: VecDeque<DueNotice>,
    /// How many more may be told in this tick.
    allowed: usize,
}

/// A subscriber that is still to be told.
pub struct DueNotice {
    /// Its connection.
    pub key: ConnectionKey,
    /// The channel in which it has missed something.
    pub channel: ChannelName,
    /// What is to be done for it.
    pub notice: GapNotice,
}

/// What is still to be done for a subscriber that has missed something.
pub enum GapNotice {
    /// It is to be told that its subscription has ended, and who had made it.
    Ended(Maker),
    /// What came after this position is to be asked for.
    Recovering(Position),
}

impl Notices {
    /// Nobody has missed anything.
    pub fn new() -> Notices {
        Notices { due: VecDeque::new(), allowed: GAPS_TOLD_PER_TICK }
    }

    /// Begins a tick. Returns how many notices may be taken in it.
    pub fn begin_tick(&mut self) -> usize {
        self.allowed = GAPS_TOLD_PER_TICK;
        self.due.len().min(GAPS_TOLD_PER_TICK)
    }

    /// Whether one more may be told now. If so, it is counted.
    pub fn take_allowance(&mut self) -> bool {
        let allowed = self.allowed > 0;
        self.allowed -= usize::from(allowed);
        allowed
    }

    /// Takes the oldest, and counts it.
    pub fn take(&mut self) -> Option<DueNotice> {
        let due = self.due.pop_front()?;
        self.take_allowance();
        Some(due)
    }

    /// Puts one off.
    pub fn put_off(&mut self, due: DueNotice) {
        self.due.push_back(due);
    }

    /// How many are put off.
    pub fn count(&self) -> usize {
        self.due.len()
    }
}
