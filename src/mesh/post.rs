//! The sending side of a shard: lanes to other threads, and a queue of messages to itself.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Answer, Asker, Outbound, ShardMail, ToBridge, ToControl, ToShard};
use crate::channel::{ChannelName, Publication};
use crate::ids::ShardId;

/// Takes the messages of one shard to whoever they are for. A message to the shard itself is
/// handled like any other, in its order and in a later step, so no call ever comes back into the
/// code that it came from.
#[derive(Debug)]
pub struct Post {
    own: ShardId,
    loopback: VecDeque<ShardMail>,
    outbound: Outbound,
}

impl Post {
    /// The post of shard `own`. Its own lane in `outbound` is not used.
    pub fn new(own: ShardId, outbound: Outbound) -> Post {
        Post { own, loopback: VecDeque::new(), outbound }
    }

    /// Sends a message to a shard, or to this one.
    pub fn to_shard(&mut self, shard: ShardId, message: impl Into<ShardMail>) {
        if shard == self.own {
            self.loopback.push_back(message.into());
        } else {
            self.outbound.shard(shard).push(message);
        }
    }

    /// Sends a live publication to a shard with subscribers, together with those of the same
    /// channel that were sent right before it.
    pub fn publication(
        &mut self,
        shard: ShardId,
        channel: &ChannelName,
        publication: &Arc<Publication>,
    ) {
        if shard != self.own {
            return self.outbound.shard(shard).push_publication(channel, publication);
        }
        match self.loopback.back_mut() {
            Some(ShardMail::Shard(ToShard::Live { channel: last, publications }))
                if last == channel =>
            {
                publications.push(Arc::clone(publication));
            }
            _ => self.to_shard(
                shard,
                ToShard::Live {
                    channel: channel.clone(),
                    publications: vec![Arc::clone(publication)],
                },
            ),
        }
    }

    /// Sends a message to the bridge. Only where there is a bus.
    pub fn to_bridge(&mut self, message: impl Into<ToBridge>) {
        self.outbound.bridge().push(message.into());
    }

    /// Whether the bridge's inbox has no room.
    pub fn is_bridge_behind(&mut self) -> bool {
        self.outbound.bridge().is_behind()
    }

    /// Sends an answer to whoever asked.
    pub fn answer(&mut self, asker: Asker, answer: Answer) {
        match asker {
            Asker::Connection { connection, request, pipelined } => self.to_shard(
                connection.shard,
                ToShard::Answer { connection, request, pipelined, answer },
            ),
            Asker::Control(ticket) => {
                self.outbound.control().push(ToControl::Answer { ticket, answer });
            }
            Asker::Bridge(_) | Asker::Nobody => {}
        }
    }

    /// The oldest message of this shard to itself.
    pub fn take_loopback(&mut self) -> Option<ShardMail> {
        self.loopback.pop_front()
    }

    /// Number of messages of this shard to itself.
    pub fn loopback_len(&self) -> usize {
        self.loopback.len()
    }

    /// Hands everything over to other threads, as far as inboxes have room. Returns the number of
    /// publications that became gaps since the last call.
    pub fn flush(&mut self) -> u64 {
        self.outbound.flush()
    }

    /// Whether a shard has so much to do that what can wait is not sent to it.
    pub fn is_crowded(&mut self, shard: ShardId) -> bool {
        shard != self.own && self.outbound.shard(shard).is_crowded()
    }

    /// Whether messages wait for room in another thread's inbox.
    pub fn is_behind(&self) -> bool {
        self.outbound.is_behind()
    }
}
