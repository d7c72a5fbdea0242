//! Messages to the home shard of a channel, from shards with clients, from control, and from the
//! bridge if there is a bus.

use std::sync::Arc;
use std::time::Duration;

use super::{Asker, Reader, Ticket};
use crate::channel::{ChannelName, HistoryUse, Publication};
use crate::ids::{ConnectionId, Epoch, Moment, Position, ShardId, Since};
use crate::protocol::HistoryPage;

/// A message to the home of a channel, or to all channels whose home is one shard.
#[derive(Debug)]
pub enum ToHome {
    /// Assign an offset to this publication, keep it, pass it on, and return its position. Only
    /// without a bus.
    Publish(Box<Publish>),
    /// Count the sender as interested, and return the missed publications of its client.
    Subscribe(Box<Subscribe>),
    /// The sender no longer has subscribers.
    Leave {
        /// The sender.
        shard: ShardId,
        /// The channel.
        channel: ChannelName,
    },
    /// Read a page of history.
    History(Box<History>),
    /// Remove the history, but keep the position.
    HistoryRemove {
        /// The channel.
        channel: ChannelName,
        /// The ticket of control for the answer. `None` if the bus reports the removal.
        ticket: Option<Ticket>,
    },
    /// Publications in the order of the bus.
    Read {
        /// The channel.
        channel: ChannelName,
        /// The channel's epoch.
        epoch: Epoch,
        /// At least one publication. Offsets are contiguous; 0 means outside of the channel's
        /// order.
        publications: Vec<Arc<Publication>>,
    },
    /// Publications that the bus had ordered were dropped on the way to the home.
    Lost {
        /// The channel.
        channel: ChannelName,
    },
    /// The position of a channel, now that everything before it has been read.
    Located {
        /// The channel.
        channel: ChannelName,
        /// The position, or `None` if it can't be determined at the moment.
        position: Option<Position>,
    },
    /// The older part of a channel's history, from Redis.
    Older {
        /// The channel.
        channel: ChannelName,
        /// The offset before which publications were requested.
        before: u64,
        /// The publications, or `None` if they can't be read at the moment.
        found: Option<Found>,
    },
    /// The bridge has read everything that was on the bus when this node started.
    Loaded,
    /// Channels of a stream of the bus may have missed publications.
    Unverified {
        /// The stream.
        stream: usize,
        /// Number of streams.
        streams: usize,
    },
    /// The bridge is so late in reading a stream that new subscribers must wait, or is in time
    /// again.
    Late {
        /// The stream.
        stream: usize,
        /// Number of streams.
        streams: usize,
        /// Whether the bridge is late from now on.
        late: bool,
    },
}

impl ToHome {
    /// The channel that it is about, if that is one.
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            ToHome::Publish(publish) => Some(&publish.channel),
            ToHome::Subscribe(subscribe) => Some(&subscribe.channel),
            ToHome::History(history) => Some(&history.channel),
            ToHome::Leave { channel, .. }
            | ToHome::HistoryRemove { channel, .. }
            | ToHome::Read { channel, .. }
            | ToHome::Lost { channel }
            | ToHome::Located { channel, .. }
            | ToHome::Older { channel, .. } => Some(channel),
            ToHome::Loaded | ToHome::Unverified { .. } | ToHome::Late { .. } => None,
        }
    }
}

/// See [`ToHome::Publish`].
#[derive(Debug)]
pub struct Publish {
    /// The channel.
    pub channel: ChannelName,
    /// The checked publication, with offset 0.
    pub publication: Publication,
    /// Whether the history keeps the publication.
    pub history: HistoryUse,
    /// The idempotency key. A repeat is not delivered again, and gets the first position.
    pub idempotency_key: Option<Box<str>>,
    /// The receiver of the answer.
    pub asker: Asker,
}

/// See [`ToHome::Subscribe`].
#[derive(Debug)]
pub struct Subscribe {
    /// The channel.
    pub channel: ChannelName,
    /// The connection that subscribes.
    pub connection: ConnectionId,
    /// The last position of the client, if it recovers.
    pub recover: Option<Since>,
    /// Number of newest publications to send first, if the client does not recover.
    pub last: usize,
    /// Whether the home shard has verified that it is not behind that position.
    pub confirmed: bool,
    /// When the client began to wait for the bus, including earlier requests.
    pub unserved: Option<Moment>,
}

/// See [`ToHome::History`].
#[derive(Debug)]
pub struct History {
    /// The channel.
    pub channel: ChannelName,
    /// The requested page.
    pub page: HistoryPage,
    /// Maximum number of publications to return, even if the page requests more.
    pub publications_max: usize,
    /// Maximum number of bytes of the publications, unless a single one is larger.
    pub bytes_max: usize,
    /// Whether the home shard may answer with the publications that it has read. Otherwise it first
    /// waits until it has read everything that the bus had acknowledged.
    pub confirmed: bool,
    /// When the client began to wait for the bus, including earlier requests.
    pub unserved: Option<Moment>,
    /// The receiver of the page.
    pub reader: Reader,
}

/// See [`ToHome::Older`].
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The channel's epoch.
    pub epoch: Epoch,
    /// The publications, newest first, each with its remaining lifetime.
    pub publications: Vec<(Duration, Arc<Publication>)>,
    /// Whether there are no earlier publications.
    pub complete: bool,
}
