//! From the home shard to subscribers: publications are checked for continuity and gathered. A gap
//! is returned, so that subscribers can be told of it before anything newer is gathered.

use std::sync::Arc;

use super::Delivery;
use crate::channel::Publication;
use crate::ids::Position;

/// Publications of a channel that were lost on the way to this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The channel.
    pub place: u32,
    /// Where subscribers stand that have been given everything before the gap.
    pub last: Position,
    /// The first offset after the gap.
    pub next: u64,
}

/// What a publication is to the subscribers of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next one.
    Next,
    /// One that they have: the answer to a subscription has counted it. Or there are none yet.
    Past,
    /// One before which some are missing. The channel goes on after it.
    Beyond(Gap),
}

impl Delivery {
    /// Follows the channel at `place` over a publication with `offset`, which is 0 for one without
    /// a place in the channel's order.
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
        if offset == next.offset {
            return Step::Next;
        }
        let last = Position { offset: next.offset - 1, ..next };
        Step::Beyond(Gap { place, last, next: offset })
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
    /// Returns the gap that this makes.
    pub fn skip_to(&mut self, place: u32, next: u64) -> Option<Gap> {
        let local = self.locals.local(place);
        let expected = local.next().filter(|expected| expected.offset < next)?;
        local.set_next(Position { offset: next, ..expected });
        let last = Position { offset: expected.offset - 1, ..expected };
        Some(Gap { place, last, next })
    }

    /// Brings the channel at `place` to where its home says it stands. Returns the gap that this
    /// makes for its subscribers, if it has any.
    pub fn stand_at(&mut self, place: u32, top: Position) -> Option<Gap> {
        let local = self.locals.local(place);
        let next = Position { offset: top.offset + 1, ..top };
        let before = local.next();
        local.set_next(next);
        let subscribed = !local.subscribers.as_slice().is_empty();
        let before = before.filter(|before| subscribed && *before != next)?;
        let last = Position { offset: before.offset - 1, ..before };
        Some(Gap { place, last, next: next.offset })
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
        for subscriber in local.subscribers.as_slice() {
            self.dirty.insert(subscriber.slot().index());
        }
    }
}
