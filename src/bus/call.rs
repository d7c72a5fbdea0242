//! Calls to Redis that the bus asks `bridge` to make, and their outcomes.

use super::append::{Append, AppendFailed, Appended};
use super::arguments::{argument, named_arguments};
use super::locate::{Stand, Tops};
use super::older::Older;
use super::probe::{Probe, Probed, RunId};
use super::{EntryId, FORMAT, Keys, Reply};
use crate::mesh::Found;

/// A call to make. At most `BUS_CALLS_MAX` appends and lookups of positions are in progress at the
/// same time. In addition there may be one fence of each stream, one read of histories, and one
/// probe of each server. Publications that arrive meanwhile form the next batch.
#[derive(Clone, Debug)]
pub enum Call {
    /// Fence a stream: check that its epoch belongs to the server, or begin a new epoch.
    Fence {
        /// Index of the stream.
        stream: usize,
        /// The last entry of it that this node knows of. If the stream ends before it, Redis has
        /// lost entries.
        seen: EntryId,
    },
    /// Append a batch.
    Append(Append),
    /// Look up the positions of channels.
    Tops(Tops),
    /// Read publications from durable histories that this node does not have.
    Older(Older),
    /// Check whether a batch would be appended.
    Probe(Probe),
}

named_arguments! {
    /// Keys of `fence.lua`.
    KEYS: struct FenceKeys {
        stream_key,
        meta_key,
        marks_key,
        places_key,
        silent_key,
    }
}

named_arguments! {
    /// Arguments of `fence.lua`.
    ARGV: struct FenceHead {
        /// Epoch of the last entry that the caller knows of.
        seen_epoch,
        /// Number of that entry.
        seen_number,
        /// The data format of the caller.
        format,
    }
}

/// Returns the keys and arguments of `fence.lua`, for a node that knows of the stream's entry
/// `seen`.
pub fn fence_keys_and_args(
    keys: &Keys,
    stream: usize,
    seen: EntryId,
) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let names = FenceKeys {
        stream_key: keys.stream(stream),
        meta_key: keys.meta(stream),
        marks_key: keys.marks(stream),
        places_key: keys.places(stream),
        silent_key: keys.silent(stream),
    };
    let head = FenceHead {
        seen_epoch: argument(seen.epoch),
        seen_number: argument(seen.number),
        format: argument(FORMAT),
    };
    (names.into_list(), head.into_list())
}

/// Reply of a server that has fenced a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// The stream's epoch, and the number of its last entry in that epoch.
    pub id: EntryId,
    /// The last entry of the epoch before, if the stream still has it.
    pub before: Option<EntryId>,
    /// The server process that replied.
    pub run: RunId,
}

impl Fenced {
    /// Parses the script's reply. Returns `None` if it has another form.
    pub fn answer(reply: &Reply) -> Option<Fenced> {
        let [epoch, number, _, run, before] = reply.list()? else { return None };
        Some(Fenced {
            id: EntryId { epoch: epoch.number()?, number: number.number()? },
            before: EntryId::parse(before.text()?),
            run: RunId::parse(run.text()?)?,
        })
    }
}

/// Outcome of a call. The first field of each variant is the stream.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The server has fenced the stream. `None` if that failed.
    Fenced(usize, Option<Fenced>),
    /// The batch is in the stream, or not.
    Appended(usize, Result<Appended, AppendFailed>),
    /// Positions of the channels. `None` if the lookup failed.
    Located(usize, Option<Stand>),
    /// Publications of the histories. `None` if the read failed.
    Read(usize, Option<Vec<Found>>),
    /// A batch would be appended to the stream, or not.
    Probed(usize, Result<Probed, AppendFailed>),
}
