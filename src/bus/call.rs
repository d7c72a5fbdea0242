//! What the bus asks of whoever speaks to Redis, and what it is told of it.

use super::append::{Append, AppendFailed, Appended};
use super::arguments::{argument, named_arguments};
use super::locate::{Stand, Tops};
use super::older::Older;
use super::probe::{Probe, Probed, RunId};
use super::{EntryId, FORMAT, Keys, Reply};
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

named_arguments! {
    /// The keys of the script that takes a stream over.
    KEYS: struct FenceKeys {
        stream_key,
        meta_key,
        marks_key,
        places_key,
        silent_key,
    }
}

named_arguments! {
    /// The arguments of the script that takes a stream over.
    ARGV: struct FenceHead {
        /// Epoch of the last entry that the caller has seen.
        seen_epoch,
        /// Number of that entry.
        seen_number,
        /// The caller's format.
        format,
    }
}

/// Keys and arguments of the script that takes a stream over, for a node that has seen the stream's
/// entry `seen`.
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

/// The answer of a server that has taken a stream over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// The stream's epoch, and the last entry of it.
    pub id: EntryId,
    /// The last entry of the epoch before, if that can still be read.
    pub before: Option<EntryId>,
    /// The process.
    pub run: RunId,
}

impl Fenced {
    /// What the script's answer says. Absent if it is not one.
    pub fn answer(reply: &Reply) -> Option<Fenced> {
        let [epoch, number, _, run, before] = reply.list()? else { return None };
        Some(Fenced {
            id: EntryId { epoch: epoch.number()?, number: number.number()? },
            before: EntryId::parse(before.text()?),
            run: RunId::parse(run.text()?)?,
        })
    }
}

/// What became of a call.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A server has taken the stream over. Absent if that was not to be had.
    Fenced(usize, Option<Fenced>),
    /// The batch is in the stream, or not.
    Appended(usize, Result<Appended, AppendFailed>),
    /// Where the channels stand. Absent if that was not to be had.
    Located(usize, Option<Stand>),
    /// What the histories have. Absent if that was not to be had.
    Read(usize, Option<Vec<Found>>),
    /// A batch would be appended to this stream, or not.
    Probed(usize, Result<Probed, AppendFailed>),
}
