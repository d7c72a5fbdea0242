//! The bus joins nodes through streams of Redis. This module has its pure state machines, which
//! decide which calls to make and interpret the replies. `bridge` makes the calls.
//!
//! Redis decides the order. A script appends a batch to the stream of its channels. It gives each
//! publication the next offset of its channel, and the batch the next number of the stream. Every
//! node reads every stream, and delivers only publications that it has read, including its own. So
//! all nodes show the same order. Numbers have no holes within an epoch, so a reader can tell from
//! a number alone that an entry is missing. An epoch ends with the server process that assigned its
//! numbers.

mod append;
mod arguments;
mod call;
mod engine;
mod entry;
mod cursor;
mod keys;
mod stream;
mod locate;
mod older;
mod probe;
pub mod record;
mod reply;
mod scripts;
mod unread;
mod writer;

pub use append::{Append, AppendFailed, Appended, Appending, Durable, Once};
pub use call::{Call, Fenced, Outcome, fence_keys_and_args};
pub use cursor::{Look, Tail};
pub use engine::{Engine, Options, Renewal, Trouble};
pub use entry::{Entry, EntryId, Item, Malformed};
pub use keys::Keys;
pub use locate::{Stand, Tops};
pub use older::Older;
pub use probe::{Probe, Probed, RunId};
pub use record::{Offset, Record, fits as record_fits};
pub use reply::Reply;
pub use scripts::Script;

use crate::ids::Epoch;

/// Version of the data that the bus keeps in Redis. The scripts check it too. Format 0 had no
/// version field, and it had a key for the place of each channel.
pub const FORMAT: u64 = 1;

/// Returns the stream that carries a channel's publications. All nodes and versions must agree on
/// it, so this mapping never changes.
pub fn stream_of(channel: &str, streams: usize) -> usize {
    // FNV-1a with 64 bits, and then a mix, because the last bytes of a name hardly reach its high
    // bits. The hash is written out here so that all versions agree.
    let hash = channel.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ((u128::from(mix(hash)) * streams as u128) >> 64) as usize
}

/// Returns the epoch of a channel as clients see it, from the epoch of its stream and the
/// incarnation of its offsets. Within one stream epoch, two incarnations never give the same value.
/// Across two stream epochs, values collide with a probability of 2^-64.
pub fn channel_epoch(stream_epoch: u64, incarnation: u64) -> Epoch {
    Epoch::new(mix(mix(stream_epoch) ^ incarnation))
}

/// The output function of Splitmix64, which is a bijection.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
