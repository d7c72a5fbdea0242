//! Requests that may have to wait, for the bus or for a later turn.

use crate::channel::ChannelName;
use crate::ids::{Moment, ShardId};
use crate::mesh::{History, Post, Reader, Subscribe, ToShard};
use crate::reason::ClientError;

/// A request that may have to wait.
pub(super) enum Request {
    Subscribe(Box<Subscribe>),
    History(Box<History>),
}

impl Request {
    /// Returns the channel that the request is about.
    pub(super) fn channel(&self) -> &ChannelName {
        match self {
            Request::Subscribe(subscribe) => &subscribe.channel,
            Request::History(history) => &history.channel,
        }
    }

    /// Returns the shard of the client, if it is the request of one.
    pub(super) fn shard(&self) -> Option<ShardId> {
        match self {
            Request::Subscribe(subscribe) => Some(subscribe.connection.shard),
            Request::History(history) => shard_of(history.reader),
        }
    }

    /// Returns when the client began to wait for the bus, including earlier requests.
    pub(super) fn unserved(&self) -> Option<Moment> {
        match self {
            Request::Subscribe(subscribe) => subscribe.unserved,
            Request::History(history) => history.unserved,
        }
    }

    /// Records that the home is not behind the bus as far as this request is concerned.
    pub(super) fn confirm(&mut self) {
        match self {
            Request::Subscribe(subscribe) => subscribe.confirmed = true,
            Request::History(history) => history.confirmed = true,
        }
    }

    /// Refuses the request with an error.
    pub(super) fn refuse(self, error: ClientError, post: &mut Post) {
        match self {
            Request::Subscribe(subscribe) => {
                let (channel, connection) = (subscribe.channel, subscribe.connection);
                post.to_shard(connection.shard, ToShard::Refused { channel, connection, error });
            }
            Request::History(history) => post.page(history.reader, Err(error)),
        }
    }
}

/// Returns the shard of the reader, if it is a client.
pub(super) fn shard_of(reader: Reader) -> Option<ShardId> {
    match reader {
        Reader::Connection { connection, .. } => Some(connection.shard),
        Reader::Control(_) => None,
    }
}
