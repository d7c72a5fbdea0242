//! The table of the channels of a home.

use super::channel::Channel;
use crate::collections::Table;
use crate::ids::HomeId;

/// All channels of a home. A [`HomeId`] is the place of one of them.
#[derive(Default)]
pub(super) struct ChannelTable {
    channels: Table<Channel>,
}

impl ChannelTable {
    /// Adds a channel whose name is not present.
    pub(super) fn insert(&mut self, channel: Channel) -> HomeId {
        HomeId::new(self.channels.insert(channel))
    }

    /// Removes and returns a channel.
    pub(super) fn remove(&mut self, id: HomeId) -> Option<Channel> {
        self.channels.remove(id.index())
    }

    /// Returns a channel, mutably.
    pub(super) fn at(&mut self, id: HomeId) -> Option<&mut Channel> {
        self.channels.at(id.index())
    }

    /// Returns a channel.
    pub(super) fn get(&self, id: HomeId) -> Option<&Channel> {
        self.channels.get(id.index())
    }

    /// Finds the channel called `name`.
    pub(super) fn find(&self, name: &str) -> Option<HomeId> {
        self.channels.find(name).map(HomeId::new)
    }

    /// Returns the number of channels.
    pub(super) fn count(&self) -> usize {
        self.channels.count()
    }

    /// Returns an upper bound of the numbers of all places.
    pub(super) fn reached(&self) -> usize {
        self.channels.reached()
    }

    /// Iterates over all channels, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().map(|(_, channel)| channel)
    }
}
