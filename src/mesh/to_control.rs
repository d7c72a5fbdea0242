//! Messages from shards and the bridge to the control thread.

use std::time::Duration;

use super::{Answer, RemoteCall, Ticket};
use crate::ids::ShardId;
use crate::metrics::Interval;

/// A message to control.
#[derive(Debug)]
pub enum ToControl {
    /// The answer to a request of control.
    Answer {
        /// The ticket of the request.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// The delivery times of a shard in one interval.
    DeliveryTimes(Box<Interval>),
    /// A turn took so long that it is logged.
    Stalled(Stall),
    /// A request of another node. The bridge sends the answer.
    Remote {
        /// The ticket of the bridge for the answer.
        ticket: Ticket,
        /// The request.
        call: RemoteCall,
    },
}

/// A turn of a shard that took long.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// The shard.
    pub shard: ShardId,
    /// How long the turn took.
    pub took: Duration,
    /// Number of such turns, of all shards, that were not logged before it.
    pub left_out: u64,
}
