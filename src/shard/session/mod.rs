//! Sessions: from a client's bytes to commands and answers, and from its first byte to its last.

mod closing;
mod commands;
mod creating;
mod heartbeat;
mod inbound;
mod input;
mod missed;
mod parking;
mod reporting;
mod server_subscribe;
mod subscribing;
mod upgrading;

pub(super) use creating::Creating;
pub(super) use inbound::Unfinished;
pub use input::is_parsing;
pub(super) use missed::GapNotice;
pub(super) use parking::Owing;
pub(super) use reporting::Reporting;
pub(super) use server_subscribe::Joining;
