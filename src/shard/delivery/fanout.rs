//! From the home shard to subscribers: publications are checked for continuity and gathered. A gap
//! takes its place in the channel's log, so that subscribers are told of it before anything newer.

use std::sync::Arc;

use super::Delivery;
use super::gap::{Gap, Remedy};
use crate::channel::Publication;
use crate::ids::Position;

/// What a publication is to the subscribers of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next one, perhaps after a gap.
    Next,
    /// One that they have: the answer to a subscription has counted it. Or there are none yet.
    Past,
}

impl Delivery {
    /// Follows the channel at `place` over a publication with `offset`, which is 0 for one without
    /// a place in the channel's order. If some are missing before it, a gap comes first.
    pub fn follow(&mut self, place: u32, offset: u64) -> Step {
        let local = self.locals.local(place);
        // Before the first answer nobody here is subscribed.
        let Some(next) = local.next() else { return Step::Past };
        if offset == 0 {
            return Step::Next;
        }
        if offset < next.offset {
            return Step::Past;
        }
        local.set_next(Position { offset: offset + 1, ..next });
        if offset != next.offset {
            self.note_gap(place, next, offset);
        }
        Step::Next
    }

    /// Gathers a publication for the subscribers of the channel at `place`.
    pub fn append(&mut self, place: u32, publication: Arc<Publication>) {
        let local = self.locals.local(place);
        if !local.is_open() {
            self.unsealed.push(place);
        }
        if local.append(publication) {
            self.seal_channel(place);
        }
    }

    /// Goes on with the offset `next` in the channel at `place`, if that is further than it stands.
    /// What is between is a gap.
    pub fn skip_to(&mut self, place: u32, next: u64) {
        let local = self.locals.local(place);
        // Before the first answer nobody here is subscribed.
        let Some(expected) = local.next().filter(|expected| expected.offset < next) else { return };
        local.set_next(Position { offset: next, ..expected });
        self.note_gap(place, expected, next);
    }

    /// Brings the channel at `place` to where its home says it stands. If subscribers expected
    /// something else, that is a gap.
    pub fn stand_at(&mut self, place: u32, top: Position) {
        let local = self.locals.local(place);
        let next = Position { offset: top.offset + 1, ..top };
        let before = local.next();
        local.set_next(next);
        if let Some(expected) = before.filter(|before| *before != next) {
            self.note_gap(place, expected, next.offset);
        }
    }

    /// Puts a gap into the log of the channel at `place`, which goes on with the offset `next`
    /// instead of the position `expected`. Subscribers are told when the sweep comes to them.
    fn note_gap(&mut self, place: u32, expected: Position, next: u64) {
        if crate::sabotage!(SkippedGap) {
            return;
        }
        self.seal_channel(place);
        let local = self.locals.local(place);
        if local.subscribers.as_slice().is_empty() {
            return;
        }
        let same_epoch = local.next().is_some_and(|next| next.epoch == expected.epoch);
        let recovers = local.namespace.has_history() && same_epoch;
        let remedy = if recovers { Remedy::AskHome } else { Remedy::Notice };
        let last = Position { offset: expected.offset - 1, ..expected };
        if !local.holds_segments() {
            self.channels_with_segments.push(place);
        }
        local.break_off(Gap { place, last, next, remedy }, self.sweep.pass());
        self.mark_subscribers(place);
    }

    /// Seals all that has been gathered, and marks everybody who is to receive it.
    pub fn seal(&mut self) {
        for place in std::mem::take(&mut self.unsealed) {
            self.seal_channel(place);
        }
    }

    /// The same for one channel, if it is there and has gathered anything.
    pub fn seal_channel(&mut self, place: u32) {
        let Some(local) = self.locals.at(place).filter(|local| local.is_open()) else { return };
        if !local.holds_segments() {
            self.channels_with_segments.push(place);
        }
        local.seal(self.sweep.pass());
        self.mark_subscribers(place);
    }

    /// Notes that all subscribers of the channel at `place` have something to be sent.
    fn mark_subscribers(&mut self, place: u32) {
        for subscriber in self.locals.local(place).subscribers.as_slice() {
            self.dirty.insert(subscriber.slot().index());
        }
    }
}
