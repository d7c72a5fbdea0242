//! Channels with an unverified position: they may have missed publications of the bus, and have
//! subscribers. Their positions are requested in turn. Channels without subscribers are forgotten
//! instead.

use std::collections::VecDeque;

use super::channels::Channels;
use crate::channel::ChannelName;
use crate::limits::WALK_STEPS_MAX;

/// The channels whose positions are still to be requested, in order.
#[derive(Default)]
pub(super) struct Unverified {
    queue: VecDeque<ChannelName>,
}

impl Unverified {
    /// Handles a report that channels of a stream may have missed publications.
    pub(super) fn on_loss(&mut self, channels: &mut Channels, stream: usize, streams: usize) {
        // The number of losses is bounded, because a channel tells them apart by a byte.
        while channels.has_many_losses() {
            self.hear_some(channels);
        }
        channels.lose(stream, streams);
    }

    /// Handles a report that publications of one channel were dropped on the way to this shard.
    pub(super) fn on_lost(&mut self, channels: &mut Channels, channel: &ChannelName) {
        if channels.set_unverified(channel) {
            self.add(channel.clone());
        }
    }

    /// Applies losses to a channel before it is used.
    pub(super) fn hear(&mut self, channels: &mut Channels, channel: &ChannelName) {
        if channels.hear(channel) {
            self.add(channel.clone());
        }
    }

    /// Tells some more channels about losses.
    pub(super) fn hear_some(&mut self, channels: &mut Channels) {
        self.queue.extend(channels.hear_some(WALK_STEPS_MAX));
    }

    /// Adds a channel.
    pub(super) fn add(&mut self, channel: ChannelName) {
        self.queue.push_back(channel);
    }

    /// Removes and returns the next channel.
    pub(super) fn next(&mut self) -> Option<ChannelName> {
        self.queue.pop_front()
    }
}
