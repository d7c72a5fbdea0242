//! From the home shard to subscribers: checks that publications follow each other, and gathers
//! them. A gap gets a place in the channel's log, so that subscribers are told about it before they
//! receive anything newer.

use std::sync::Arc;

use super::channels::Local;
use super::gap::{Gap, Remedy};
use super::subscribers::LocalChannels;
use crate::channel::Publication;
use crate::collections::Bitmap;
use crate::ids::{LocalId, Position, Slot};

/// The relation of a publication to the subscribers of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next publication, perhaps after a gap.
    Next,
    /// A publication to skip. The home's answer to the subscribers already included it, or there
    /// are no subscribers yet.
    Past,
}

/// Publications in progress, and the connections that still have to receive some.
#[derive(Default)]
pub struct Fanout {
    /// Channels that have gathered publications in this turn. A place in it may be vacant or belong
    /// to another channel by now: sealing a channel without open publications does nothing.
    unsealed: Vec<LocalId>,
    /// Channels that hold segments. Stale places are harmless here too: forgetting twice does
    /// nothing.
    with_segments: Vec<LocalId>,
    /// Connections with data to send.
    dirty: Bitmap,
    /// Number of the pass that the sweep is in.
    pass: u64,
}

impl Fanout {
    /// Whether there is something to seal or to send.
    pub fn has_more(&self) -> bool {
        !self.dirty.is_empty() || !self.unsealed.is_empty()
    }

    /// Whether no connection has data to send.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Marks a connection as having data to send.
    pub fn mark(&mut self, slot: Slot) {
        self.dirty.insert(slot.index());
    }

    /// Clears the mark of a connection, because all its data is being sent.
    pub fn unmark(&mut self, slot: Slot) {
        self.dirty.remove(slot.index());
    }

    /// Takes the mark of the first connection at or after `position`.
    pub fn take_marked_from(&mut self, position: usize) -> Option<usize> {
        self.dirty.take_from(position)
    }

    /// Ends a pass. All subscribers have received the segments that were sealed before it began. If
    /// no connection is marked any more, they have received all segments.
    pub fn end_round(&mut self, channels: &mut LocalChannels) {
        let pass = self.pass;
        let done = if self.dirty.is_empty() { Some(pass) } else { pass.checked_sub(1) };
        self.pass += 1;
        let Some(done) = done else { return };
        self.with_segments.retain(|&place| {
            // The last subscriber may have left while segments were still kept.
            let Some(local) = channels.at(place) else { return false };
            local.forget(done);
            local.holds_segments()
        });
    }

    /// Advances the channel at `place` past a publication with `offset`. The offset is 0 if the
    /// publication has no place in the channel's order. If publications are missing before it, a
    /// gap is recorded first.
    pub fn follow(&mut self, channels: &mut LocalChannels, place: LocalId, offset: u64) -> Step {
        let local = channels.local(place);
        // Nobody here is subscribed before the home's first answer.
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
        channels: &mut LocalChannels,
        place: LocalId,
        publication: Arc<Publication>,
    ) {
        let local = channels.local(place);
        if !local.is_open() {
            self.unsealed.push(place);
        }
        if local.append(publication) {
            // A segment that is full is sealed within the turn, which bounds its size.
            self.seal_channel(channels, place);
        }
    }

    /// Continues with the offset `next` in the channel at `place`, if that is ahead of its
    /// position. The offsets in between become a gap.
    pub fn skip_to(&mut self, channels: &mut LocalChannels, place: LocalId, next: u64) {
        let local = channels.local(place);
        // Nobody here is subscribed before the home's first answer.
        let Some(expected) = local.next().filter(|expected| expected.offset < next) else { return };
        local.set_next(Position { offset: next, ..expected });
        self.note_gap(channels, place, expected, next);
    }

    /// Moves the channel at `place` to the position that its home has given. If subscribers
    /// expected another one, the difference is a gap.
    pub fn stand_at(&mut self, channels: &mut LocalChannels, place: LocalId, top: Position) {
        let local = channels.local(place);
        let next = Position { offset: top.offset + 1, ..top };
        let before = local.next();
        local.set_next(next);
        if let Some(expected) = before.filter(|before| *before != next) {
            self.note_gap(channels, place, expected, next.offset);
        }
    }

    /// Adds a gap to the log of the channel at `place`, which continues with the offset `next`
    /// instead of the position `expected`. Subscribers are told when the sweep reaches them.
    fn note_gap(
        &mut self,
        channels: &mut LocalChannels,
        place: LocalId,
        expected: Position,
        next: u64,
    ) {
        if crate::sabotage!(SkippedGap) {
            return;
        }
        // Publications before the gap must stay before it.
        self.seal_channel(channels, place);
        let local = channels.local(place);
        // Without subscribers the gap concerns no client.
        if local.subscribers.as_slice().is_empty() {
            return;
        }
        // Offsets of different epochs can't be compared, so the home can't say what is missing.
        let same_epoch = local.next().is_some_and(|next| next.epoch == expected.epoch);
        let recovers = local.namespace.has_history() && same_epoch;
        let remedy = if recovers { Remedy::AskHome } else { Remedy::Notice };
        let last = Position { offset: expected.offset - 1, ..expected };
        if !local.holds_segments() {
            self.with_segments.push(place);
        }
        local.break_off(Gap { place, last, next, remedy }, self.pass);
        self.mark_subscribers(local);
    }

    /// Seals all open segments, and marks the connections that will receive them.
    pub fn seal(&mut self, channels: &mut LocalChannels) {
        for place in std::mem::take(&mut self.unsealed) {
            // The last subscriber may have left since the publication was gathered.
            if let Some(local) = channels.at(place) {
                self.seal_local(local, place);
            }
        }
    }

    /// Seals the open segment of the channel at `place`, if it has one.
    pub fn seal_channel(&mut self, channels: &mut LocalChannels, place: LocalId) {
        self.seal_local(channels.local(place), place);
    }

    fn seal_local(&mut self, local: &mut Local, place: LocalId) {
        if !local.is_open() {
            return;
        }
        if !local.holds_segments() {
            self.with_segments.push(place);
        }
        local.seal(self.pass);
        self.mark_subscribers(local);
    }

    /// Marks all subscribers of a channel as having data to send.
    fn mark_subscribers(&mut self, local: &Local) {
        for subscriber in local.subscribers.as_slice() {
            self.dirty.insert(subscriber.slot().index());
        }
    }
}
