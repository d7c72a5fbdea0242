//! This node among the others: who they are, by leases in Redis, and requests between them.

mod leases;
mod nodes;
mod requests;

pub(crate) use leases::Lease;
pub use nodes::NodeCard;
pub(crate) use nodes::{NodeNews, Nodes};
pub(crate) use requests::Requests;
