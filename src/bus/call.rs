//! What the bus asks of whoever speaks to Redis, and what it is told of it.

use super::append::{Append, AppendFailed, Appended};
use super::locate::{Stand, Tops};
use super::older::Older;
use super::probe::{Probe, Probed, RunId};
use super::{EntryId, FORMAT, Keys};
use crate::mesh::Found;

/// A call to make. At most `BUS_CALLS_MAX` are under way, one that reads histories, and a probe of
/// each server; what gathers meanwhile is one batch.
#[derive(Clone, Debug)]
pub enum Call {
    /// Take a stream over.
    Fence {
        /// Which.
        stream: usize,
        /// The last entry that this node has seen of it: a stream that ends before was set back.
        seen: EntryId,
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

/// Keys and arguments of the script that takes a stream over, for a node that has seen the stream's
/// entry `seen`.
pub fn fence_keys_and_args(
    keys: &Keys,
    stream: usize,
    seen: EntryId,
) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let names = vec![
        keys.stream(stream),
        keys.meta(stream),
        keys.marks(stream),
        keys.places(stream),
        keys.silent(stream),
    ];
    let numbers = [seen.epoch, seen.number, FORMAT];
    (names, numbers.map(|number| number.to_string().into_bytes()).to_vec())
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
