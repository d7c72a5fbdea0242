//! The cluster: nodes, which are known by their leases in Redis, and requests between them.

mod known;
mod leases;
mod nodes;
mod requests;

pub(crate) use leases::Lease;
pub use nodes::NodeCard;
pub(crate) use nodes::{NodeNews, Nodes};
pub(crate) use requests::Requests;
