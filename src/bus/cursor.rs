//! Follows one stream, and recognises missing entries by the numbers alone.

use super::EntryId;
use crate::ids::Moment;
use crate::limits::BUS_STALL_TIMEOUT;

/// The last entry of a stream according to its `meta`. `None` if `meta` does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail(pub Option<EntryId>);

/// One reading of a stream's `meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it was requested.
    pub asked: Moment,
    /// The end of the stream that it showed.
    pub tail: Tail,
}

/// Result of an entry, a fence or a reading of `meta` for the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is missing. Deliver the entry, if there is one.
    Next,
    /// The entry has been read already.
    Old,
    /// Entries before this point are missing. Deliver the entry, if there is one.
    Hole,
    /// A new epoch begins. Deliver the entry, if there is one.
    Epoch,
    /// The stream ends before the reader's position, so it must be fenced.
    Regressed,
}

/// The reader's position in a stream.
#[derive(Debug, Default)]
pub(super) struct StreamCursor {
    at: EntryId,
    /// Number of the last entry of the window that is loaded at the start. `None` before the first
    /// fence.
    load_until: Option<u64>,
    /// The epoch that has begun, and the last entry before it that is still to be read.
    next: Option<(u64, EntryId)>,
    /// Set while `meta` is ahead of the reader: the reader's position, the end in `meta`, and the
    /// time at which this was first seen.
    suspicion: Option<(EntryId, EntryId, Moment)>,
}

impl StreamCursor {
    /// Returns the last entry that was read.
    pub(super) fn at(&self) -> EntryId {
        self.at
    }

    /// Returns the latest known point of the stream: the last entry that was read, or the beginning
    /// of a later epoch.
    pub(super) fn seen(&self) -> EntryId {
        self.next.map_or(self.at, |(epoch, _)| EntryId { epoch, number: 0 })
    }

    /// Whether all entries of the first window have been read.
    pub(super) fn is_loaded(&self) -> bool {
        self.load_until.is_some_and(|until| self.at.number >= until)
    }

    /// Handles an entry that was read.
    pub(super) fn on_entry(&mut self, id: EntryId) -> Step {
        if id <= self.at {
            return Step::Old;
        }
        // Entries that were trimmed off the beginning of the first window are not missing.
        let first = self.at.number == 0 && !self.is_loaded();
        let step = if id.epoch != self.at.epoch {
            // Numbers start again from 1, so this epoch may never reach the end of the old window.
            self.load_until = Some(0);
            Step::Epoch
        } else if id.number == self.at.number + 1 || first || crate::sabotage!(IgnoredHole) {
            Step::Next
        } else {
            Step::Hole
        };
        self.advance(id);
        // The stream is read in order: older entries that have not arrived can't be read any more.
        self.next.take_if(|(epoch, _)| *epoch <= id.epoch);
        self.assert_valid();
        step
    }

    /// Handles the reply to a fence: the server's epoch with its last entry, and the last readable
    /// entry `before` that epoch.
    pub(super) fn on_fenced(&mut self, id: EntryId, before: Option<EntryId>) -> Step {
        let seen = self.seen();
        if id.epoch == seen.epoch {
            return Step::Next;
        }
        if id.epoch < seen.epoch {
            return Step::Regressed;
        }
        // This is the first fence since the start, so the entries of the epoch up to now are the
        // window to load.
        if self.at.epoch == 0 {
            self.advance(EntryId { epoch: id.epoch, number: 0 });
            self.load_until = Some(id.number);
            return Step::Next;
        }
        // The last entries of the old epoch were acknowledged, so they are delivered before the new
        // epoch begins.
        let last = before.filter(|last| last.epoch < id.epoch && !crate::sabotage!(ForsakenEpoch));
        self.next = Some((id.epoch, last.unwrap_or_default()));
        self.assert_valid();
        if self.turn() { Step::Epoch } else { Step::Next }
    }

    /// Moves on to the epoch that has begun, if everything before it was read. Returns whether it
    /// did.
    pub(super) fn turn(&mut self) -> bool {
        let Some((epoch, _)) = self.next.take_if(|(_, last)| *last <= self.at) else {
            return false;
        };
        self.advance(EntryId { epoch, number: 0 });
        self.suspicion = None;
        // All entries of the new epoch are read, so no window has to be loaded.
        self.load_until = Some(0);
        true
    }

