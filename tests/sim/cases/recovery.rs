//! Recovery returns all missed publications, or clearly says that it could not.

use std::time::Duration;

use super::{Random, SEED, World, centrifugo, plain};

/// Returns a node whose "text" channels keep `size` publications. Their home is on another shard
/// than the client under test.
fn keeping(size: usize) -> (World, usize) {
    let mut setup = super::Setup::generous(2);
    let mut namespace = setup.channels[setup.channel_of("text")].namespace.clone();
    namespace.history_size = size;
    namespace.allow_recovery = true;
    let all = setup.channels.iter().map(|channel| channel.namespace.clone());
    let all = all.map(|one| if one.name == "text" { namespace.clone() } else { one }).collect();
    setup.settings().channel.namespaces = corecast::channel::Namespaces::new(all, 255);
    setup.add_channel(&namespace, 1);
    let channel = setup.channels.len() - 1;
    (World::new(setup, Random::new(SEED)), channel)
}

/// Returns the counters of a client that returns after `missed` publications, of which 5 are kept.
fn come_back(missed: usize) -> (u64, u64) {
    let (mut world, channel) = keeping(5);
    let client = world.add_to(0, centrifugo(&[channel]));
    world.serve();
    world.publish_many(channel, 3);
    world.serve();
    world.clients[client].habits.connects = false;
    world.with_client(client, |client, scene| client.reset(scene));
    world.publish_many(channel, missed);
    world.until("control has its answers", |world| world.control.waiting() == 0);
    let memory = world.clients[client].centrifugo().memory[&channel];
    assert_eq!(memory.offset, 3);
    world.with_client(client, |client, scene| {
        client.centrifugo().wanted.clear();
        client.habits.connects = true;
        client.act(scene);
    });
    world.serve();
    world.with_client(client, |client, scene| {
        client.centrifugo().subscribe(scene, (channel, Some(memory)), Default::default());
        client.flush(scene);
    });
    world.serve();
    let last = world.clients[client].centrifugo().subscribed[&channel].last;
    assert_eq!(
        last,
        Some(3 + missed as u64),
        "the subscription continues at the top in both cases"
    );
    let counters = &world.node.runners[0].counters;
    (counters.recoveries_ok.value(), counters.recoveries_failed.value())
}

#[test]
fn a_client_recovers_exactly_up_to_what_is_kept() {
    assert_eq!(come_back(0), (1, 0));
    assert_eq!(come_back(1), (1, 0));
    assert_eq!(come_back(5), (1, 0), "at the border");
    assert_eq!(come_back(6), (0, 1), "one beyond it");
}

#[test]
fn plain_clients_recover_by_their_query_or_are_told_that_they_can_not() {
    for (missed, recovers) in [(5, true), (6, false)] {
        let (mut world, channel) = keeping(5);
        let bare = world.add_to(0, plain(false, &[channel]));
        let envelope = world.add_to(0, plain(true, &[channel]));
        world.serve();
        world.publish_many(channel, 3);
        world.serve();
        for client in [bare, envelope] {
            world.clients[client].habits.connects = false;
            world.with_client(client, |client, scene| client.reset(scene));
        }
        world.publish_many(channel, missed);
        world.until("control has its answers", |world| world.control.waiting() == 0);
        for client in [bare, envelope] {
            // The client must not leave out its position by chance.
            while world.clients[client].link.is_none() {
                world.with_client(client, |client, scene| {
                    client.habits.connects = true;
                    client.act(scene);
                    client.habits.connects = false;
                    if client.plain().since.is_empty() {
                        client.reset(scene);
                    }
                });
            }
        }
        world.pass(Duration::from_secs(1));
        let last = world.clients[envelope].plain().follows[&channel].reached();
        assert_eq!(last, Some(3 + missed as u64));
        let end = if recovers { None } else { Some(3010) };
        assert_eq!(world.last_end(bare), end);
    }
}

#[test]
fn who_will_not_go_on_without_recovery_is_refused_with_112() {
    let (mut world, channel) = keeping(5);
    let client = world.add_to(0, centrifugo(&[channel]));
    world.serve();
    world.publish_many(channel, 10);
    world.serve();
    let mut old = world.clients[client].centrifugo().memory[&channel];
    old.offset = 1;
    world.with_client(client, |client, scene| {
        let strict = crate::sim::centrifugo::Wishes { strict: true, ..Default::default() };
        let centrifugo = client.centrifugo();
        centrifugo.wanted.clear();
        centrifugo.unsubscribe(scene, channel);
        centrifugo.subscribe(scene, (channel, Some(old)), strict);
        client.flush(scene);
    });
    world.serve();
    let centrifugo = world.clients[client].centrifugo();
    assert_eq!(centrifugo.told, [112]);
    assert!(centrifugo.subscribed.is_empty());
    let local = world.node.runners[0].counters.channels_local.value();
    assert_eq!(local, 0, "and nothing of the attempt is left");
}

#[test]
fn a_subscriber_that_missed_something_is_unsubscribed_and_recovers() {
    let (mut world, channel) = keeping(100);
    world.setup.inbox_batches = 1;
    world.setup.spill_bytes = 1;
    let mut world = World::new(world.setup, Random::new(SEED));
    let clients = [0, 0].map(|shard| world.add_to(shard, centrifugo(&[channel])));
    world.serve();
    // The clients' shard does not run, so its inbox fills up, and the spill has no room.
    for _ in 0..20 {
        world.publish_many(channel, 1);
        world.with_network(|network| network.deliver(1));
        world.node.run(1, &world.setup);
        world.with(|scene, _, control| control.turn(scene));
    }
    world.serve();
    for client in clients {
        let centrifugo = world.clients[client].centrifugo();
        assert_eq!(centrifugo.subscribed[&channel].last, Some(20));
    }
}
