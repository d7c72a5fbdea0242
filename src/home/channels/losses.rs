//! Losses of the bus: all channels of a stream may have missed something.
//!
//! There may be a million of them, so a turn finds some, and a channel that is used before its turn
//! is found then. Nobody can tell that from finding all at once.

use std::collections::VecDeque;

use super::Channels;
use crate::bus::stream_of;
use crate::channel::ChannelName;
use crate::limits::LOSSES_MAX;

/// Losses of which some channels have not heard.
#[derive(Default)]
pub(super) struct Losses {
    /// Number of the last loss, counted round: a channel has no room for more than a byte.
    last: u8,
    /// At most [`LOSSES_MAX`], so that numbers of losses tell them apart.
    walks: VecDeque<Walk>,
}

struct Walk {
    stream: usize,
    streams: usize,
    /// The next place in the table to look at.
    at: usize,
}

impl Losses {
    /// Number of the last loss: later channels are not concerned by it.
    pub(super) fn last(&self) -> u8 {
        self.last
    }
}

impl Channels {
    /// Something of a stream was lost: its channels may have missed something.
    pub fn lose(&mut self, stream: usize, streams: usize) {
        self.losses.last = self.losses.last.wrapping_add(1);
        self.losses.walks.push_back(Walk { stream, streams, at: 0 });
    }

    /// Whether there are as many of these as there may be.
    pub fn has_many_losses(&self) -> bool {
        self.losses.walks.len() >= LOSSES_MAX
    }

    /// Whether there are losses of which some channels have not heard.
    pub fn has_losses(&self) -> bool {
        !self.losses.walks.is_empty()
    }

    /// Lets a channel hear of losses before it is used. Returns whether it is adrift by that, and
    /// somebody listens to it.
    pub fn hear(&mut self, name: &ChannelName) -> bool {
        self.has_losses()
            && self.channels.find(name.as_str()).is_some_and(|place| self.hear_at(place).is_some())
    }

    /// Lets the channels at up to `steps_max` places hear of losses. Returns those that are adrift
    /// by that, and somebody listens to.
    pub fn hear_some(&mut self, steps_max: usize) -> Vec<ChannelName> {
        let Some(walk) = self.losses.walks.front_mut() else { return Vec::new() };
        let (begin, end) = (walk.at, self.channels.reached());
        walk.at = end.min(begin + steps_max);
        let places = begin as u32..walk.at as u32;
        if walk.at == end {
            // For this call it is still needed.
            let adrift = places.filter_map(|place| self.hear_at(place)).collect();
            self.losses.walks.pop_front();
            return adrift;
        }
        places.filter_map(|place| self.hear_at(place)).collect()
    }

    fn hear_at(&mut self, place: u32) -> Option<ChannelName> {
        let last = self.losses.last;
        let channel = self.channels.at(place)?;
        let heard = std::mem::replace(&mut channel.heard, last);
        if heard == last {
            return None;
        }
        let name = channel.name.clone();
        // A walk ends when all channels have heard of its loss.
        let count = usize::from(last.wrapping_sub(heard));
        let mut news = self.losses.walks.iter().rev().take(count);
        let concerned = news.any(|walk| stream_of(name.as_str(), walk.streams) == walk.stream);
        (concerned && self.set_adrift_one(&name)).then_some(name)
    }
}
