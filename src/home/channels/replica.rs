//! Channels that the bus orders: publications read from it, and whether any are missing.
//!
//! The position of a channel is *known* while every publication before its top has been read, or
//! existed before this node asked. Only then may clients be told the position.

use std::sync::Arc;

use super::channel::Channel;
use super::{Channels, Resolved};
use crate::channel::{ChannelName, Namespace, Publication};
use crate::ids::{Epoch, HomeId, Moment, Position, ShardId, Since};
use crate::reason::Eviction;

/// The effect of a publication or position on a channel, and the shards that must be told.
pub struct Replicated<'a> {
    /// The new position, if the position has moved.
    pub moved: Option<Position>,
    /// Whether a position was assigned for the second time, so that the epoch must end.
    pub repeated: bool,
    /// Shards with subscribers.
    pub interested: &'a [ShardId],
}

impl Channels {
    /// Whether the position of a channel is known.
    pub fn is_known(&self, name: &str) -> bool {
        self.find(name).is_some_and(|channel| channel.known && !channel.repeats)
    }

    /// Whether this node has not yet read up to `since`.
    pub fn is_before(&self, name: &str, since: Since) -> bool {
        self.find(name).is_some_and(|channel| {
            !since.epoch.matches(channel.epoch) || since.offset > channel.top
        })
    }

