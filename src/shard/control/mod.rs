//! What the control thread asks of a shard, and what a shard checks about itself.

mod audit;
mod walks;

pub(super) use audit::Audit;
pub(super) use walks::Requests;
