//! Durable histories, which Redis keeps for single channels. A home requests the publications that
//! it lacks, and then serves all clients from memory. So many returning clients cost Redis only one
//! call.

use super::Channels;
use super::channel::Channel;
use super::stored::Stored;
use crate::channel::ChannelName;
use crate::ids::{Moment, Since};
use crate::limits::{BUS_OLDER_PAUSE, RECOVERY_PUBLICATIONS_MAX};
use crate::mesh::Found;
use crate::protocol::HistoryPage;

impl Channels {
    /// Returns the offset before which publications must be read from Redis for a recovery from
    /// `since`. `None` if that is not necessary or not useful.
    pub fn lacks_to_recover(&self, now: Moment, name: &str, since: Since) -> Option<u64> {
        let channel = self.find(name)?;
        let first = channel.first_to_ask(now)?;
        let missed = channel.top.checked_sub(since.offset)?;
        let possible =
            missed <= RECOVERY_PUBLICATIONS_MAX.min(channel.namespace.history_size) as u64;
        let lacks = since.epoch.matches(channel.epoch) && since.offset + 1 < first;
        (possible && lacks).then_some(first)
    }

    /// Returns the offset before which publications must be read from Redis for a page of history,
    /// like [`Self::lacks_to_recover`].
    pub fn lacks_of_page(&self, now: Moment, name: &str, page: HistoryPage) -> Option<u64> {
        let channel = self.find(name)?;
        let first = channel.first_to_ask(now)?;
        let limit = u64::try_from(page.limit).unwrap_or(u64::MAX);
        let lacks = match page.since {
            Some(since) if !since.epoch.matches(channel.epoch) => false,
            // Memory has `since.offset - first` publications below the offset.
            Some(since) if page.reverse => since.offset.saturating_sub(first) < limit,
            Some(since) => since.offset.saturating_add(1) < first,
            None if page.reverse => (channel.history_len() as u64) < limit,
            None => true,
        };
        (page.limit != 0 && lacks).then_some(first)
    }

    /// Adds publications from Redis before the offset `before`, as far as there is room.
    pub fn prepend(&mut self, now: Moment, name: &ChannelName, before: u64, found: Found) {
        let Some(id) = self.channels.find(name.as_str()) else { return };
        let bytes_max = self.bytes_max;
        let (channel, totals) = self.channel_and_totals(id);
        if channel.epoch != found.epoch || channel.first() != before {
            // The channel has changed since the request.
            return;
        }
        channel.kept().redis_may_have_older = !found.complete;
        for (left, publication) in found.publications {
            let follows = publication.offset + 1 == channel.first();
            let wanted = publication.offset > channel.forgotten() && !left.is_zero();
            let room = channel.history_len() < channel.namespace.history_size
                && totals.bytes + publication.cost_bytes() <= bytes_max;
            if !follows || !wanted || !room {
                channel.kept().redis_may_have_older = false;
                break;
            }
            channel.kept().history.push_front(publication, now.after(left), totals);
        }
        if channel.first() < before {
            // These publications are removed first when room is needed.
            let oldest = Stored { channel: id, life: channel.life, offset: before - 1 };
            self.stored.push_oldest(oldest);
        }
        self.settle_deadline(now, id);
    }

    /// Notes that Redis can't return the history of a channel at the moment.
    pub fn ask_later(&mut self, now: Moment, name: &ChannelName) {
        if let Some(id) = self.channels.find(name.as_str()) {
            self.channel(id).kept().ask_from = now.after(BUS_OLDER_PAUSE);
        }
    }
}

impl Channel {
    /// Returns the offset of the oldest publication in memory, or of the next one.
    fn first(&self) -> u64 {
        self.first_offset().unwrap_or(self.top + 1)
    }

    /// Returns the same offset if Redis may have older publications and may be asked.
    fn first_to_ask(&self, now: Moment) -> Option<u64> {
        let first = self.first();
        let room = self.history_len() < self.namespace.history_size;
        let kept = self.kept.as_ref();
        let more = kept.map_or(self.namespace.durable_history, |kept| kept.redis_may_have_older);
        let pause_over = kept.is_none_or(|kept| now >= kept.ask_from);
        let possible = more && room && first > self.forgotten() + 1;
        (possible && pause_over).then_some(first)
    }

