//! Entries that are known to be in a stream, by an answer to an append or by a look at its end, and
//! that the own reader has not passed.

use std::collections::VecDeque;
use std::time::Duration;

use super::EntryId;
use crate::ids::Moment;
use crate::limits::{BUS_LAG_MAX, BUS_MARK_INTERVAL, BUS_MARKS_MAX};

/// See the module. Not every entry is noted, but one in each [`BUS_MARK_INTERVAL`].
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Each with the moment since which it is known.
    marks: VecDeque<(EntryId, Moment)>,
}

impl Unread {
    /// The stream has `id`, and the reader stands at `at`.
    pub(super) fn note(&mut self, now: Moment, id: EntryId, at: EntryId) {
        let passed = id.epoch == at.epoch && id.number <= at.number;
        let last = self.marks.back();
        let soon = last.is_some_and(|(_, since)| now.since(*since) < BUS_MARK_INTERVAL);
        if !passed && !soon && self.marks.len() < BUS_MARKS_MAX {
            self.marks.push_back((id, now));
        }
    }

    /// The reader stands at `at`.
    pub(super) fn on_read(&mut self, at: EntryId) {
        self.marks.retain(|(id, _)| id.epoch != at.epoch || id.number > at.number);
    }

    /// The reader or the writer has begun a later epoch: what an earlier one had is lost, and who
    /// needed it is told so.
    pub(super) fn on_epoch(&mut self, epoch: u64) {
        self.marks.retain(|(id, _)| id.epoch >= epoch);
    }

    /// For how long the reader has not passed what is known to be there.
    pub(super) fn lag(&self, now: Moment) -> Duration {
        self.marks.iter().map(|(_, since)| now.since(*since)).max().unwrap_or_default()
    }

    /// Whether the reader's server, asked at `asked` where the stream ends, does not have what the
    /// stream was known long before to have. However slow the reader is, this is never so where it
    /// asks the server that the writer asks.
    pub(super) fn is_absent(&self, asked: Moment, tail: EntryId) -> bool {
        let known_long = |since| asked.since(since) >= BUS_LAG_MAX;
        self.marks.iter().any(|(id, since)| *id > tail && known_long(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(epoch: u64, number: u64) -> EntryId {
        EntryId { epoch, number }
    }

    #[test]
    fn what_the_reader_has_not_passed_is_lag_until_it_has() {
        let (mut unread, now) = (Unread::default(), Moment::default());
        unread.note(now, id(5, 3), id(5, 3));
        assert_eq!(unread.lag(now.after(BUS_LAG_MAX)), Duration::ZERO);
        unread.note(now, id(5, 4), id(5, 3));
        unread.note(now, id(5, 9), id(5, 3));
        let later = now.after(BUS_LAG_MAX);
        assert_eq!(unread.lag(later), BUS_LAG_MAX);
        unread.on_read(id(5, 4));
        assert_eq!(unread.lag(later), Duration::ZERO, "one mark stands for what follows at once");
    }

    #[test]
    fn what_an_epoch_had_that_is_over_does_not_count() {
        let (mut unread, now) = (Unread::default(), Moment::default());
        unread.note(now, id(5, 4), id(5, 3));
        unread.on_read(id(6, 4));
        assert_eq!(unread.lag(now.after(BUS_LAG_MAX)), BUS_LAG_MAX, "it was not read");
        unread.on_epoch(6);
        assert_eq!(unread.lag(now.after(BUS_LAG_MAX)), Duration::ZERO);
    }

    #[test]
    fn an_entry_is_absent_only_if_it_was_known_long_before_the_end_was_asked_for() {
        let (mut unread, now) = (Unread::default(), Moment::default());
        unread.note(now, id(5, 4), id(5, 3));
        let asked = now.after(BUS_LAG_MAX);
        assert!(unread.is_absent(asked, id(5, 3)) && unread.is_absent(asked, id(4, 9)));
        assert!(!unread.is_absent(asked, id(5, 4)) && !unread.is_absent(asked, id(6, 0)));
        assert!(!unread.is_absent(now.after(BUS_LAG_MAX / 2), id(5, 3)));
    }

    #[test]
    fn no_more_is_remembered_than_the_limit() {
        let (mut unread, mut now) = (Unread::default(), Moment::default());
        for number in 1..1000 {
            unread.note(now, id(5, number), id(5, 0));
            now = now.after(BUS_MARK_INTERVAL);
        }
        assert_eq!(unread.marks.len(), BUS_MARKS_MAX);
        assert_eq!(unread.lag(now), BUS_MARK_INTERVAL * 999, "the oldest ones count");
    }
}
