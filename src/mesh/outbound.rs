//! All lanes of a thread.

use super::{Lane, ShardLane, ToBridge, ToControl};
use crate::ids::ShardId;

/// The ways from a thread to all others.
#[derive(Debug)]
pub struct Outbound {
    shards: Vec<ShardLane>,
    control: Lane<ToControl>,
    bridge: Option<Lane<ToBridge>>,
}

impl Outbound {
    /// The lanes to each shard, to control, and to the bridge if the thread sends to one.
    pub fn new(
        shards: Vec<ShardLane>,
        control: Lane<ToControl>,
        bridge: Option<Lane<ToBridge>>,
    ) -> Outbound {
        Outbound { shards, control, bridge }
    }

    /// The lane to a shard.
    pub fn shard(&mut self, shard: ShardId) -> &mut ShardLane {
        &mut self.shards[shard.index()]
    }

    /// The lanes to all shards.
    pub fn shards(&mut self) -> &mut [ShardLane] {
        &mut self.shards
    }

    /// The lane to control.
    pub fn control(&mut self) -> &mut Lane<ToControl> {
        &mut self.control
    }

    /// The lane to the bridge.
    ///
    /// # Panics
    /// There is none: nothing may be sent to a bridge where there is no bus.
    pub fn bridge(&mut self) -> &mut Lane<ToBridge> {
        let Some(bridge) = &mut self.bridge else { unreachable!("a bus has a bridge") };
        bridge
    }

    /// Hands over everything, as far as inboxes have room. Returns the number of publications that
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

    /// Whether some inbox had no room: the thread must come again.
    pub fn is_behind(&self) -> bool {
        self.shards.iter().any(ShardLane::is_behind)
            || self.control.is_behind()
            || self.bridge.as_ref().is_some_and(Lane::is_behind)
    }
}
