//! All lanes of a thread.

use super::{Lane, ShardLane, ToBridge, ToControl};
use crate::ids::ShardId;

/// The lanes of a thread to all others.
#[derive(Debug)]
pub struct Outbound {
    shards: Vec<ShardLane>,
    control: Lane<ToControl>,
    bridge: Option<Lane<ToBridge>>,
}

impl Outbound {
    /// Creates the lanes to all shards, to control, and to the bridge if there is one.
    pub fn new(
        shards: Vec<ShardLane>,
        control: Lane<ToControl>,
        bridge: Option<Lane<ToBridge>>,
    ) -> Outbound {
        Outbound { shards, control, bridge }
    }

    /// Returns the lane to a shard.
    pub fn shard(&mut self, shard: ShardId) -> &mut ShardLane {
        &mut self.shards[shard.index()]
    }

    /// Returns the lanes to all shards.
    pub fn shards(&mut self) -> &mut [ShardLane] {
        &mut self.shards
    }

    /// Returns the lane to control.
    pub fn control(&mut self) -> &mut Lane<ToControl> {
        &mut self.control
    }

    /// Returns the lane to the bridge.
    ///
    /// # Panics
    /// There is no bridge. Without a bus, nothing may be sent to it.
    pub fn bridge(&mut self) -> &mut Lane<ToBridge> {
        let Some(bridge) = &mut self.bridge else {
            unreachable!("only nodes with a bus have a bridge")
        };
        bridge
    }

    /// Sends all messages, as far as inboxes have room. Returns the number of publications that
    /// became gaps since the last call.
    pub fn flush(&mut self) -> u64 {
        self.control.flush();
        if let Some(bridge) = &mut self.bridge {
            bridge.flush();
        }
        let mut dropped = 0;
        for lane in &mut self.shards {
            lane.flush();
            dropped += lane.take_dropped();
        }
        dropped
    }

    /// Whether an inbox was full, so that the thread must flush again.
    pub fn is_behind(&self) -> bool {
        self.shards.iter().any(ShardLane::is_behind)
            || self.control.is_behind()
            || self.bridge.as_ref().is_some_and(Lane::is_behind)
    }
}
