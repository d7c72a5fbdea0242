//! An upgrade whose subscription is delayed, because the home shard's inbox is full.

use super::client::Speech;
use super::plain::Plain;
use super::random::Random;
use super::setup::Setup;
use super::world::World;

/// Plays the scenario. The seed determines whether messages are wrapped, and how they are cut.
///
/// # Panics
/// If the client misses a publication that was made after the upgrade.
pub fn play(seed: u64) {
    let mut setup = Setup::generous(2);
    setup.inbox_batches = 1;
    let mut world = World::new(setup, Random::new(seed));
    let channel = world.setup.channel_of("");
    let envelope = seed.is_multiple_of(2);
    let client = world.add(Speech::Plain(Plain::new(envelope, vec![channel], None)));
    world.clients[client].shard = Some(1);
    world.clients[client].buffers = Some((20_000, 50_000));
    let publish = |world: &mut World| {
        world.with(|scene, _, control| control.publish(scene, channel, (None, false)))
    };
    publish(&mut world);
    for _ in 0..5 {
        world.act(client);
        world.with_network(|network| network.deliver(1));
        world.node.run(1, &world.setup);
        world.node.run(1, &world.setup);
    }
    world.act(client);
    let opened = world.clients[client].is_open();
    // The home shard has room again, and the application uses it first.
    world.node.run(0, &world.setup);
    let number = publish(&mut world);
    world.settle();
    let follow = &world.clients[client].plain().follows[&channel];
    assert!(!opened || follow.last_of(super::truth::CONTROL) >= Some(number), "it was not missed");
    world.leave();
    world.check_remains();
    assert!(!opened, "the upgrade was answered before the channel was subscribed");
}
