//! Messages from shards and the bridge to the control thread.

use super::{Answer, RemoteCall, Ticket};
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
    /// A request of another node. The bridge sends the answer.
    Remote {
        /// The ticket of the bridge for the answer.
        ticket: Ticket,
        /// The request.
        call: RemoteCall,
    },
}
