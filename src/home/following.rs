//! With a bus, a home follows its order. It keeps the publications that the bus has ordered, and
//! passes them on to shards with subscribers, together with changes of position.

use std::sync::Arc;

use super::channels::{Channels, Followed, Resolved};
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

/// Keeps publications and passes them on.
pub(super) fn follow(
    channels: &mut Channels,
    now: Moment,
    channel: Resolved<'_>,
    read: Read,
    post: &mut Post,
) {
    for publication in tampered(read.publications) {
        let followed = channels.read(now, channel, read.epoch, &publication);
        let Some(followed) = followed else { continue };
        tell_followed(channel.name, &followed, post);
        for &shard in followed.interested {
            post.publication(shard, channel.name, &publication);
        }
    }
}

/// Tells subscribers that the position of their channel has moved, and the bus if a position was
/// assigned twice.
pub(super) fn tell_followed(channel: &ChannelName, followed: &Followed<'_>, post: &mut Post) {
    if followed.repeated {
        post.to_bridge(ToBus::Repeated { channel: channel.clone() });
    }
    if let Some(top) = followed.moved {
        for &shard in followed.interested {
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
