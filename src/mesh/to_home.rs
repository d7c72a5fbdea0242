//! Messages to the home shard of a channel: from shards with clients, from control, and from the
//! bridge where there is a bus.

use std::sync::Arc;
use std::time::Duration;

use super::Asker;
use crate::channel::{ChannelName, Publication};
use crate::ids::{ConnectionId, Epoch, Moment, Position, ShardId, Since};
use crate::protocol::HistoryPage;

/// A message to the home of a channel, or to all channels at home in a shard.
#[derive(Debug)]
pub enum ToHome {
    /// Give this publication its offset, keep it, pass it on, and answer with its position. Only
    /// without a bus.
    Publish(Box<Publish>),
    /// Count the sender as interested, and answer with the publications that its client missed.
    Subscribe(Box<Subscribe>),
    /// The sender has no subscriber any more.
    Leave {
        /// The sender.
        shard: ShardId,
        /// The channel.
        channel: ChannelName,
    },
    /// Read a page of history.
    History(Box<History>),
    /// Forget the history, keep the position.
    HistoryRemove {
        /// The channel.
        channel: ChannelName,
        /// Whom to answer.
        asker: Asker,
    },
    /// Publications in the order of the bus.
    Read {
        /// The channel.
        channel: ChannelName,
        /// The channel's epoch.
        epoch: Epoch,
        /// At least one. Offsets are contiguous; 0 is outside of the channel's order.
        publications: Vec<Arc<Publication>>,
    },
    /// Publications that the bus has ordered were dropped on the way here.
    Lost {
        /// The channel.
        channel: ChannelName,
    },
    /// The position of a channel, now that everything before it has been read.
    Located {
        /// The channel.
        channel: ChannelName,
        /// Its position; absent if it can't be known at present.
        position: Option<Position>,
    },
    /// The older part of a channel's history, which Redis keeps.
    Older {
        /// The channel.
        channel: ChannelName,
        /// The offset before which was asked for.
        before: u64,
        /// The publications; absent if they can't be read at present.
        found: Option<Found>,
    },
    /// Everything has been read that was on the bus when this node started.
    Loaded,
    /// Channels of a stream of the bus may have missed something.
    Adrift {
        /// The stream.
        stream: usize,
        /// Number of streams.
        streams: usize,
    },
    /// The bridge reads a stream of the bus so late that new subscribers must wait for it, or reads
    /// it in time again.
    Late {
        /// The stream.
        stream: usize,
        /// Number of streams.
        streams: usize,
        /// Whether it is late from now on.
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
            ToHome::Loaded | ToHome::Adrift { .. } | ToHome::Late { .. } => None,
        }
    }
}

/// See [`ToHome::Publish`].
#[derive(Debug)]
pub struct Publish {
    /// The channel.
    pub channel: ChannelName,
    /// The publication, checked, with offset 0.
    pub publication: Publication,
    /// Do not keep it.
    pub skip_history: bool,
    /// Answer a repeat of this key with the first position and deliver it once.
    pub idempotency_key: Option<Box<str>>,
    /// Whom to answer.
    pub asker: Asker,
}

/// See [`ToHome::Subscribe`].
#[derive(Debug)]
pub struct Subscribe {
    /// The channel.
    pub channel: ChannelName,
    /// The connection that subscribes.
    pub connection: ConnectionId,
    /// Where it stands, if it recovers.
    pub recover: Option<Since>,
    /// Number of the newest publications that it wants first, if it does not recover.
    pub last: usize,
    /// Whether the home shard has made sure that it is not behind that.
    pub confirmed: bool,
    /// Since when its client has waited for the bus, also with requests before this one.
    pub unserved: Option<Moment>,
}

/// See [`ToHome::History`].
#[derive(Debug)]
pub struct History {
    /// The channel.
    pub channel: ChannelName,
    /// What part of its history.
    pub page: HistoryPage,
    /// Maximum number of publications to return, however many the page asks for.
    pub publications_max: usize,
    /// Maximum number of bytes that the publications may cost, unless a single one costs more.
    pub bytes_max: usize,
    /// Whether the answer may be what the home shard has read. If not, it first makes sure that it
    /// has read everything that the bus had acknowledged before.
    pub confirmed: bool,
    /// Since when its client has waited for the bus, also with requests before this one.
    pub unserved: Option<Moment>,
    /// Whom to answer.
    pub asker: Asker,
}

/// See [`ToHome::Older`].
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The channel's epoch.
    pub epoch: Epoch,
    /// Publications, the newest first, each with the time that it is still kept.
    pub publications: Vec<(Duration, Arc<Publication>)>,
    /// Whether there are none before these.
    pub complete: bool,
}
