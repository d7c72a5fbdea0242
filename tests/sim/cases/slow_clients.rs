//! Clients that don't read are closed or miss publications. No other client is affected.

use super::{Random, SEED, Setup, World, centrifugo, plain, world};
use crate::sim::centrifugo::Page;
use crate::sim::truth::CONTROL;
use corecast::reason::CloseReason;

/// More publications than fit into an outbox of the usual size.
const TOO_MANY: usize = 1500;

#[test]
fn a_client_that_does_not_read_is_closed_with_3008_and_recovers_while_others_get_everything() {
    let mut world = world(2);
    let channel = world.setup.channel_of("text");
    let slow = world.add_to(0, centrifugo(&[channel]));
    let others = [
        world.add_to(0, centrifugo(&[channel])),
        world.add_to(1, centrifugo(&[channel])),
        world.add_to(0, plain(false, &[channel])),
        world.add_to(1, plain(true, &[channel])),
    ];
    world.serve();
    world.clients[slow].habits.reads_max = 0;
    let last = world.publish_many(channel, TOO_MANY);
    world.round(std::time::Duration::from_millis(10));
    for other in others {
        assert_eq!(world.clients[other].connections, 1, "no other client is affected");
    }
    world.clients[slow].habits.reads_max = usize::MAX;
    world.until("the slow client knows", |world| world.last_end(slow) == Some(3008));
    world.serve();
    let top = world.clients[others[0]].centrifugo().subscribed[&channel].last;
    let slow = world.clients[slow].centrifugo();
    assert_eq!(slow.subscribed[&channel].last, top, "it is at the top again");
    let follow = &world.clients[others[2]].plain().follows[&channel];
    assert_eq!(follow.last_of(CONTROL), Some(last));
}

#[test]
fn a_slow_client_of_a_skipping_channel_stays_and_is_told_what_it_missed() {
    let mut world = world(2);
    let channel = world.setup.channel_of("skip");
    let envelope = world.add_to(1, plain(true, &[channel]));
    let centrifugo = world.add_to(0, centrifugo(&[channel]));
    // With larger buffers, the client would be too slow several times.
    world.clients[envelope].buffers = Some((1_000, 1_000));
    world.serve();
    for slow in [envelope, centrifugo] {
        world.clients[slow].habits.reads_max = 0;
    }
    world.publish_many(channel, TOO_MANY);
    world.pass(std::time::Duration::from_millis(200));
    for slow in [envelope, centrifugo] {
        world.clients[slow].habits.reads_max = usize::MAX;
    }
    world.serve();
    // The checker verifies that the notice covers exactly the missing publications.
    assert_eq!(world.notices, 1, "it is told when it has caught up, though nothing newer came");
    let last = world.publish_many(channel, 1);
    world.serve();
    assert_eq!(world.notices, 1, "and once");
    assert_eq!(world.clients[envelope].connections, 1);
    assert_eq!(world.clients[centrifugo].connections, 1);
    let follow = &world.clients[envelope].plain().follows[&channel];
    assert_eq!(follow.last_of(CONTROL), Some(last));
    let skipped: u64 = world.node.runners.iter().map(|one| one.counters.drops[0].value()).sum();
    assert!(skipped > 0, "skipped publications are counted");
}

#[test]
fn a_slow_client_is_told_of_its_gap_once_before_whatever_is_published_while_it_catches_up() {
    for pause in 0..8 {
        let mut world = world(1);
        let channel = world.setup.channel_of("skip");
        let slow = world.add(plain(true, &[channel]));
        world.clients[slow].buffers = Some((1_000, 1_000));
        world.serve();
        world.clients[slow].habits.reads_max = 0;
        world.publish_many(channel, TOO_MANY);
        world.pass(std::time::Duration::from_millis(200));
        // The publication and room in the outbox appear in one turn, or some rounds apart.
        world.clients[slow].habits.reads_max = usize::MAX;
        (0..pause).for_each(|_| world.round(std::time::Duration::from_millis(1)));
        let last = world.publish_many(channel, 1);
        world.serve();
        assert_eq!(world.notices, 1, "after {pause} rounds");
        assert_eq!(world.clients[slow].connections, 1);
        let follow = &world.clients[slow].plain().follows[&channel];
        assert_eq!(follow.last_of(CONTROL), Some(last), "after {pause} rounds");
    }
}

#[test]
fn a_slow_client_without_a_word_for_gaps_is_closed_with_3010() {
    let mut world = world(1);
    let channel = world.setup.channel_of("skip");
    let slow = world.add_to(0, plain(false, &[channel]));
    world.serve();
    world.clients[slow].habits.reads_max = 0;
    world.publish_many(channel, TOO_MANY);
    world.clients[slow].habits.reads_max = usize::MAX;
    assert_eq!(world.wait_end(slow), Some(3010));
}

