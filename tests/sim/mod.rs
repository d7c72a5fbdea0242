//! Whole nodes in one thread: the server's shards, mesh and codecs with a simulated clock and
//! network. Simulated clients check the promises of the server.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails, and the output says with which seed"
)]

pub mod centrifugo;
pub mod client;
pub mod control;
pub mod ending;
pub mod follow;
pub mod memory;
pub mod missed;
pub mod network;
pub mod node;
pub mod payload;
pub mod plain;
pub mod random;
pub mod replies;
pub mod scene;
pub mod schedule;
pub mod setup;
pub mod sockets;
pub mod truth;
pub mod upgrade;
pub mod verdict;
pub mod client_behaviour;
pub mod wire;
pub mod world;
