//! Gaps: the places in a channel's log where publications are missing.

use crate::ids::{LocalId, Position};

/// A run of publications of a channel that were lost on the way to this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Place of the channel.
    pub place: LocalId,
    /// Position of a subscriber that has received everything before the gap.
    pub last: Position,
    /// The first offset after the gap.
    pub next: u64,
    /// How the gap can be treated.
    pub remedy: Remedy,
}

/// Treatment of a gap for a subscriber whose protocol has no way to ask for missed publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The channel's home may still have the publications.
    AskHome,
    /// The publications are lost. The subscriber only gets a notice.
    Notice,
}
