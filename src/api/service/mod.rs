//! The methods of the API in the server's own terms: plain values in, results and errors out. Each
//! wording of the HTTP API (`centrifugo`) translates to these functions and back.

mod channels;
mod cluster;
mod connections;
mod history;
mod info;
mod node_wire;
mod publish;
mod shared;

pub(super) use channels::{ChannelsPage, ChannelsQuery};
pub(super) use cluster::{carry_out, channels, info};
pub use cluster::{describe, remote};
pub(super) use connections::{Close, ConnectionsCommand, Selection};
pub(super) use history::{FoundHistory, history, history_remove};
pub(super) use info::{DeliveryInfo, NodeInfo};
pub(super) use publish::{broadcast, publish};
pub use shared::{Identify, Node, Parts, Service};