    /// Returns the offset of the last publication removed on request.
    fn forgotten(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::channel::{Namespace, Publication};
    use crate::home::channels::Resolved;
    use crate::ids::{Epoch, Position, SinceEpoch};
    use crate::pool::Pool;
    use crate::settings::Settings;

    const TTL: Duration = Duration::from_secs(60);
    const EPOCH: Epoch = Epoch::new(7);
    const TOP: u64 = 20;

    /// A channel whose known position is [`TOP`], without publications in memory.
    fn homes(history_size: usize, bytes_max: usize) -> (Channels, ChannelName) {
        let namespaces = Settings::default().channel.namespaces;
        let plain = namespaces.resolve("c").expect("it is one");
        let durable = Namespace { durable_history: true, history_size, ..Namespace::clone(plain) };
        let namespace = Arc::new(Namespace { history_ttl: TTL, ..durable });
        let (mut homes, name) =
            (Channels::new(bytes_max, 1, Pool::new(1, 1, 1)), ChannelName::new("c"));
        homes.locate(
            Resolved { name: &name, namespace: &namespace },
            Position { epoch: EPOCH, offset: TOP },
        );
        (homes, name)
    }

    fn found(offsets: std::ops::RangeInclusive<u64>, complete: bool) -> Found {
        let publication = |offset| Publication {
            data: Box::from(&b"1"[..]),
            offset,
            publisher: None,
            tags: Box::default(),
            accepted: Moment::default(),
        };
        let publications = offsets.rev().map(|offset| (TTL, Arc::new(publication(offset))));
        Found { epoch: EPOCH, publications: publications.collect(), complete }
    }

    fn since(offset: u64) -> Since {
        Since { epoch: SinceEpoch::Exactly(EPOCH), offset }
    }

    #[test]
    fn what_is_here_is_not_asked_for_again_and_what_is_not_is() {
        let (mut homes, name) = homes(100, 1 << 20);
        let now = Moment::default();
        let lacks = |homes: &Channels, offset| homes.lacks_to_recover(now, "c", since(offset));
        assert_eq!(lacks(&homes, TOP), None, "nothing was missed");
        assert_eq!(lacks(&homes, 10), Some(TOP + 1));
        let other = Since { epoch: SinceEpoch::Exactly(Epoch::new(8)), offset: 10 };
        assert_eq!(homes.lacks_to_recover(now, "c", other), None, "it would not help");
        homes.prepend(now, &name, TOP + 1, found(11..=TOP, false));
        assert_eq!(lacks(&homes, 10), None);
        assert_eq!(lacks(&homes, 9), Some(11));
        homes.prepend(now, &name, TOP + 1, found(15..=TOP, false));
        assert_eq!(lacks(&homes, 10), None, "a second answer changes nothing");
        homes.ask_later(now, &name);
        assert_eq!(lacks(&homes, 9), None);
        assert_eq!(homes.lacks_to_recover(now.after(BUS_OLDER_PAUSE), "c", since(9)), Some(11));
        homes.prepend(now, &name, 11, found(5..=10, true));
        let page = HistoryPage { limit: -1, since: None, reverse: false };
        assert_eq!(homes.lacks_of_page(now, "c", page), None, "there is no more");
    }

    #[test]
    fn pages_ask_only_for_what_they_show() {
        let (mut homes, name) = homes(100, 1 << 20);
        let now = Moment::default();
        homes.prepend(now, &name, TOP + 1, found(11..=TOP, false));
        for (limit, since_offset, reverse, lacks) in [
            (0, None, false, false),
            (1, None, false, true),
            (-1, None, true, true),
            (10, None, true, false),
            (11, None, true, true),
            (5, Some(10), false, false),
            (5, Some(9), false, true),
            (5, Some(u64::MAX), false, false),
            (5, Some(16), true, false),
            (5, Some(15), true, true),
        ] {
            let page = HistoryPage { limit, since: since_offset.map(since), reverse };
            let asked = homes.lacks_of_page(now, "c", page).is_some();
            assert_eq!(asked, lacks, "{limit} {since_offset:?} {reverse}");
        }
    }

    #[test]
    fn nothing_is_added_that_does_not_lead_here_or_has_no_room() {
        let now = Moment::default();
        let kept = |homes: &Channels| homes.find("c").map_or(0, Channel::history_len);
        let (mut lone, name) = homes(100, 1 << 20);
        lone.prepend(now, &name, TOP + 1, found(5..=TOP - 1, true));
        assert_eq!(kept(&lone), 0, "the last one is missing");
        let mut other = found(5..=TOP, true);
        other.epoch = Epoch::new(8);
        lone.prepend(now, &name, TOP + 1, other);
        assert_eq!(kept(&lone), 0, "another epoch");
        let (mut small, name) = homes(3, 1 << 20);
        small.prepend(now, &name, TOP + 1, found(5..=TOP, false));
        assert_eq!((kept(&small), small.lacks_to_recover(now, "c", since(16))), (3, None));
        let (mut narrow, name) = homes(100, 1000);
        narrow.prepend(now, &name, TOP + 1, found(5..=TOP, false));
        assert!(kept(&narrow) < 16 && narrow.bytes() <= 1000);
        assert_eq!(
            narrow.lacks_to_recover(now, "c", since(10)),
            None,
            "otherwise it would repeat the request forever"
        );
        let (mut cleared, name) = homes(100, 1 << 20);
        cleared.history_remove(now, &name);
        cleared.prepend(now, &name, TOP + 1, found(5..=TOP, true));
        assert_eq!(kept(&cleared), 0, "a late answer restores nothing");
    }
}