#[test]
fn a_client_that_turns_out_too_slow_at_a_gap_is_told_nothing_after_its_close_frame() {
    let mut setup = Setup::generous(2);
    let text = setup.channels[setup.channel_of("text")].namespace.clone();
    setup.add_channel(&text, 1);
    let channel = setup.channels.len() - 1;
    (setup.inbox_batches, setup.spill_bytes) = (4, 10_000);
    setup.settings().client.outbox_bytes_max = 20_000;
    let mut world = World::new(setup, Random::new(SEED));
    let clients = [0, 0].map(|shard| world.add_to(shard, plain(true, &[channel])));
    world.clients[clients[0]].buffers = Some((1_000, 100));
    world.serve();
    world.clients[clients[0]].habits.reads_max = 0;
    world.truth.padding = Some(3_000);
    world.publish_many(channel, 5);
    world.pass(std::time::Duration::from_millis(100));
    // The client's shard does not run. Four small batches fill the inbox, a large one waits in the
    // spill, and the next one finds no room.
    for (padding, at_once) in [(10, 1), (10, 1), (10, 1), (10, 1), (3_000, 4), (10, 1)] {
        world.truth.padding = Some(padding);
        for _ in 0..at_once {
            world.with(|scene, _, control| control.publish(scene, channel, (None, false)));
        }
        (0..2).for_each(|_| world.node.run(1, &world.setup));
        world.with(|scene, _, control| control.turn(scene));
    }
    assert_eq!(world.node.runners[1].counters.drops[1].value(), 1, "one found no room");
    let closes =
        |world: &World| world.node.runners[0].counters.closes[CloseReason::Slow as usize].value();
    // First the small batches, then the large one together with the notice.
    for (shard, closed) in [(0, 0), (1, 0), (0, 1)] {
        world.advance(std::time::Duration::from_millis(100));
        (0..2).for_each(|_| world.node.run(shard, &world.setup));
        assert_eq!(closes(&world), closed);
    }
    world.clients[clients[0]].habits.connects = false;
    world.clients[clients[0]].habits.reads_max = usize::MAX;
    assert_eq!(world.wait_end(clients[0]), Some(3008));
    world.pass(std::time::Duration::from_secs(1));
    let last = world.clients[clients[1]].plain().follows[&channel].last;
    assert_eq!(last, Some(world.truth.count() as u64), "the other one was given what was missing");
    assert_eq!(world.notices, 0);
}

#[test]
fn a_client_that_takes_nothing_is_closed_in_time_however_little_waits_for_it() {
    let mut world = world(1);
    let channel = world.setup.channel_of("live");
    let slow = world.add_to(0, plain(false, &[channel]));
    world.clients[slow].buffers = Some((1_000, 300));
    world.serve();
    world.clients[slow].habits.reads_max = 0;
    world.clients[slow].habits.connects = false;
    world.truth.padding = Some(2_000);
    world.publish_many(channel, 1);
    world.pass(world.setup.options.client().pong_timeout - std::time::Duration::from_millis(300));
    assert_eq!(world.node.runners[0].counters.closes[CloseReason::Slow as usize].value(), 0);
    world.pass(std::time::Duration::from_millis(600));
    assert_eq!(world.node.runners[0].counters.closes[CloseReason::Slow as usize].value(), 1);
}

#[test]
fn without_memory_for_outboxes_the_fullest_is_closed_and_who_reads_stays() {
    let mut setup = Setup::generous(2);
    setup.outboxes_bytes = 1_000_000;
    let mut world = World::new(setup, Random::new(SEED));
    let channel = world.setup.channel_of("");
    world.truth.padding = Some(1_000);
    world.publish_many(channel, 100);
    let others = [0, 1].map(|shard| world.add_to(shard, centrifugo(&[channel])));
    let greedy = [(); 30].map(|()| world.add_to(1, centrifugo(&[])));
    world.serve();
    for client in greedy {
        world.with_client(client, |client, scene| {
            client.habits.reads_max = 0;
            client.habits.connects = false;
            let page = Page { limit: -1, since: None, reverse: false };
            client.centrifugo().history(scene, channel, page);
            client.flush(scene);
        });
    }
    // Every turn checks that usage stays within the lease, and leases within the total.
    world.pass(std::time::Duration::from_secs(1));
    let full = world.node.runners[1].counters.closes[CloseReason::OutboxesFull as usize].value();
    assert!((15..30).contains(&full), "{full} of 30 are closed");
    let last = world.publish_many(channel, 1);
    world.pass(std::time::Duration::from_secs(1));
    for other in others {
        assert_eq!(world.clients[other].connections, 1, "a client that reads is not affected");
        let follow = &world.clients[other].centrifugo().subscribed[&channel];
        assert_eq!(follow.last_of(CONTROL), Some(last));
    }
}

#[test]
fn without_memory_for_outboxes_an_upgrade_that_waits_is_told_503() {
    let mut setup = Setup::generous(3);
    setup.outboxes_bytes = 60_000;
    let namespace = setup.channels[setup.channel_of("")].namespace.clone();
    setup.add_channel(&namespace, 2);
    let (busy, late) = (setup.channel_of(""), setup.channels.len() - 1);
    let mut world = World::new(setup, Random::new(SEED));
    let client = world.add_to(1, plain(true, &[busy, late]));
    world.clients[client].habits.connects = true;
    world.truth.padding = Some(1_000);
    // The shard of the second channel does not run, so the upgrade waits.
    for round in 0..200 {
        world.act(client);
        world.clients[client].habits.connects = false;
        if round > 10 {
            world.with(|scene, _, control| control.publish(scene, busy, (None, false)));
        }
        for shard in [1, 0, 1] {
            world.with_network(|network| network.deliver(shard));
            world.node.run(shard, &world.setup);
        }
        world.with(|scene, _, control| control.turn(scene));
    }
    assert_eq!(world.wait_end(client), Some(503));
}
