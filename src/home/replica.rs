//! With a bus, a home follows its order. It keeps the publications that the bus has ordered, and
//! passes them on to shards with subscribers, together with changes of position.

use std::sync::Arc;

use super::channels::{Channels, Replicated, Resolved};
use crate::channel::{ChannelName, Publication};
use crate::ids::{Epoch, Moment};
use crate::mesh::{Post, ToBus, ToShard};

/// Publications of a channel, as they were read from the bus.
pub(super) struct Read {
    /// The channel's epoch.
    pub(super) epoch: Epoch,
    /// At least one publication, in the order of the bus.
    pub(super) publications: Vec<Arc<Publication>>,
}

/// Keeps publications in the order of the bus, and passes them on.
pub(super) fn replicate(
    channels: &mut Channels,
    now: Moment,
    channel: Resolved<'_>,
    read: Read,
    post: &mut Post,
) {
    for publication in tampered(read.publications) {
        let replicated = channels.read(now, channel, read.epoch, &publication);
        let Some(replicated) = replicated else { continue };
        tell_replicated(channel.name, &replicated, post);
        for &shard in replicated.interested {
            post.publication(shard, channel.name, &publication);
        }
    }
}

/// Tells subscribers that the position of their channel has moved, and the bus if a position was
/// assigned twice.
pub(super) fn tell_replicated(channel: &ChannelName, replicated: &Replicated<'_>, post: &mut Post) {
    if replicated.repeated {
        post.to_bridge(ToBus::Repeated { channel: channel.clone() });
    }
    if let Some(top) = replicated.moved {
        for &shard in replicated.interested {
            post.to_shard(shard, ToShard::Moved { channel: channel.clone(), top });
        }
    }
}

/// Returns the publications unchanged, except for faults that tests build in.
fn tampered(mut publications: Vec<Arc<Publication>>) -> Vec<Arc<Publication>> {
    if crate::sabotage!(SwappedReads)
        && publications.len() > 1
        && publications[1].offset.is_multiple_of(100)
    {
        // The offsets stay in order; otherwise the swap would be found immediately.
        let (first, second) = (&publications[0], &publications[1]);
        let at = |other: &Arc<Publication>, offset| {
            Arc::new(Publication { offset, ..Publication::clone(other) })
        };
        (publications[0], publications[1]) = (at(second, first.offset), at(first, second.offset));
    }
    publications
}
