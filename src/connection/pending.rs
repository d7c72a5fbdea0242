//! Requests that wait for an answer.

use std::sync::Arc;

use crate::auth::Grant;
use crate::channel::{ChannelName, Namespace, Publication};
use crate::ids::Position;

/// The reason why a connection waits.
#[derive(Clone, Debug)]
pub enum PendingRequest {
    /// A `connect` with subscriptions.
    Connect(Resuming),
    /// A subscription.
    Subscribe(WaitingSubscribe),
    /// A publication or a page of history. The answer contains everything else that is needed.
    Answer(Charge),
    /// No request: the limit of publications on their way to the bus is reached.
    Room,
    /// No request: the next command may depend on earlier publications, so all of them must have
    /// their answers first.
    Publications,
}

/// A `connect` that waits for its subscriptions.
#[derive(Clone, Debug)]
pub struct Resuming {
    /// The number that the client gave to the request.
    pub request: u32,
    /// Subscriptions that have not begun.
    pub waiting: Vec<WaitingSubscribe>,
    /// Subscriptions that have begun.
    pub begun: Vec<BegunSubscription>,
    /// Bytes of the missed publications of these, as a recovery counts them.
    pub missed_bytes: usize,
}

/// A subscription that has begun before its client is told.
#[derive(Clone, Debug)]
pub struct BegunSubscription {
    /// The channel.
    pub channel: ChannelName,
    /// Its namespace.
    pub namespace: Arc<Namespace>,
    /// The features of the subscription.
    pub grant: Grant,
    /// Whether the client asked for missed publications.
    pub recovery: Recovery,
    /// All missed publications, if the client asked for them and they are available.
    pub missed: Option<Vec<Arc<Publication>>>,
    /// The position of the channel after these.
    pub top: Position,
}

/// A subscription that waits for its home shard.
#[derive(Clone, Debug)]
pub struct WaitingSubscribe {
    /// The number that the client gave to the request.
    pub request: u32,
    /// The channel.
    pub channel: ChannelName,
    /// The features of the subscription.
    pub grant: Grant,
    /// Whether the client asked for missed publications.
    pub recovery: Recovery,
    /// Whether the client was charged for the channel.
    pub charge: Charge,
}

/// Whether a request was counted as the creation of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// It was not, because the channel had subscribers on the shard.
    Free,
    /// It was, because the channel may be new. The charge is returned if the channel existed.
    Charged,
}

/// The missed publications that a subscribing client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// None.
    Unasked,
    /// All of them, if they are available.
    Asked,
    /// All of them. If they are not available, the subscription fails.
    Required,
}

impl Recovery {
    /// Whether it asked for them.
    pub fn is_asked(self) -> bool {
        self != Recovery::Unasked
    }
}
