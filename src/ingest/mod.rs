//! Ingests publications from sources to which applications add them. One node at a time reads a
//! source, so that its publications keep their order.
//!
//! `entry` parses an entry, and `queue` keeps the entries that are on their way to the bus.
//! `source` connects the two with a `Source`, which knows where entries come from. Another kind of
//! source is one more file like `redis`.

mod entry;
mod queue;
mod redis;
mod source;

pub use entry::{Fields, IngestId, IngestRequest};
pub use redis::read_entries;
pub(crate) use redis::{Leases, RedisStream};
