//! Sweeps over more connections than fit into one chunk, with new publications in between.

use std::time::Duration;

use super::{Random, SEED, Setup, World, centrifugo, plain};
use crate::sim::truth::CONTROL;
use corecast::limits::SWEEP_LOOKS_MAX;

const CLIENTS: usize = 700;

#[test]
fn everybody_gets_everything_in_order_while_a_long_sweep_goes_on() {
    let mut setup = Setup::generous(2);
    setup.options.connections_max = CLIENTS;
    let mut world = World::new(setup, Random::new(SEED));
    let (text, live) = (world.setup.channel_of("text"), world.setup.channel_of("live"));
    for number in 0..CLIENTS {
        let speech = match number % 4 {
            0 => centrifugo(&[text]),
            1 => centrifugo(&[live, text]),
            2 => plain(false, &[text]),
            _ => plain(true, &[live, text]),
        };
        world.add_to(number % 2, speech);
        // A few clients read in small pieces.
        if number % 50 == 0 {
            world.clients[number].buffers = Some((1_000, 150));
        }
    }
    world.serve();
    // Each shard has one turn for each publication, but a sweep takes two turns.
    let mut last = 0;
    for _ in 0..30 {
        for channel in [live, text] {
            last = world.with(|scene, _, control| control.publish(scene, channel, (None, false)));
        }
        for shard in [0, 1] {
            world.with_network(|network| network.deliver(shard));
            world.node.run(shard, &world.setup);
        }
        world.advance(Duration::from_millis(1));
        world.with(|scene, _, control| control.turn(scene));
    }
    world.serve();
    for number in 0..CLIENTS {
        assert_eq!(world.clients[number].connections, 1, "client {number} is undisturbed");
        let client = &mut world.clients[number];
        let follow = match number % 4 {
            0 | 1 => &client.centrifugo().subscribed[&text],
            _ => &client.plain().follows[&text],
        };
        assert_eq!(follow.last_of(CONTROL), Some(last), "client {number} has everything");
    }
    let writes: u64 = world.node.runners.iter().map(|one| one.counters.deliveries.value()).sum();
    assert_eq!(writes as usize, CLIENTS * 30 + CLIENTS / 2 * 30, "each delivery is counted once");
}

#[test]
fn a_turn_looks_at_so_many_that_take_nothing_and_no_more() {
    const BLOCKED: usize = SWEEP_LOOKS_MAX + 100;
    let mut setup = Setup::generous(1);
    setup.options.connections_max = BLOCKED;
    let mut world = World::new(setup, Random::new(SEED));
    let channel = world.setup.channel_of("live");
    for _ in 0..BLOCKED {
        let number = world.add_to(0, plain(false, &[channel]));
        world.clients[number].buffers = Some((1_000, 100));
    }
    world.serve();
    world.clients.iter_mut().for_each(|client| client.habits.reads_max = 0);
    world.truth.padding = Some(2_000);
    world.publish_many(channel, 1);
    world.pass(Duration::from_millis(500));
    world.truth.padding = Some(10);
    world.with(|scene, _, control| control.publish(scene, channel, (None, false)));
    let deliveries = |world: &World| world.node.runners[0].counters.deliveries.value() as usize;
    let (before, mut most) = (deliveries(&world), 0);
    for _ in 0..10 {
        let last = deliveries(&world);
        world.node.run(0, &world.setup);
        most = most.max(deliveries(&world) - last);
    }
    assert_eq!(deliveries(&world) - before, BLOCKED, "all subscribers will receive it");
    assert_eq!(most, SWEEP_LOOKS_MAX);
    world.clients.iter_mut().for_each(|client| client.habits.reads_max = usize::MAX);
    world.serve();
}
