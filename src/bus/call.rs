//! What the bus asks of whoever speaks to Redis, and what it is told of it.

use super::EntryId;
use super::append::{Append, AppendFailed, Appended};
use super::locate::{Stand, Tops};
use super::older::Older;
use super::probe::{Probe, Probed, RunId};
use crate::mesh::Found;

/// A call to make. At most `BUS_CALLS_MAX` are under way, one that reads histories, and a probe of
/// each server; what gathers meanwhile is one batch.
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
    /// Ask whether a batch would be appended.
    Probe(Probe),
}

/// What became of a call.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The stream's epoch with its last entry, and the process that has said so. Absent if that was
    /// not to be had.
    Fenced(usize, Option<(EntryId, RunId)>),
    /// The batch is in the stream, or not.
    Appended(usize, Result<Appended, AppendFailed>),
    /// Where the channels stand. Absent if that was not to be had.
    Located(usize, Option<Stand>),
    /// What the histories have. Absent if that was not to be had.
    Read(usize, Option<Vec<Found>>),
    /// A batch would be appended to this stream, or not.
    Probed(usize, Result<Probed, AppendFailed>),
}
