//! From the home shard to subscribers: publications are checked for continuity and gathered. A gap
//! takes its place in the channel's log, so that subscribers are told of it before anything newer.

use std::sync::Arc;

use super::gap::{Gap, Remedy};
use super::subscribers::Channels;
use crate::channel::Publication;
use crate::collections::Bitmap;
use crate::ids::{LocalId, Position, Slot};

/// What a publication is to the subscribers of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next one, perhaps after a gap.
    Next,
    /// One that they have: the answer to a subscription has counted it. Or there are none yet.
    Past,
}

/// What has been published, and the connections that it is still to be sent to.
#[derive(Default)]
pub struct Fanout {
    /// Channels that have gathered publications in this turn. May go on naming a place that is free
    /// or another channel's: sealing a channel that has gathered nothing does nothing.
    unsealed: Vec<LocalId>,
    /// Channels that hold segments. The same holds: forgetting twice does nothing.
    with_segments: Vec<LocalId>,
    /// Connections with something to send.
    dirty: Bitmap,
    /// Number of the round that the sweep is in.
    pass: u64,
}

impl Fanout {
    /// Whether there is something to seal or to send.
    pub fn has_more(&self) -> bool {
        !self.dirty.is_empty() || !self.unsealed.is_empty()
    }

    /// Whether no connection has something to send.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Notes that a connection has something to send.
    pub fn mark(&mut self, slot: Slot) {
        self.dirty.insert(slot.index());
    }

    /// Notes that a connection is sent all that it has.
    pub fn unmark(&mut self, slot: Slot) {
        self.dirty.remove(slot.index());
    }

    /// Takes the mark of the first connection from `position` on.
    pub fn take_marked_from(&mut self, position: usize) -> Option<usize> {
        self.dirty.take_from(position)
    }

    /// A round is over: what was sealed before it began has been given to everybody, and if nobody
    /// is left to visit, all has.
    pub fn end_round(&mut self, channels: &mut Channels) {
        let pass = self.pass;
        let done = if self.dirty.is_empty() { Some(pass) } else { pass.checked_sub(1) };
        self.pass += 1;
        let Some(done) = done else { return };
        self.with_segments.retain(|&place| {
            // The last subscriber may have left with segments still kept.
            let Some(local) = channels.at(place) else { return false };
            local.forget(done);
            local.holds_segments()
        });
    }

    /// Follows the channel at `place` over a publication with `offset`, which is 0 for one without
    /// a place in the channel's order. If some are missing before it, a gap comes first.
    pub fn follow(&mut self, channels: &mut Channels, place: LocalId, offset: u64) -> Step {
        let local = channels.local(place);
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
            self.note_gap(channels, place, next, offset);
        }
        Step::Next
    }

    /// Gathers a publication for the subscribers of the channel at `place`.
    pub fn append(
        &mut self,
        channels: &mut Channels,
        place: LocalId,
        publication: Arc<Publication>,
    ) {
        let local = channels.local(place);
        if !local.is_open() {
            self.unsealed.push(place);
        }
        if local.append(publication) {
            self.seal_channel(channels, place);
        }
    }

    /// Goes on with the offset `next` in the channel at `place`, if that is further than it stands.
    /// What is between is a gap.
    pub fn skip_to(&mut self, channels: &mut Channels, place: LocalId, next: u64) {
        let local = channels.local(place);
        // Before the first answer nobody here is subscribed.
        let Some(expected) = local.next().filter(|expected| expected.offset < next) else { return };
        local.set_next(Position { offset: next, ..expected });
        self.note_gap(channels, place, expected, next);
    }

    /// Brings the channel at `place` to where its home says it stands. If subscribers expected
    /// something else, that is a gap.
    pub fn stand_at(&mut self, channels: &mut Channels, place: LocalId, top: Position) {
        let local = channels.local(place);
        let next = Position { offset: top.offset + 1, ..top };
        let before = local.next();
        local.set_next(next);
        if let Some(expected) = before.filter(|before| *before != next) {
            self.note_gap(channels, place, expected, next.offset);
        }
    }

    /// Puts a gap into the log of the channel at `place`, which goes on with the offset `next`
    /// instead of the position `expected`. Subscribers are told when the sweep comes to them.
    fn note_gap(&mut self, channels: &mut Channels, place: LocalId, expected: Position, next: u64) {
        if crate::sabotage!(SkippedGap) {
            return;
        }
        self.seal_channel(channels, place);
        let local = channels.local(place);
        if local.subscribers.as_slice().is_empty() {
            return;
        }
        let same_epoch = local.next().is_some_and(|next| next.epoch == expected.epoch);
        let recovers = local.namespace.has_history() && same_epoch;
        let remedy = if recovers { Remedy::AskHome } else { Remedy::Notice };
        let last = Position { offset: expected.offset - 1, ..expected };
        if !local.holds_segments() {
            self.with_segments.push(place);
        }
        local.break_off(Gap { place, last, next, remedy }, self.pass);
        self.mark_subscribers(channels, place);
    }

    /// Seals all that has been gathered, and marks everybody who is to receive it.
    pub fn seal(&mut self, channels: &mut Channels) {
        for place in std::mem::take(&mut self.unsealed) {
            self.seal_channel(channels, place);
        }
    }

    /// The same for one channel, if it is there and has gathered anything.
    pub fn seal_channel(&mut self, channels: &mut Channels, place: LocalId) {
        let Some(local) = channels.at(place).filter(|local| local.is_open()) else { return };
        if !local.holds_segments() {
            self.with_segments.push(place);
        }
        local.seal(self.pass);
        self.mark_subscribers(channels, place);
    }

    /// Notes that all subscribers of the channel at `place` have something to be sent.
    fn mark_subscribers(&mut self, channels: &mut Channels, place: LocalId) {
        for subscriber in channels.local(place).subscribers.as_slice() {
            self.dirty.insert(subscriber.slot().index());
        }
    }
}
