//! The HTTP API for the application, `/metrics`, `/live`, `/ready`, and the demo page of `--dev`.
//!
//! It runs on the control thread, in its own tokio runtime. It sends shards messages (`courier`)
//! and shares no lock with them, so nothing here slows a shard.
//!
//! `service` implements the methods in the server's own terms. Each wording of the API is a module
//! above it; today there is only `centrifugo`.

mod access;
mod centrifugo;
mod counted;
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
pub use serve::{ApiListener, serve};
pub use service::{Identify, Node, Parts, Service, describe, remote};
pub use state::Api;
pub use status::{HostLimits, Status};
