//! Messages to the control thread: from shards and the bridge.

use super::{Answer, RemoteCall, Ticket};

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
    /// A request of another node, which the bridge answers.
    Remote {
        /// The bridge's ticket for the answer.
        ticket: Ticket,
        /// The request.
        call: RemoteCall,
    },
}
