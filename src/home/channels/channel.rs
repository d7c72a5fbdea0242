//! One channel at home.

use std::sync::Arc;

use super::history::History;
use super::interest::Interested;
use super::links::Links;
use crate::channel::{ChannelName, Namespace, Publication};
use crate::collections::Named;
use crate::ids::{Epoch, Moment, Position};
use crate::limits::{CHANNEL_POSITION_BYTES, RECOVERY_BYTES_MAX, RECOVERY_PUBLICATIONS_MAX};

/// The state that every channel has.
pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) namespace: Arc<Namespace>,
    pub(super) epoch: Epoch,
    /// Offset of the last publication; 0 before the first one.
    pub(super) top: u64,
    pub(super) interested: Interested,
    /// State that only a channel with publications has.
    pub(super) kept: Option<Box<Kept>>,
    /// A number that distinguishes this use of the place in the table from earlier ones: another
    /// channel, or the same one before its position moved.
    pub(super) life: u32,
    /// True when every publication up to `top` has been seen. It is always true without a bus.
    pub(super) known: bool,
    /// Whether the bus has assigned an offset of this epoch for the second time.
    pub(super) repeats: bool,
    /// Whether the position is charged to the bytes for histories.
    pub(super) charged: bool,
    /// Number of the last loss of the bus that the channel has been told about.
    pub(super) heard: u8,
}

const _: () =
    assert!(size_of::<Option<Channel>>() <= 80, "a channel without publications must be small");

/// The state of a channel with publications.
pub(super) struct Kept {
    pub(super) history: History,
    /// Whether Redis may have older publications than this shard.
    pub(super) redis_may_have_older: bool,
    /// Offset of the last publication removed on request.
    pub(super) forgotten: u64,
    /// Time before which no older publications are requested from Redis.
    pub(super) ask_from: Moment,
    /// The links of the list of deadlines.
    pub(super) links: Links,
}

impl Named for Channel {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Channel {
    /// Returns the position of the channel.
    pub(super) fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// Returns the state for publications, and creates it if necessary.
    pub(super) fn kept(&mut self) -> &mut Kept {
        let durable = self.namespace.durable_history;
        self.kept.get_or_insert_with(|| {
            Box::new(Kept {
                history: History::default(),
                redis_may_have_older: durable,
                forgotten: 0,
                ask_from: Moment::default(),
                links: Links::default(),
            })
        })
    }

    /// Returns the number of kept publications.
    pub(super) fn history_len(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.history.len())
    }

    /// Returns the offset of the oldest kept publication.
    pub(super) fn first_offset(&self) -> Option<u64> {
        self.kept.as_ref()?.history.first_offset()
    }

    /// Whether the channel has neither listeners nor publications.
    pub(super) fn is_idle(&self) -> bool {
        self.interested.is_empty() && self.history_len() == 0
    }

    /// Whether clients may know positions of the channel, which must not be assigned again, or
    /// whether the bus has assigned one again.
    pub(super) fn has_positions(&self) -> bool {
        (self.top > 0 || self.repeats) && self.namespace.has_history()
    }

    /// Returns the bytes that are charged while the channel is kept only for its position.
    pub(super) fn position_bytes(&self) -> usize {
        CHANNEL_POSITION_BYTES + self.name.as_str().len()
    }

    /// Returns all publications after `offset`. `None` if one of them was removed or there are too
    /// many.
    pub(super) fn recover(&self, now: Moment, offset: u64) -> Option<Vec<Arc<Publication>>> {
        let missed = self.top.checked_sub(offset)?;
        if missed == 0 {
            return Some(Vec::new());
        }
        let history = &self.kept.as_ref()?.history;
        let first = history.first_offset_at(now)?;
        if missed > RECOVERY_PUBLICATIONS_MAX as u64 || first > offset + 1 {
            return None;
        }
        let begin = if crate::sabotage!(OffsetOffByOne) { offset + 1 } else { offset };
        let publications: Vec<_> = history.after(begin).cloned().collect();
        let data_type = self.namespace.data;
        let bytes: usize =
            publications.iter().map(|publication| publication.recovery_bytes(data_type)).sum();
        // Recovery returns all missed publications or none, because a client could not see a cut.
        (bytes <= RECOVERY_BYTES_MAX).then_some(publications)
    }
}
