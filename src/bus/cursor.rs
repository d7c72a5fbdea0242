//! Follows one stream: knows from the numbers of its entries alone whether one is missing.

use super::EntryId;
use crate::ids::Moment;
use crate::limits::BUS_STALL_TIMEOUT;

/// What meta says of a stream: its last entry, or nothing if it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail(pub Option<EntryId>);

/// A look at meta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it was asked for.
    pub asked: Moment,
    /// What it has shown.
    pub tail: Tail,
}

/// What an entry, a fence or a look at meta means for the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// All is well: go on. An entry is to be delivered.
    Next,
    /// It has been read already.
    Old,
    /// Something before it is missing. An entry is to be delivered.
    Hole,
    /// A new epoch begins. An entry is to be delivered.
    Epoch,
    /// The stream is behind what was read: it must be fenced.
    Regressed,
}

/// The reader's place in a stream.
#[derive(Debug, Default)]
pub(super) struct StreamCursor {
    at: EntryId,
    /// Where the window that is loaded at the start ends; absent before the first fence.
    load_until: Option<u64>,
    /// The epoch that has begun, and the last entry before it that is still to be read.
    next: Option<(u64, EntryId)>,
    /// Meta was ahead of what can be read, since when.
    suspicion: Option<(EntryId, EntryId, Moment)>,
}

impl StreamCursor {
    /// The last entry that was read.
    pub(super) fn at(&self) -> EntryId {
        self.at
    }

    /// What is known to be in the stream: what was read, and an epoch that has begun since.
    pub(super) fn seen(&self) -> EntryId {
        self.next.map_or(self.at, |(epoch, _)| EntryId { epoch, number: 0 })
    }

    /// Whether the window has been read that was there at the start.
    pub(super) fn is_loaded(&self) -> bool {
        self.load_until.is_some_and(|until| self.at.number >= until)
    }

    /// An entry was read.
    pub(super) fn on_entry(&mut self, id: EntryId) -> Step {
        if id <= self.at {
            return Step::Old;
        }
        // Of the window that is loaded at the start, what was cut off is not missing.
        let first = self.at.number == 0 && !self.is_loaded();
        let step = if id.epoch != self.at.epoch {
            self.load_until = Some(0);
            Step::Epoch
        } else if id.number == self.at.number + 1 || first || crate::sabotage!(IgnoredHole) {
            Step::Next
        } else {
            Step::Hole
        };
        self.at = id;
        self.next.take_if(|(epoch, _)| *epoch <= id.epoch);
        step
    }

    /// The server that is asked has said which epoch it is in, the last entry of it, and the last
    /// one `before` it that can still be read.
    pub(super) fn on_fenced(&mut self, id: EntryId, before: Option<EntryId>) -> Step {
        let seen = self.seen();
        if id.epoch == seen.epoch {
            return Step::Next;
        }
        if id.epoch < seen.epoch {
            return Step::Regressed;
        }
        if self.at.epoch == 0 {
            self.at = EntryId { epoch: id.epoch, number: 0 };
            self.load_until = Some(id.number);
            return Step::Next;
        }
        let last = before.filter(|last| last.epoch < id.epoch && !crate::sabotage!(ForsakenEpoch));
        self.next = Some((id.epoch, last.unwrap_or_default()));
        if self.turn() { Step::Epoch } else { Step::Next }
    }

    /// Goes on to the epoch that has begun, if all before it was read. Returns whether it did.
    pub(super) fn turn(&mut self) -> bool {
        let Some((epoch, _)) = self.next.take_if(|(_, last)| *last <= self.at) else {
            return false;
        };
        self.at = EntryId { epoch, number: 0 };
        self.suspicion = None;
        // All of the new epoch is read from its first entry on.
        self.load_until = Some(0);
        true
    }

    /// Meta was looked at. What it is ahead of the reader for long, can't be read any more.
    pub(super) fn on_tail(&mut self, now: Moment, tail: Tail) -> Step {
        let Some(tail) = tail.0.filter(|tail| *tail >= self.at) else {
            return Step::Regressed;
        };
        if tail == self.at {
            self.suspicion = None;
            return Step::Next;
        }
        match self.suspicion {
            Some((at, claimed, since)) if at == self.at => {
                if now.since(since) < BUS_STALL_TIMEOUT {
                    return Step::Next;
                }
                self.suspicion = None;
                let epoch = claimed.epoch != self.at.epoch;
                self.at = claimed;
                self.next.take_if(|(epoch, _)| *epoch <= claimed.epoch);
                self.load_until = Some(0);
                if epoch { Step::Epoch } else { Step::Hole }
            }
            _ => {
                self.suspicion = Some((self.at, tail, now));
                Step::Next
            }
        }
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
        let mut follow = StreamCursor::default();
        let (now, tail) = (Moment::default(), Tail(Some(id(5, 2))));
        follow.on_fenced(id(5, 0), None);
        assert_eq!(follow.on_tail(now, tail), Step::Next);
        assert_eq!(follow.on_tail(now.after(BUS_STALL_TIMEOUT / 2), tail), Step::Next);
        assert_eq!(follow.on_tail(now.after(BUS_STALL_TIMEOUT), tail), Step::Hole);
        assert_eq!(follow.at(), id(5, 2));
        assert_eq!(follow.on_tail(now, Tail(None)), Step::Regressed);
        assert_eq!(follow.on_fenced(id(4, 0), None), Step::Regressed);
    }

    #[test]
    fn what_is_left_of_an_epoch_is_read_before_the_next_one() {
        let mut follow = StreamCursor::default();
        follow.on_fenced(id(5, 0), None);
        follow.on_entry(id(5, 1));
        assert_eq!(follow.on_fenced(id(7, 0), Some(id(5, 3))), Step::Next);
        assert_eq!((follow.at(), follow.seen()), (id(5, 1), id(7, 0)));
        assert_eq!(follow.on_fenced(id(7, 2), Some(id(5, 3))), Step::Next);
        assert_eq!(follow.on_fenced(id(6, 0), None), Step::Regressed);
        assert_eq!(follow.on_entry(id(5, 2)), Step::Next);
        assert!(!follow.turn());
        assert_eq!(follow.on_entry(id(5, 3)), Step::Next);
        assert!(follow.turn() && !follow.turn());
        assert_eq!(follow.at(), id(7, 0));
        assert_eq!(follow.on_fenced(id(8, 0), Some(id(7, 0))), Step::Epoch, "it has read all");
    }

    #[test]
    fn what_can_not_be_read_of_an_epoch_holds_nothing_up() {
        let mut follow = StreamCursor::default();
        follow.on_fenced(id(5, 0), None);
        follow.on_entry(id(5, 1));
        follow.on_fenced(id(7, 0), Some(id(5, 3)));
        assert_eq!(follow.on_entry(id(7, 1)), Step::Epoch);
        assert_eq!((follow.seen(), follow.turn()), (id(7, 1), false));
        follow.on_fenced(id(8, 0), Some(id(7, 3)));
        let (now, tail) = (Moment::default(), Tail(Some(id(8, 0))));
        assert_eq!(follow.on_tail(now, tail), Step::Next);
        assert_eq!(follow.on_tail(now.after(BUS_STALL_TIMEOUT), tail), Step::Epoch);
        assert_eq!((follow.at(), follow.turn()), (id(8, 0), false));
    }
}
