//! Connections to Redis. The only module that knows the client library: all others make connections
//! with a `Handle` and give commands to a `Link`.

mod backoff;
mod check;
mod handle;
mod link;
mod links;
mod sentinel;
mod witness;

pub(crate) use backoff::{Backoff, seed};
pub(crate) use check::{agree, check_policy, explain_format, wait_until_usable};
pub(crate) use handle::Handle;
pub use link::check_url;
pub(crate) use link::{Link, LinkError, not_an_answer};
pub(crate) use witness::Witness;
