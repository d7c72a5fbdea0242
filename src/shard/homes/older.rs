//! Histories that Redis keeps for single channels: what of them is not here and is asked for, and
//! what becomes of it. Once it is here it serves everybody, so that many who come back cost Redis
//! one call.

use super::{Home, Homes};
use crate::channel::ChannelName;
use crate::ids::{Moment, Position, Since};
use crate::limits::{BUS_OLDER_PAUSE, RECOVERY_PUBLICATIONS_MAX};
use crate::mesh::Found;
use crate::protocol::HistoryPage;

impl Homes {
    /// The offset before which Redis is to be asked, to recover what came after `since`; nothing if
    /// there is no need, or no use.
    pub fn lacks_to_recover(&self, now: Moment, name: &str, since: Since) -> Option<u64> {
        let home = self.channels.get(name)?;
        let first = home.first_to_ask(now)?;
        let missed = home.top.checked_sub(since.offset)?;
        let possible = missed <= RECOVERY_PUBLICATIONS_MAX.min(home.namespace.history_size) as u64;
        let lacks = since.epoch.matches(home.epoch) && since.offset + 1 < first;
        (possible && lacks).then_some(first)
    }

    /// The same for a page of history.
    pub fn lacks_of_page(&self, now: Moment, name: &str, page: HistoryPage) -> Option<u64> {
        let home = self.channels.get(name)?;
        let first = home.first_to_ask(now)?;
        let limit = u64::try_from(page.limit).unwrap_or(u64::MAX);
        let lacks = match page.since {
            Some(since) if !since.epoch.matches(home.epoch) => false,
            // Those below the offset that are here.
            Some(since) if page.reverse => since.offset.saturating_sub(first) < limit,
            Some(since) => since.offset + 1 < first,
            None if page.reverse => (home.history.len() as u64) < limit,
            None => true,
        };
        (page.limit != 0 && lacks).then_some(first)
    }

    /// Adds what Redis keeps before offset `before`, as far as there is room for it.
    pub fn prepend(&mut self, now: Moment, name: &ChannelName, before: u64, found: Found) {
        let Some(home) = self.channels.get_mut(name) else { return };
        if home.epoch != found.epoch || home.first() != before {
            // The channel has moved on since it was asked for.
            return;
        }
        home.more = !found.complete;
        for (left, publication) in found.publications {
            let follows = publication.offset + 1 == home.first();
            let wanted = publication.offset > home.forgotten && !left.is_zero();
            let room = home.history.len() < home.namespace.history_size
                && self.bytes + publication.cost_bytes() <= self.bytes_max;
            if !follows || !wanted || !room {
                home.more = false;
                break;
            }
            self.bytes += publication.cost_bytes();
            self.stored_live += 1;
            home.history.push_front(publication, now.after(left));
        }
        if home.first() < before {
            // They go first when room is needed.
            let last = Position { epoch: home.epoch, offset: before - 1 };
            self.stored.push_front((name.clone(), last));
        }
        self.retire(now, name);
    }

    /// Redis can't say at present what it keeps of a channel.
    pub fn ask_later(&mut self, now: Moment, name: &ChannelName) {
        if let Some(home) = self.channels.get_mut(name) {
            home.ask_from = now.after(BUS_OLDER_PAUSE);
        }
    }
}

impl Home {
    /// Offset of the oldest publication here, or of the next one.
    fn first(&self) -> u64 {
        self.history.first_offset().unwrap_or(self.top + 1)
    }

    /// The same, if Redis may keep some before it and may be asked.
    fn first_to_ask(&self, now: Moment) -> Option<u64> {
        let first = self.first();
        let room = self.history.len() < self.namespace.history_size;
        let possible = self.more && room && first > self.forgotten + 1;
        (possible && now >= self.ask_from).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::channel::{Namespace, Publication};
    use crate::config::Config;
    use crate::ids::{Epoch, SinceEpoch};

    const TTL: Duration = Duration::from_secs(60);
    const EPOCH: Epoch = Epoch::new(7);
    const TOP: u64 = 20;

    /// A channel of which this node knows that it stands at [`TOP`], and has nothing.
    fn homes(history_size: usize, bytes_max: usize) -> (Homes, ChannelName) {
        let namespaces = Config::default().namespaces();
        let plain = namespaces.resolve("c").expect("it is one");
        let durable = Namespace { durable_history: true, history_size, ..Namespace::clone(plain) };
        let namespace = Arc::new(Namespace { history_ttl: TTL, ..durable });
        let (mut homes, name) = (Homes::new(bytes_max, 1), ChannelName::new("c"));
        homes.locate((&name, &namespace), Position { epoch: EPOCH, offset: TOP });
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
        let lacks = |homes: &Homes, offset| homes.lacks_to_recover(now, "c", since(offset));
        assert_eq!(lacks(&homes, TOP), None, "nothing was missed");
        assert_eq!(lacks(&homes, 10), Some(TOP + 1));
        let other = Since { epoch: SinceEpoch::Exactly(Epoch::new(8)), offset: 10 };
        assert_eq!(homes.lacks_to_recover(now, "c", other), None, "it would not help");
        homes.prepend(now, &name, TOP + 1, found(11..=TOP, false));
        assert_eq!(lacks(&homes, 10), None);
        assert_eq!(lacks(&homes, 9), Some(11));
        homes.prepend(now, &name, TOP + 1, found(15..=TOP, false));
        assert_eq!(lacks(&homes, 10), None, "an answer that comes twice changes nothing");
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
        let kept = |homes: &Homes| homes.channels["c"].history.len();
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
        assert_eq!(narrow.lacks_to_recover(now, "c", since(10)), None, "or it would ask for ever");
        let (mut cleared, name) = homes(100, 1 << 20);
        cleared.history_remove(now, &name);
        cleared.prepend(now, &name, TOP + 1, found(5..=TOP, true));
        assert_eq!(kept(&cleared), 0, "an answer that was under way brings nothing back");
    }
}
