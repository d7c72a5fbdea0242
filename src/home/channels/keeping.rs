//! Keeping of publications and positions: charges, deadlines, and removals within the bytes for
//! histories.

use std::sync::Arc;

use super::Channels;
use super::channel::Channel;
use super::history::Totals;
use super::links::{Deadline, Wait, tick_from};
use super::stored::Stored;
use crate::channel::Publication;
use crate::ids::{HomeId, Moment};
use crate::limits::{
    CHANNEL_META_TTL, CHANNEL_POSITION_BYTES, EXPIRED_PER_USE, IDLE_POSITIONS_SHARE,
};
use crate::reason::Eviction;

impl Channels {
    /// Keeps an ordered publication, within the options of the namespace and the bytes for
    /// histories.
    pub(super) fn keep(&mut self, now: Moment, id: HomeId, publication: &Arc<Publication>) {
        let (channel, totals) = self.channel_and_totals(id);
        assert_eq!(publication.offset, channel.top, "the newest publication has the top offset");
        let expiry = now.after(channel.namespace.history_ttl);
        let size = channel.namespace.history_size;
        let life = channel.life;
        let history = &mut channel.kept().history;
        history.expire(now, EXPIRED_PER_USE, totals);
        history.push(Arc::clone(publication), expiry, totals);
        history.trim(size, totals);
        self.stored.push(Stored { channel: id, life, offset: publication.offset });
        self.sift(1);
        self.settle_charge(id);
        self.settle_deadline(now, id);
        // This is the last step, because it may remove even the publication that was just kept.
        self.keep_within_bytes(now);
    }

    /// Removes stale entries from the order of publications, after `count` publications were added
    /// or removed. So only few of them are left when room is needed.
    pub(super) fn sift(&mut self, count: usize) {
        let channels = &self.channels;
        self.stored.sift(count, self.totals.publications, |one| {
            let channel = channels.get(one.channel).filter(|channel| channel.life == one.life);
            let first = channel.and_then(Channel::first_offset);
            first.is_some_and(|first| first <= one.offset)
        });
    }

    /// Removes a part of the expired publications of a channel. Clients never see the remaining
    /// ones.
    pub(super) fn expire_some(&mut self, now: Moment, id: HomeId) {
        let (channel, totals) = self.channel_and_totals(id);
        if let Some(kept) = channel.kept.as_mut() {
            kept.history.expire(now, EXPIRED_PER_USE, totals);
        }
    }

    /// Charges a channel without listeners that is kept for its publications or its position. A
    /// channel with listeners counts as in use instead. A channel without publications is not kept.
    pub(super) fn settle_charge(&mut self, id: HomeId) {
        let (channel, totals) = self.channel_and_totals(id);
        let charged = channel.has_positions() && channel.interested.is_empty();
        match (channel.charged, charged) {
            (false, true) => totals.bytes += channel.position_bytes(),
            (true, false) => totals.discharge(channel.position_bytes()),
            _ => {}
        }
        channel.charged = charged;
    }

    /// Updates the deadline of a channel.
    pub(super) fn settle_deadline(&mut self, now: Moment, id: HomeId) {
        let channel = self.channel(id);
        let expiry = channel.kept.as_ref().and_then(|kept| kept.history.first_expiry());
        let wanted = match expiry {
            Some(expiry) => Some(Deadline { wait: Wait::Expiry, tick: tick_from(expiry) }),
            None if channel.is_idle() => {
                let tick = tick_from(now.after(CHANNEL_META_TTL));
                Some(Deadline { wait: Wait::Idle, tick })
            }
            None => None,
        };
        if wanted.is_none() && channel.kept.is_none() {
            return;
        }
        // An early deadline costs only one check. An unused channel keeps its first deadline.
        let before = channel.kept().links.deadline();
        let keeps = match (before, wanted) {
            (Some(before), Some(wanted)) => {
                before.wait == wanted.wait && before.tick <= wanted.tick
            }
            (None, None) => true,
            _ => false,
        };
        if !keeps {
            self.deadlines.remove(&mut self.channels, id);
            if let Some(wanted) = wanted {
                self.deadlines.insert(&mut self.channels, id, wanted);
            }
        }
    }

    /// Removes an unused channel, or sets a deadline for that. If clients know positions of it, its
    /// last position is kept for a while.
    pub(super) fn retire(&mut self, now: Moment, id: HomeId) {
        let channel = self.channel(id);
        if channel.is_idle() && !channel.has_positions() {
            return self.forget(id);
        }
        self.settle_charge(id);
        self.settle_deadline(now, id);
    }

    /// Removes the oldest publications and the positions of unused channels. If there are many
    /// positions, they go first, because a publisher to many names must not displace the histories
    /// of others.
    pub(super) fn keep_within_bytes(&mut self, now: Moment) {
        while self.totals.bytes > self.bytes_max {
            let idle_bytes = self.deadlines.idle() * CHANNEL_POSITION_BYTES;
            let many_idle = idle_bytes > self.bytes_max / IDLE_POSITIONS_SHARE;
            if many_idle && self.evict_idlest() {
                continue;
            }
            match self.stored.pop() {
                Some(stored) => self.evict_stored(now, stored),
                None if self.evict_idlest() => {}
                None => break,
            }
        }
        assert!(self.totals.bytes <= self.bytes_max, "all charged entries can be removed");
    }

    fn evict_stored(&mut self, now: Moment, stored: Stored) {
        let totals = &mut self.totals;
        let channel =
            self.channels.at(stored.channel).filter(|channel| channel.life == stored.life);
        // The entry may be stale: its channel has been removed, or has moved to another position.
        let Some(channel) = channel else { return };
        let durable = channel.namespace.durable_history;
        let Some(kept) = channel.kept.as_mut() else {
            unreachable!("a channel keeps the state for publications until its life ends")
        };
        let dropped = kept.history.drop_until(stored.offset, totals);
        if dropped > 0 {
            kept.redis_may_have_older = durable;
            self.count_eviction(Eviction::Bytes, dropped);
            self.retire(now, stored.channel);
        }
    }

    fn evict_idlest(&mut self) -> bool {
        let Some(id) = self.deadlines.idlest() else { return false };
        self.count_eviction(Eviction::Position, 1);
        self.forget(id);
        true
    }

    pub(super) fn count_eviction(&mut self, reason: Eviction, count: usize) {
        self.evictions[reason as usize] += count as u64;
    }

    /// Recounts all sums. Returns the number of wrong ones. Only for audits.
    pub fn audit(&self) -> usize {
        let mut totals = Totals::default();
        let (mut in_use, mut idle) = (0, 0);
        for channel in self.channels.iter() {
            let kept = channel.kept.as_ref();
            totals.bytes += kept.map_or(0, |kept| kept.history.cost_bytes());
            totals.publications += channel.history_len();
            in_use += usize::from(!channel.interested.is_empty());
            if channel.has_positions() && channel.interested.is_empty() {
                totals.bytes += channel.position_bytes();
                idle += usize::from(channel.history_len() == 0);
            }
        }
        usize::from(totals != self.totals)
            + usize::from(in_use != self.in_use)
            + usize::from(idle != self.deadlines.idle())
            + usize::from(self.totals.bytes > self.bytes_max)
    }
}
