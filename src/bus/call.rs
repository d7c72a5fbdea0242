//! What the bus asks of whoever speaks to Redis, and what it is told of it.

use super::EntryId;
use super::append::{Append, AppendFailed, Appended};
use super::locate::{Stand, Tops};
use super::older::Older;
use crate::mesh::Found;

/// A call to make. At most `BUS_CALLS_MAX` are under way, and one that reads histories; what
/// gathers meanwhile is one batch.
#[derive(Clone, Debug)]
pub enum Call {
    /// Take a stream over.
    Fence {
        /// Which.
        stream: usize,
        /// The highest epoch that this node has seen of it.
        seen: u64,
    },
    /// Append a batch.
    Append(Append),
    /// Ask where channels stand.
    Tops(Tops),
    /// Read what histories have that this node has not.
    Older(Older),
}

/// What became of a call.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The stream's epoch and its last entry. Absent if that was not to be had.
    Fenced(usize, Option<EntryId>),
    /// The batch is in the stream, or not.
    Appended(usize, Result<Appended, AppendFailed>),
    /// Where the channels stand. Absent if that was not to be had.
    Located(usize, Option<Stand>),
    /// What the histories have. Absent if that was not to be had.
    Read(usize, Option<Vec<Found>>),
}
