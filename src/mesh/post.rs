//! The sending side of a shard: lanes to other threads, and a queue of messages to itself.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{
    Answer, Asker, Outbound, Page, Published, Reader, ShardMail, Stall, Ticket, ToBridge,
    ToControl, ToShard,
};
use crate::channel::{ChannelName, Publication};
use crate::ids::{Position, ShardId};
use crate::metrics::Interval;
use crate::reason::ClientError;

/// Sends the messages of one shard to their receivers. Messages to the shard itself are queued and
/// handled in order in a later step, so no call ever re-enters the code that sent it.
#[derive(Debug)]
pub struct Post {
    own: ShardId,
    loopback: VecDeque<ShardMail>,
    outbound: Outbound,
}

impl Post {
    /// Creates the post of the shard `own`. Its own lane in `outbound` is not used.
    pub fn new(own: ShardId, outbound: Outbound) -> Post {
        Post { own, loopback: VecDeque::new(), outbound }
    }

    /// Sends a message to a shard, which may be this one.
    pub fn to_shard(&mut self, shard: ShardId, message: impl Into<ShardMail>) {
        if shard == self.own {
            self.loopback.push_back(message.into());
        } else {
            self.outbound.shard(shard).push(message);
        }
    }

    /// Sends a live publication to a shard with subscribers. It is combined with a preceding
    /// message of the same channel.
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

    /// Sends a message to the bridge. There must be a bus.
    pub fn to_bridge(&mut self, message: impl Into<ToBridge>) {
        self.outbound.bridge().push(message.into());
    }

    /// Whether the inbox of the bridge is full.
    pub fn is_bridge_behind(&mut self) -> bool {
        self.outbound.bridge().is_behind()
    }

    /// Answers a publication.
    pub fn published(&mut self, asker: Asker, result: Result<Option<Position>, ClientError>) {
        let published = |position| Published { position, repeated: false };
        match asker {
            Asker::Connection { connection, request, pipelined } => {
                let result = result.map(drop);
                let answer = ToShard::Published { connection, request, pipelined, result };
                self.to_shard(connection.shard, answer);
            }
            Asker::Control(ticket) => self.answer(ticket, result.map(published).into()),
            Asker::Bridge(_) | Asker::Nobody => {}
        }
    }

    /// Answers a request for history.
    pub fn page(&mut self, reader: Reader, page: Result<Page, ClientError>) {
        match reader {
            Reader::Connection { connection, request } => {
                self.to_shard(connection.shard, ToShard::Page { connection, request, page });
            }
            Reader::Control(ticket) => self.answer(ticket, page.into()),
        }
    }

    /// Answers a request of control.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.outbound.control().push(ToControl::Answer { ticket, answer });
    }

    /// Hands the delivery times of an interval to control.
    pub fn delivery_times(&mut self, interval: Box<Interval>) {
        self.outbound.control().push(ToControl::DeliveryTimes(interval));
    }

    /// Reports a turn that took long to control, which logs it.
    pub fn stalled(&mut self, stall: Stall) {
        self.outbound.control().push(ToControl::Stalled(stall));
    }

    /// Removes and returns the oldest message of this shard to itself.
    pub fn take_loopback(&mut self) -> Option<ShardMail> {
        self.loopback.pop_front()
    }

    /// Returns the number of messages of this shard to itself.
    pub fn loopback_len(&self) -> usize {
        self.loopback.len()
    }

    /// Sends all messages to other threads, as far as inboxes have room. Returns the number of
    /// publications that became gaps since the last call.
    pub fn flush(&mut self) -> u64 {
        self.outbound.flush()
    }

    /// Whether a shard has so much to do that messages which can wait should not be sent to it.
    pub fn is_crowded(&mut self, shard: ShardId) -> bool {
        shard != self.own && self.outbound.shard(shard).is_crowded()
    }

    /// Whether messages wait because the inbox of another thread is full.
    pub fn is_behind(&self) -> bool {
        self.outbound.is_behind()
    }
}
