//! Deadlines of channels: the expiry of the oldest publication, or the end of an unused channel.
//! Channels with the same deadline form a linked list through the channels themselves. So each
//! channel is in at most one list, and a removed channel leaves nothing behind.

use std::collections::BTreeMap;

use super::links::{Deadline, Links, Wait};
use super::table::ChannelTable;
use crate::ids::{HomeId, Moment};

/// The first channel of each list.
#[derive(Default)]
pub(super) struct Deadlines {
    first: BTreeMap<Deadline, HomeId>,
    idle: usize,
}

impl Deadlines {
    /// Returns the number of channels that are kept only for their position.
    pub(super) fn idle(&self) -> usize {
        self.idle
    }

    /// Returns a channel whose deadline has passed, and the purpose of the deadline.
    pub(super) fn due(&self, now: Moment) -> Option<(HomeId, Wait)> {
        let due = |(deadline, id): (&Deadline, &HomeId)| {
            (deadline.tick <= now.tick().index()).then_some((*id, deadline.wait))
        };
        // Deadlines are ordered by their purpose first, so the first one of each purpose is
        // checked.
        self.first.iter().next().and_then(due).or_else(|| self.first_idle().and_then(due))
    }

    /// Returns the channel that has been unused for the longest time, to within a tick.
    pub(super) fn idlest(&self) -> Option<HomeId> {
        self.first_idle().map(|(_, id)| *id)
    }

    fn first_idle(&self) -> Option<(&Deadline, &HomeId)> {
        self.first.range(Deadline { wait: Wait::Idle, tick: 0 }..).next()
    }

    /// Sets the deadline of the channel `id`, which must have none.
    pub(super) fn insert(&mut self, channels: &mut ChannelTable, id: HomeId, deadline: Deadline) {
        let next = self.first.insert(deadline, id).unwrap_or(HomeId::NONE);
        if next != HomeId::NONE {
            links(channels, next).previous = id;
        }
        let own = links(channels, id);
        assert!(own.list.is_none(), "a channel has one deadline at most");
        *own = Links { list: Some(deadline), previous: HomeId::NONE, next };
        self.idle += usize::from(deadline.wait == Wait::Idle);
    }

    /// Removes the deadline of the channel `id`, if it has one.
    pub(super) fn remove(&mut self, channels: &mut ChannelTable, id: HomeId) {
        let Some(channel) = channels.at(id) else {
            unreachable!("a channel loses its deadline before its id")
        };
        // A channel that never had publications or a deadline has no links.
        let Some(kept) = channel.kept.as_mut() else { return };
        let Links { list, previous, next } = std::mem::take(&mut kept.links);
        let Some(deadline) = list else { return };
        if previous != HomeId::NONE {
            links(channels, previous).next = next;
        } else if next == HomeId::NONE {
            self.first.remove(&deadline);
        } else {
            self.first.insert(deadline, next);
        }
        if next != HomeId::NONE {
            links(channels, next).previous = previous;
        }
        self.idle -= usize::from(deadline.wait == Wait::Idle);
    }
}

/// The links of the channel `id`, which has or gets a deadline.
fn links(channels: &mut ChannelTable, id: HomeId) -> &mut Links {
    let kept = channels.at(id).and_then(|channel| channel.kept.as_mut());
    let Some(kept) = kept else {
        unreachable!("a channel in a list of deadlines exists and has links")
    };
    &mut kept.links
}