    /// Handles a reading of `meta`. Entries that the reader can't reach within
    /// [`BUS_STALL_TIMEOUT`] count as lost.
    pub(super) fn on_tail(&mut self, now: Moment, tail: Tail) -> Step {
        let Some(tail) = tail.0.filter(|tail| *tail >= self.at) else {
            return Step::Regressed;
        };
        if tail == self.at {
            self.suspicion = None;
            return Step::Next;
        }
        // The next reads may still bring these entries. They count as lost only if the reader makes
        // no progress.
        match self.suspicion {
            Some((at, claimed, since)) if at == self.at => {
                if now.since(since) < BUS_STALL_TIMEOUT {
                    return Step::Next;
                }
                self.suspicion = None;
                let epoch = claimed.epoch != self.at.epoch;
                // Skip to the end that was seen at first, because entries after it may still
                // arrive.
                self.advance(claimed);
                self.next.take_if(|(epoch, _)| *epoch <= claimed.epoch);
                self.load_until = Some(0);
                self.assert_valid();
                if epoch { Step::Epoch } else { Step::Hole }
            }
            _ => {
                self.suspicion = Some((self.at, tail, now));
                self.assert_valid();
                Step::Next
            }
        }
    }

    fn advance(&mut self, at: EntryId) {
        assert!(at > self.at, "a reader only moves forward");
        self.at = at;
    }

    fn assert_valid(&self) {
        let later = self.next.is_none_or(|(epoch, _)| epoch > self.at.epoch);
        assert!(later, "an epoch that has begun is later than the reader's");
        let ahead = self.suspicion.is_none_or(|(at, claimed, _)| at < claimed);
        assert!(ahead, "missing entries are suspected only ahead of the reader");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(epoch: u64, number: u64) -> EntryId {
        EntryId { epoch, number }
    }

    #[test]
    fn what_is_cut_off_a_window_that_is_loaded_is_no_hole_and_later_it_is() {
        let mut loading = StreamCursor::default();
        assert_eq!(loading.on_fenced(id(5, 9), None), Step::Next);
        assert_eq!(loading.on_entry(id(5, 7)), Step::Next);
        assert!(!loading.is_loaded());
        assert_eq!(loading.on_entry(id(5, 9)), Step::Hole);
        assert!(loading.is_loaded());
        let mut empty = StreamCursor::default();
        assert_eq!(empty.on_fenced(id(5, 0), None), Step::Next);
        assert!(empty.is_loaded());
        assert_eq!(empty.on_entry(id(5, 2)), Step::Hole);
    }

    #[test]
    fn an_end_that_can_not_be_read_is_a_hole_after_a_while() {
        let mut cursor = StreamCursor::default();
        let (now, tail) = (Moment::default(), Tail(Some(id(5, 2))));
        cursor.on_fenced(id(5, 0), None);
        assert_eq!(cursor.on_tail(now, tail), Step::Next);
        assert_eq!(cursor.on_tail(now.after(BUS_STALL_TIMEOUT / 2), tail), Step::Next);
        assert_eq!(cursor.on_tail(now.after(BUS_STALL_TIMEOUT), tail), Step::Hole);
        assert_eq!(cursor.at(), id(5, 2));
        assert_eq!(cursor.on_tail(now, Tail(None)), Step::Regressed);
        assert_eq!(cursor.on_fenced(id(4, 0), None), Step::Regressed);
    }

    #[test]
    fn what_is_left_of_an_epoch_is_read_before_the_next_one() {
        let mut cursor = StreamCursor::default();
        cursor.on_fenced(id(5, 0), None);
        cursor.on_entry(id(5, 1));
        assert_eq!(cursor.on_fenced(id(7, 0), Some(id(5, 3))), Step::Next);
        assert_eq!((cursor.at(), cursor.seen()), (id(5, 1), id(7, 0)));
        assert_eq!(cursor.on_fenced(id(7, 2), Some(id(5, 3))), Step::Next);
        assert_eq!(cursor.on_fenced(id(6, 0), None), Step::Regressed);
        assert_eq!(cursor.on_entry(id(5, 2)), Step::Next);
        assert!(!cursor.turn());
        assert_eq!(cursor.on_entry(id(5, 3)), Step::Next);
        assert!(cursor.turn() && !cursor.turn());
        assert_eq!(cursor.at(), id(7, 0));
        assert_eq!(
            cursor.on_fenced(id(8, 0), Some(id(7, 0))),
            Step::Epoch,
            "the old epoch has been read"
        );
    }

    #[test]
    fn what_can_not_be_read_of_an_epoch_holds_nothing_up() {
        let mut cursor = StreamCursor::default();
        cursor.on_fenced(id(5, 0), None);
        cursor.on_entry(id(5, 1));
        cursor.on_fenced(id(7, 0), Some(id(5, 3)));
        assert_eq!(cursor.on_entry(id(7, 1)), Step::Epoch);
        assert_eq!((cursor.seen(), cursor.turn()), (id(7, 1), false));
        cursor.on_fenced(id(8, 0), Some(id(7, 3)));
        let (now, tail) = (Moment::default(), Tail(Some(id(8, 0))));
        assert_eq!(cursor.on_tail(now, tail), Step::Next);
        assert_eq!(cursor.on_tail(now.after(BUS_STALL_TIMEOUT), tail), Step::Epoch);
        assert_eq!((cursor.at(), cursor.turn()), (id(8, 0), false));
    }
}
