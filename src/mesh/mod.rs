//! Communication between threads: batches of messages through bounded channels, with one wake for
//! many of them.
//!
//! Invariants: only this module sends between threads. No thread blocks. The queue from one thread
//! to another is first in, first out. Messages that do not fit are kept; if there is no room for
//! that either, publications become a gap notice and are never lost silently.

mod answer;
mod event;
mod lane;
mod outbound;
mod post;
mod to_bridge;
mod to_control;
mod to_home;
mod to_shard;
mod wake;

pub use answer::{Answer, Asker, ClusterAnswer, Page, Published, Reader, Ticket};
pub use event::{AppEvent, EventKind};
pub use lane::{Lane, ShardLane};
pub use outbound::Outbound;
pub use post::Post;
pub use to_bridge::{ClusterRequest, RemoteCall, ToBridge, ToBus};
pub use to_control::{Stall, ToControl};
pub use to_home::{Found, History, Publish, Subscribe, ToHome};
pub use to_shard::{ControlRequest, ShardMail, Subscribed, Target, ToShard};
pub use wake::{Wake, WakeFlag};

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::ids::ShardId;
use crate::limits::INBOX_BATCHES_MAX;
use crate::secret::{KeyedHash, NodeSecret};

/// A message of control, with its receiver.
#[derive(Debug)]
pub enum Addressed {
    /// To a shard.
    Shard(ShardId, ShardMail),
    /// To the bridge.
    Bridge(ToBridge),
}

/// The receiving end of a thread: batches of messages.
#[derive(Debug)]
pub struct Inbox<M> {
    receiver: Receiver<Vec<M>>,
    flag: Arc<WakeFlag>,
}

/// The sending end of a thread's inbox.
#[derive(Debug)]
pub struct Address<M> {
    sender: Sender<Vec<M>>,
    flag: Arc<WakeFlag>,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Address<M> {
        Address { sender: self.sender.clone(), flag: Arc::clone(&self.flag) }
    }
}

impl<M> Inbox<M> {
    /// Creates an inbox for `batches_max` batches, and its address.
    pub fn new(batches_max: usize) -> (Inbox<M>, Address<M>) {
        let (sender, receiver) = bounded(batches_max);
        let flag = Arc::new(WakeFlag::default());
        (Inbox { receiver, flag: Arc::clone(&flag) }, Address { sender, flag })
    }

    /// Creates an inbox of the default size, and its address.
    pub fn with_default_size() -> (Inbox<M>, Address<M>) {
        Inbox::new(INBOX_BATCHES_MAX)
    }

    /// Removes and returns the next batch, if there is one.
    pub fn take(&self) -> Option<Vec<M>> {
        // An error means that the inbox is empty, whether or not all senders have ended.
        self.receiver.try_recv().ok()
    }

    /// Whether there is no batch.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Number of batches that wait. For tests.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Announces that the thread is about to sleep. Returns false if a batch arrived before that,
    /// so that the thread must not sleep.
    pub fn prepare_sleep(&self) -> bool {
        self.flag.sleep();
        if self.receiver.is_empty() {
            return true;
        }
        self.flag.wake_up();
        false
    }

    /// Announces that the thread is awake.
    pub fn woke(&self) {
        self.flag.wake_up();
    }
}

/// Maps channels to their home shards. The result is the same in all threads, and in all processes
/// with the same secret and number of shards.
#[derive(Clone, Debug)]
pub struct HomeMap {
    hash: KeyedHash,
    shards: usize,
}

impl HomeMap {
    /// Creates a map over `shards` shards. Without the secret, an attacker can't choose names of
    /// one shard.
    pub fn new(secret: &NodeSecret, shards: usize) -> HomeMap {
        assert!(shards > 0, "there is at least one shard");
        HomeMap { hash: secret.keyed("homes"), shards }
    }

    /// Returns the number of shards.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Returns the home shard of `channel`.
    pub fn home(&self, channel: &str) -> ShardId {
        let hash = self.hash.of(channel.as_bytes());
        // The high bits of the product are evenly distributed over any number of shards.
        ShardId::new(((u128::from(hash) * self.shards as u128) >> 64) as usize)
    }
}
