//! Delivery: from the home shards' publications to writes.

mod budget;
mod channels;
mod fanout;
mod retry;
mod sweep;

pub(super) use budget::Budget;
pub use budget::OutboxLeases;
pub(super) use channels::{Locals, Subscriber};
pub(super) use retry::Retries;
pub(super) use sweep::Sweep;
