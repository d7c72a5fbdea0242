//! The HTTP API of the application, `/metrics`, `/live`, `/ready`, and the page for a first look.
//!
//! All of it runs on the control thread, in one tokio runtime of its own. Shards are asked by
//! messages (`courier`), never by a shared lock, so nothing that happens here slows a shard.
//!
//! `service` is what an application may do, in the server's own words. Above it stands one module
//! for each wording; today there is `centrifugo`.

mod access;
mod centrifugo;
mod courier;
mod entrance;
mod error;
mod http;
mod page;
mod router;
mod serve;
mod service;
mod state;
mod status;
#[cfg(test)]
mod tests;

pub use courier::{Courier, Full, Home, SendMessage};
pub use error::ApiError;
pub use serve::serve;
pub use service::{Identify, Node, Parts, Service, describe, remote};
pub use state::Api;
pub use status::Status;
