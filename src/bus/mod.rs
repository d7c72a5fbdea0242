//! The bus: what joins nodes through streams of Redis, without Redis. Pure state machines that say
//! which calls to make and what their answers mean; `bridge` makes the calls.
//!
//! Redis orders: a script appends a batch to the stream of its channels, gives each publication the
//! next offset of its channel, and the batch the next number of the stream. Every node reads every
//! stream and delivers only what it reads, its own publications too, so all nodes show one order.
//! Numbers have no holes within an epoch, so a reader knows from a number alone that something is
//! missing; an epoch ends with the server process that gave its numbers.

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
pub use record::{Record, fits as record_fits};
pub use reply::Reply;
pub use scripts::Script;

use crate::ids::Epoch;

/// The format of what the bus keeps in Redis. The scripts name it as well. Format 0 had no number,
/// and a key for the place of each channel.
pub const FORMAT: u64 = 1;

/// The stream that has a channel's publications: the same on every node, for ever.
pub fn stream_of(channel: &str, streams: usize) -> usize {
    // FNV-1a, 64 bits, then mixed, for its last bytes hardly reach the high bits: a hash that is
    // written down, so that all versions agree.
    let hash = channel.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ((u128::from(mix(hash)) * streams as u128) >> 64) as usize
}

/// The epoch of a channel as clients see it: that of its stream, and the life of its offsets in it.
/// For each stream epoch no two lives have the same; two stream epochs collide once in 2^64.
pub fn channel_epoch(stream_epoch: u64, incarnation: u64) -> Epoch {
    Epoch::new(mix(mix(stream_epoch) ^ incarnation))
}

/// Splitmix64's output function, a bijection.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
