//! Histories that Redis keeps for single channels: what of them is not here and is asked for, and
//! what becomes of it. Once it is here it serves everybody, so that many who come back cost Redis
//! one call.

use super::{Home, Homes};
use crate::channel::ChannelName;
use crate::ids::{Moment, Since};
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
        if let Some(first) = home.history.first_offset().filter(|first| *first < before) {
            // They go first when room is needed.
            let last = crate::ids::Position { epoch: home.epoch, offset: before - 1 };
            debug_assert!(first <= last.offset, "something was added");
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
