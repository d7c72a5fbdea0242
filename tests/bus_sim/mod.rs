//! Several nodes and their Redis in one thread: real shards and real buses with a simulated clock,
//! a model of Redis with the behaviour of the scripts, and faults between them.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a panic is how a check fails")]

pub mod client;
pub mod faults;
pub mod log;
pub mod node;
pub mod places;
pub mod record;
pub mod redis;
pub mod rested;
pub mod schedule;
pub mod setup;
pub mod shell;
pub mod store;
pub mod world;
