//! Losses of the bus, after which all channels of a stream may have missed publications.
//!
//! A stream may have a million channels. So each turn tells some of them, in a walk over the table,
//! and a channel that is used before that is told first. For clients, the effect is the same as if
//! all channels were told at the same time.

use std::collections::VecDeque;
use std::ops::Range;

use crate::bus::stream_of;
use crate::limits::LOSSES_MAX;

/// Losses that some channels have not been told about.
#[derive(Default)]
pub(super) struct Losses {
    /// Number of the last loss. It wraps, because a channel has room for only one byte.
    last: u8,
    /// At most [`LOSSES_MAX`], so that all losses have different numbers.
    walks: VecDeque<Walk>,
}

struct Walk {
    stream: usize,
    streams: usize,
    /// The next place in the table to visit.
    at: usize,
}

impl Losses {
    /// Returns the number of the last loss. It does not concern channels that are created later.
    pub(super) fn last(&self) -> u8 {
        self.last
    }

    /// Adds a loss of a stream.
    pub(super) fn add(&mut self, stream: usize, streams: usize) {
        self.last = self.last.wrapping_add(1);
        self.walks.push_back(Walk { stream, streams, at: 0 });
    }

    /// Whether the maximum number of losses is reached.
    pub(super) fn are_many(&self) -> bool {
        self.walks.len() >= LOSSES_MAX
    }

    /// Whether all channels have been told about all losses.
    pub(super) fn is_empty(&self) -> bool {
        self.walks.is_empty()
    }

    /// Whether a loss concerns the channel `name`, which has been told about all losses up to
    /// number `heard`.
    pub(super) fn concern(&self, name: &str, heard: u8) -> bool {
        // A walk ends when all channels have been told about its loss. So the last walks are the
        // losses that this channel has not been told about.
        let count = usize::from(self.last.wrapping_sub(heard));
        let mut news = self.walks.iter().rev().take(count);
        news.any(|walk| stream_of(name, walk.streams) == walk.stream)
    }

    /// Returns the numbers of the next places whose channels must be told about the oldest loss: at
    /// most `steps_max`, and all below `end`. The range is empty if there is no loss.
    pub(super) fn next_places(&mut self, end: usize, steps_max: usize) -> Range<u32> {
        let Some(walk) = self.walks.front_mut() else { return 0..0 };
        let begin = walk.at;
        walk.at = end.min(begin + steps_max);
        begin as u32..walk.at as u32
    }

    /// Removes the oldest loss if its walk has reached `end`. The channels at the last places must
    /// have been told about it before.
    pub(super) fn end_walk(&mut self, end: usize) {
        if self.walks.front().is_some_and(|walk| walk.at == end) {
            self.walks.pop_front();
        }
    }
}
