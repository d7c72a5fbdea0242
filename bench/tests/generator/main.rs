//! The generator against a small server of its own, right and wrong: what it counts must be so.
#![allow(clippy::unwrap_used, reason = "in a test a failure is a panic")]

mod connect;
mod fanout;
mod run;
mod server;