    /// Adds a publication that the bus has ordered. If it does not follow the current position, the
    /// channel is first moved to the position before it. Returns `None` if no shard is concerned.
    pub fn read(
        &mut self,
        now: Moment,
        channel: Resolved<'_>,
        epoch: Epoch,
        publication: &Arc<Publication>,
    ) -> Option<Replicated<'_>> {
        let Resolved { name, namespace } = channel;
        let keep = namespace.has_history();
        let id = self.channels.find(name.as_str());
        if publication.offset == 0 || !keep && id.is_none() {
            let interested = self.interested(id?);
            return Some(Replicated { moved: None, repeated: false, interested });
        }
        let repeats = self.repeats(name.as_str());
        let before = Position { epoch, offset: publication.offset - 1 };
        let (id, moved) = self.settle(name, namespace, before);
        self.channel(id).top = publication.offset;
        if keep {
            self.keep(now, id, publication);
        } else {
            self.retire(now, id);
        }
        let repeated = !repeats && self.repeats(name.as_str());
        Some(Replicated { moved, repeated, interested: self.interested(id) })
    }

    /// Adds a channel at the position `last`, which was just read, if it does not exist because
    /// none of its publications are kept. A request waits for its position.
    pub fn expect(&mut self, channel: Resolved<'_>, last: Position) {
        let Resolved { name, namespace } = channel;
        if !self.contains(name.as_str()) {
            self.settle(name, namespace, last);
        }
    }

    /// Handles the reported position of a channel.
    pub fn locate(&mut self, channel: Resolved<'_>, position: Position) -> Replicated<'_> {
        let Resolved { name, namespace } = channel;
        let repeats = self.repeats(name.as_str());
        // Publications read since the question are newer. Publications that should have been read
        // before it and are missing were dropped on the way; the report about them may arrive
        // later.
        let behind =
            |channel: &Channel| channel.epoch == position.epoch && channel.top < position.offset;
        let is_behind = self.find(name.as_str()).is_some_and(behind);
        let moved = if self.is_known(name.as_str()) && !is_behind {
            None
        } else {
            self.settle(name, namespace, position).1
        };
        let repeated = !repeats && self.repeats(name.as_str());
        let id = self.channels.find(name.as_str());
        let interested = id.map_or(&[][..], |id| self.interested(id));
        Replicated { moved, repeated, interested }
    }

    /// Removes a channel if it is unused. It must not be called while a request waits for the
    /// position, which would have to be requested again.
    pub fn retire_named(&mut self, now: Moment, name: &ChannelName) {
        if let Some(id) = self.channels.find(name.as_str()) {
            self.retire(now, id);
            self.keep_within_bytes(now);
        }
    }

    /// Notes that a channel may have missed publications. Returns whether its position must be
    /// requested: it has listeners, and was verified before. A channel without listeners is
    /// removed, because its position is requested when it is used again.
    pub fn set_unverified(&mut self, name: &ChannelName) -> bool {
        let Some(id) = self.channels.find(name.as_str()) else { return false };
        let channel = self.channel(id);
        let was_known = std::mem::replace(&mut channel.known, false);
        if channel.interested.is_empty() {
            self.drop_kept(id);
            self.forget(id);
            return false;
        }
        was_known
    }

    /// Notes that publications of a stream were lost, so that its channels may have missed some.
    pub fn lose(&mut self, stream: usize, streams: usize) {
        self.losses.add(stream, streams);
    }

    /// Whether the maximum number of losses is reached.
    pub fn has_many_losses(&self) -> bool {
        self.losses.are_many()
    }

    /// Whether there are losses that some channels have not been told about.
    pub fn has_losses(&self) -> bool {
        !self.losses.is_empty()
    }

    /// Applies losses to a channel before it is used. Returns whether it may have missed
    /// publications and has listeners.
    pub fn hear(&mut self, name: &ChannelName) -> bool {
        self.has_losses()
            && self.channels.find(name.as_str()).is_some_and(|id| self.hear_at(id).is_some())
    }

    /// Tells the channels at up to `steps_max` places about losses. Returns those that may have
    /// missed publications and have listeners.
    pub fn hear_some(&mut self, steps_max: usize) -> Vec<ChannelName> {
        let end = self.channels.reached();
        let places = self.losses.next_places(end, steps_max);
        let unverified = places.filter_map(|place| self.hear_at(HomeId::new(place))).collect();
        self.losses.end_walk(end);
        unverified
    }

    fn hear_at(&mut self, id: HomeId) -> Option<ChannelName> {
        let channel = self.channels.at(id)?;
        let heard = std::mem::replace(&mut channel.heard, self.losses.last());
        if !self.losses.concern(channel.name.as_str(), heard) {
            return None;
        }
        let name = channel.name.clone();
        self.set_unverified(&name).then_some(name)
    }

    /// Whether an offset of the channel's epoch was assigned for the second time.
    fn repeats(&self, name: &str) -> bool {
        self.find(name).is_some_and(|channel| channel.repeats)
    }

    /// Moves a channel to `position`, which is known from then on. Returns its id, and the
    /// position if it is a different one. In that case all kept publications are removed, because
    /// they do not lead there.
    fn settle(
        &mut self,
        name: &ChannelName,
        namespace: &Arc<Namespace>,
        position: Position,
    ) -> (HomeId, Option<Position>) {
        let Some(id) = self.channels.find(name.as_str()) else {
            return (self.insert(Resolved { name, namespace }, position), None);
        };
        let life = self.next_life();
        let channel = self.channel(id);
        channel.known = true;
        if channel.position() == position {
            return (id, None);
        }
        self.drop_kept(id);
        let channel = self.channel(id);
        channel.life = life;
        // Until the epoch ends, no client is told the position.
        channel.repeats =
            position.epoch == channel.epoch && (channel.repeats || position.offset < channel.top);
        (channel.epoch, channel.top) = (position.epoch, position.offset);
        if let Some(kept) = channel.kept.as_mut() {
            (kept.redis_may_have_older, kept.forgotten) = (namespace.durable_history, 0);
        }
        self.settle_charge(id);
        (id, Some(position))
    }

    /// Removes all kept publications of a channel.
    fn drop_kept(&mut self, id: HomeId) {
        let (channel, totals) = self.channel_and_totals(id);
        let dropped = channel.kept.as_mut().map_or(0, |kept| kept.history.trim(0, totals));
        self.count_eviction(Eviction::Unverified, dropped);
    }
}
