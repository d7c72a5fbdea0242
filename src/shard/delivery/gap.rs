//! Gaps: the places in a channel's log where publications are missing.

use crate::ids::{LocalId, Position};

/// Publications of a channel that were lost on the way to this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The channel.
    pub place: LocalId,
    /// Where subscribers stand that have been given everything before the gap.
    pub last: Position,
    /// The first offset after the gap.
    pub next: u64,
    /// What can be done about it.
    pub remedy: Remedy,
}

/// What can be done for a subscriber that does not come back for what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The channel's home may have it.
    AskHome,
    /// It is lost, so a notice is all.
    Notice,
}
