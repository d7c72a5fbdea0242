//! Channels that the bus orders: what is read of them, and whether that is all.
//!
//! A channel is *known* while every publication before its top has been read or was before this
//! node asked. Only then may anybody be told where it stands.

use std::sync::Arc;

use super::{Channel, Channels, Resolved};
use crate::channel::{ChannelName, Namespace, Publication};
use crate::ids::{Epoch, Moment, Position, ShardId, Since};
use crate::reason::Eviction;

/// What became of a channel, and who must hear of it.
pub struct Followed<'a> {
    /// Where the channel stands, if that is not where it stood.
    pub moved: Option<Position>,
    /// It was given a place that it has had before: its epoch must end.
    pub repeated: bool,
    /// Shards with subscribers.
    pub interested: &'a [ShardId],
}

impl Channels {
    /// Whether it is known where a channel stands.
    pub fn is_known(&self, name: &str) -> bool {
        self.find(name).is_some_and(|channel| channel.known && !channel.repeats)
    }

    /// Whether `since` is not a place that this node has read past: it may be one that is still to
    /// be read.
    pub fn is_before(&self, name: &str, since: Since) -> bool {
        self.find(name).is_some_and(|channel| {
            !since.epoch.matches(channel.epoch) || since.offset > channel.top
        })
    }

    /// Takes a publication that the bus has ordered; a channel that it does not follow on from is
    /// moved to the place before it. Answers nothing if nobody is concerned.
    pub fn read(
        &mut self,
        now: Moment,
        channel: Resolved<'_>,
        epoch: Epoch,
        publication: &Arc<Publication>,
    ) -> Option<Followed<'_>> {
        let Resolved { name, namespace } = channel;
        let keep = namespace.has_history();
        let place = self.channels.find(name.as_str());
        if publication.offset == 0 || !keep && place.is_none() {
            let interested = self.interested(place?);
            return Some(Followed { moved: None, repeated: false, interested });
        }
        let repeats = self.repeats(name.as_str());
        let before = Position { epoch, offset: publication.offset - 1 };
        let (place, moved) = self.settle(name, namespace, before);
        self.channel(place).top = publication.offset;
        if keep {
            self.keep(now, place, publication);
        } else {
            self.retire(now, place);
        }
        let repeated = !repeats && self.repeats(name.as_str());
        Some(Followed { moved, repeated, interested: self.interested(place) })
    }

    /// Enters a channel of which `last` was read, if it is not there because nothing of it is kept:
    /// somebody waits for its place.
    pub fn expect(&mut self, channel: Resolved<'_>, last: Position) {
        let Resolved { name, namespace } = channel;
        if !self.contains(name.as_str()) {
            self.settle(name, namespace, last);
        }
    }

    /// It has been found out where a channel stands.
    pub fn locate(&mut self, channel: Resolved<'_>, position: Position) -> Followed<'_> {
        let Resolved { name, namespace } = channel;
        let repeats = self.repeats(name.as_str());
        // What was read since it was asked for is newer. What should have been read before and is
        // not here was dropped on the way, and the word of that may be behind this one.
        let behind =
            |channel: &Channel| channel.epoch == position.epoch && channel.top < position.offset;
        let is_behind = self.find(name.as_str()).is_some_and(behind);
        let moved = if self.is_known(name.as_str()) && !is_behind {
            None
        } else {
            self.settle(name, namespace, position).1
        };
        let repeated = !repeats && self.repeats(name.as_str());
        let place = self.channels.find(name.as_str());
        let interested = place.map_or(&[][..], |place| self.interested(place));
        Followed { moved, repeated, interested }
    }

    /// Forgets a channel that nobody uses, if that is so. Not while somebody waits for its place:
    /// it would have to be asked for again.
    pub fn retire_named(&mut self, now: Moment, name: &ChannelName) {
        if let Some(place) = self.channels.find(name.as_str()) {
            self.retire(now, place);
            self.keep_within_bytes(now);
        }
    }

    /// A channel may have missed something. Answers whether somebody listens to it; if not, it is
    /// forgotten, and asked for when it is wanted again. Not again for one that was adrift already:
    /// it is asked for once.
    pub fn set_adrift_one(&mut self, name: &ChannelName) -> bool {
        let Some(place) = self.channels.find(name.as_str()) else { return false };
        let channel = self.channel(place);
        let was_known = std::mem::replace(&mut channel.known, false);
        if channel.interested.is_empty() {
            self.drop_adrift(place);
            self.forget(place);
            return false;
        }
        was_known
    }

    /// Whether a channel was given a place in its epoch that it has had before.
    fn repeats(&self, name: &str) -> bool {
        self.find(name).is_some_and(|channel| channel.repeats)
    }

    /// Brings a channel to `position`, after which it is known. Answers its place, and the position
    /// if it was another; what was kept of the channel does not lead there and is dropped.
    fn settle(
        &mut self,
        name: &ChannelName,
        namespace: &Arc<Namespace>,
        position: Position,
    ) -> (u32, Option<Position>) {
        let Some(place) = self.channels.find(name.as_str()) else {
            return (self.insert(Resolved { name, namespace }, position), None);
        };
        let life = self.next_life();
        let channel = self.channel(place);
        channel.known = true;
        if channel.position() == position {
            return (place, None);
        }
        self.drop_adrift(place);
        let channel = self.channel(place);
        channel.life = life;
        // Until the epoch ends nobody is told where the channel stands.
        channel.repeats =
            position.epoch == channel.epoch && (channel.repeats || position.offset < channel.top);
        (channel.epoch, channel.top) = (position.epoch, position.offset);
        if let Some(kept) = channel.kept.as_mut() {
            (kept.more, kept.forgotten) = (namespace.durable_history, 0);
        }
        self.settle_charge(place);
        (place, Some(position))
    }

    /// Drops what is kept of a channel's publications.
    fn drop_adrift(&mut self, place: u32) {
        let (channel, totals) = self.channel_and_totals(place);
        let dropped = channel.kept.as_mut().map_or(0, |kept| kept.history.trim(0, totals));
        self.count_eviction(Eviction::Adrift, dropped);
    }
}
