//! The neighbours of a channel in a list of deadlines, as the channel itself keeps them.

use crate::ids::{HomeId, Moment, Tick};

/// The purpose of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// The oldest publication expires.
    Expiry,
    /// The channel is removed, because it has only a position and no listeners.
    Idle,
}

/// A deadline. Deadlines are ordered by their purpose first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    pub(super) wait: Wait,
    /// The tick's number.
    pub(super) tick: u32,
}

/// The links of a channel in its list of deadlines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) list: Option<Deadline>,
    pub(super) previous: HomeId,
    pub(super) next: HomeId,
}

impl Default for Links {
    fn default() -> Links {
        Links { list: None, previous: HomeId::NONE, next: HomeId::NONE }
    }
}

impl Links {
    /// Returns the deadline, if there is one.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.list
    }
}

/// Returns the first tick that does not begin before `moment`.
pub(super) fn tick_from(moment: Moment) -> u32 {
    moment.nanos().div_ceil(Tick::NANOS).min(u64::from(u32::MAX)) as u32
}
