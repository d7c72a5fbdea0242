//! Entries that are known to be in a stream, but that this node's reader has not passed. They are
//! known from replies to appends and probes, and from checks of the end of the stream.

use std::collections::VecDeque;
use std::time::Duration;

use super::EntryId;
use crate::ids::Moment;
use crate::limits::{BUS_LAG_MAX, BUS_MARK_INTERVAL, BUS_MARKS_MAX};

/// The known but unread entries; see the module. One entry in each [`BUS_MARK_INTERVAL`] is
/// recorded.
#[derive(Debug, Default)]
pub(super) struct UnreadEntries {
    /// Each entry with the time at which it became known.
    marks: VecDeque<(EntryId, Moment)>,
}

impl UnreadEntries {
    /// Records that the stream has the entry `id`, while the reader is at `at`.
    pub(super) fn note(&mut self, now: Moment, id: EntryId, at: EntryId) {
        let passed = id.epoch == at.epoch && id.number <= at.number;
        let last = self.marks.back();
        let soon = last.is_some_and(|(_, since)| now.since(*since) < BUS_MARK_INTERVAL);
        if !passed && !soon && self.marks.len() < BUS_MARKS_MAX {
            self.marks.push_back((id, now));
        }
    }

    /// Removes entries that the reader has passed, now that the reader is at `at`.
    pub(super) fn on_read(&mut self, at: EntryId) {
        self.marks.retain(|(id, _)| id.epoch != at.epoch || id.number > at.number);
    }

    /// Removes entries of epochs before `epoch`, which has begun. They may be lost, and homes were
    /// told about the new epoch.
    pub(super) fn on_epoch(&mut self, epoch: u64) {
        self.marks.retain(|(id, _)| id.epoch >= epoch);
    }

    /// Returns how long the oldest unread entry has been known.
    pub(super) fn lag(&self, now: Moment) -> Duration {
        self.marks.iter().map(|(_, since)| now.since(*since)).max().unwrap_or_default()
    }

    /// Whether the reader's server lacks an entry that was known long before `asked`, the time at
    /// which the stream's end was requested. If reader and writer are connected to the same server,
    /// this is never true, however slow the reader is.
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
        let (mut unread, now) = (UnreadEntries::default(), Moment::default());
        unread.note(now, id(5, 3), id(5, 3));
        assert_eq!(unread.lag(now.after(BUS_LAG_MAX)), Duration::ZERO);
        unread.note(now, id(5, 4), id(5, 3));
        unread.note(now, id(5, 9), id(5, 3));
        let later = now.after(BUS_LAG_MAX);
        assert_eq!(unread.lag(later), BUS_LAG_MAX);
        unread.on_read(id(5, 4));
        assert_eq!(unread.lag(later), Duration::ZERO, "one mark covers the entries right after it");
    }

    #[test]
    fn what_an_epoch_had_that_is_over_does_not_count() {
        let (mut unread, now) = (UnreadEntries::default(), Moment::default());
        unread.note(now, id(5, 4), id(5, 3));
        unread.on_read(id(6, 4));
        assert_eq!(unread.lag(now.after(BUS_LAG_MAX)), BUS_LAG_MAX, "it was not read");
        unread.on_epoch(6);
        assert_eq!(unread.lag(now.after(BUS_LAG_MAX)), Duration::ZERO);
    }

    #[test]
    fn an_entry_is_absent_only_if_it_was_known_long_before_the_end_was_asked_for() {
        let (mut unread, now) = (UnreadEntries::default(), Moment::default());
        unread.note(now, id(5, 4), id(5, 3));
        let asked = now.after(BUS_LAG_MAX);
        assert!(unread.is_absent(asked, id(5, 3)) && unread.is_absent(asked, id(4, 9)));
        assert!(!unread.is_absent(asked, id(5, 4)) && !unread.is_absent(asked, id(6, 0)));
        assert!(!unread.is_absent(now.after(BUS_LAG_MAX / 2), id(5, 3)));
    }

    #[test]
    fn no_more_is_remembered_than_the_limit() {
        let (mut unread, mut now) = (UnreadEntries::default(), Moment::default());
        for number in 1..1000 {
            unread.note(now, id(5, number), id(5, 0));
            now = now.after(BUS_MARK_INTERVAL);
        }
        assert_eq!(unread.marks.len(), BUS_MARKS_MAX);
        assert_eq!(unread.lag(now), BUS_MARK_INTERVAL * 999, "the oldest ones count");
    }
}
