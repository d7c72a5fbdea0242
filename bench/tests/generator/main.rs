//! Runs the generator against a small server, with and without mistakes, and checks its counts.
#![allow(clippy::unwrap_used, reason = "in a test a failure is a panic")]

mod connect;
mod fanout;
mod run;
mod server;
