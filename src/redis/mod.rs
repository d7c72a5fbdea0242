//! Connections to Redis. No other module knows the client library: they make connections with a
//! `Handle` and send commands over a `Link`.

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
