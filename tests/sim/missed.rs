//! A subscriber of the envelope whose shard is so slow that publications to the shard are dropped.
//! The server requests the missing ones, and the client notices nothing.

use std::time::Duration;

use corecast::reason::DropReason;

use super::client::Speech;
use super::plain::Plain;
use super::random::Random;
use super::setup::Setup;
use super::world::World;

/// Creates a node of two shards with hardly any room between them. A client of the second shard
/// subscribes to a channel at home in the first one.
pub fn begin(seed: u64) -> (World, usize, usize) {
    let mut setup = Setup::generous(2);
    (setup.inbox_batches, setup.spill_bytes) = (1, 1);
    let mut world = World::new(setup, Random::new(seed));
    let channel = world.setup.channel_of("");
    let client = world.add(Speech::Plain(Plain::new(true, vec![channel], None)));
    world.clients[client].shard = Some(1);
    world.clients[client].buffers = Some((20_000, 50_000));
    world.until("it is served", World::is_settled);
    (world, client, channel)
}

/// Publishes while the second shard does not run. Returns the number of dropped publications.
pub fn publish_unheard(world: &mut World, channel: usize, count: usize) -> u64 {
    for _ in 0..count {
        world.with(|scene, _, control| control.publish(scene, channel, (None, false)));
        world.with_network(|network| network.deliver(0));
        (0..3).for_each(|_| world.node.run(0, &world.setup));
        world.with(|scene, _, control| control.turn(scene));
    }
    world.node.runners[0].counters.drops[DropReason::SpillFull as usize].value()
}

/// Plays the scenario, partly while the answer is on its way. The seed determines how messages are
/// cut.
///
/// # Panics
/// If the client misses something, gets it twice, or is told about a gap.
pub fn play(seed: u64) {
    let (mut world, client, channel) = begin(seed);
    for round in 1..=3 {
        let dropped = publish_unheard(&mut world, channel, 20);
        assert!(dropped >= round * 10, "{dropped} publications were dropped");
        for _ in 0..seed % 5 {
            // The shard notices the gap, and further gaps while it waits.
            world.with_network(|network| network.deliver(1));
            world.node.run(1, &world.setup);
            publish_unheard(&mut world, channel, 2);
        }
        world.pass(Duration::from_millis(500));
    }
    assert_eq!(world.notices, 0, "the history reaches back");
    let count = world.truth.count() as u64;
    assert_eq!(world.clients[client].plain().follows[&channel].last, Some(count));
    assert_eq!(world.clients[client].connections, 1);
    let counters = &world.node.runners[1].counters;
    assert!(counters.recoveries_ok.value() >= 3 && counters.recoveries_failed.value() == 0);
    world.settle();
    world.leave();
    world.check_remains();
}
