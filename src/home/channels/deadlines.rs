//! Deadlines of channels: the expiry of the oldest publication, or the end of an unused channel.
//! Channels with the same deadline form a linked list through the channels themselves. So each
//! channel is in at most one list, and a removed channel leaves nothing behind.

use std::collections::BTreeMap;

use super::channel::Channel;
use super::links::{Deadline, Links, NONE, Wait};
use crate::collections::Table;
use crate::ids::Moment;

/// The first channel of each list.
#[derive(Default)]
pub(super) struct Deadlines {
    first: BTreeMap<Deadline, u32>,
    idle: usize,
}

impl Deadlines {
    /// Returns the number of channels that are kept only for their position.
    pub(super) fn idle(&self) -> usize {
        self.idle
    }

    /// Returns a channel whose deadline has passed, and the purpose of the deadline.
    pub(super) fn due(&self, now: Moment) -> Option<(u32, Wait)> {
        let due = |(deadline, place): (&Deadline, &u32)| {
            (deadline.1 <= now.tick().index()).then_some((*place, deadline.0))
        };
        // Deadlines are ordered by their purpose first, so the first one of each purpose is
        // checked.
        self.first.iter().next().and_then(due).or_else(|| self.first_idle().and_then(due))
    }

    /// Returns the channel that has been unused for the longest time, to within a tick.
    pub(super) fn idlest(&self) -> Option<u32> {
        self.first_idle().map(|(_, place)| *place)
    }

    fn first_idle(&self) -> Option<(&Deadline, &u32)> {
        self.first.range((Wait::Idle, 0)..).next()
    }

    /// Sets the deadline of the channel at `place`, which must have none.
    pub(super) fn insert(&mut self, channels: &mut Table<Channel>, place: u32, deadline: Deadline) {
        let next = self.first.insert(deadline, place).unwrap_or(NONE);
        if next != NONE {
            links(channels, next).previous = place;
        }
        let own = links(channels, place);
        assert!(own.list.is_none(), "a channel has one deadline at most");
        *own = Links { list: Some(deadline), previous: NONE, next };
        self.idle += usize::from(deadline.0 == Wait::Idle);
    }

    /// Removes the deadline of the channel at `place`, if it has one.
    pub(super) fn remove(&mut self, channels: &mut Table<Channel>, place: u32) {
        let Some(channel) = channels.at(place) else {
            unreachable!("a channel loses its deadline before its place")
        };
        // A channel that never had publications or a deadline has no links.
        let Some(kept) = channel.kept.as_mut() else { return };
        let Links { list, previous, next } = std::mem::take(&mut kept.links);
        let Some(deadline) = list else { return };
        if previous != NONE {
            links(channels, previous).next = next;
        } else if next == NONE {
            self.first.remove(&deadline);
        } else {
            self.first.insert(deadline, next);
        }
        if next != NONE {
            links(channels, next).previous = previous;
        }
        self.idle -= usize::from(deadline.0 == Wait::Idle);
    }
}

/// The links of the channel at `place`, which has or gets a deadline.
fn links(channels: &mut Table<Channel>, place: u32) -> &mut Links {
    let kept = channels.at(place).and_then(|channel| channel.kept.as_mut());
    let Some(kept) = kept else {
        unreachable!("a channel in a list of deadlines exists and has links")
    };
    &mut kept.links
}
