//! Channels without remaining subscribers, and more channels than the limit.

use std::time::Duration;

use super::{Random, SEED, Setup, World, centrifugo};
use crate::sim::centrifugo::Wishes;

/// A client subscribes to a channel without publications, leaves it as the last subscriber, and
/// returns after `missed` publications. Returns its offset and the number of failed recoveries.
fn come_back_to_the_beginning(missed: usize) -> (Option<u64>, u64) {
    let mut setup = Setup::generous(2);
    // The channel's home is on another shard than the client.
    let namespace = setup.channels[setup.channel_of("asked")].namespace.clone();
    setup.add_channel(&namespace, 1);
    let channel = setup.channels.len() - 1;
    let mut world = World::new(setup, Random::new(SEED));
    let client = world.add_to(0, centrifugo(&[]));
    let wishes = Wishes { recoverable: true, ..Wishes::default() };
    world.serve();
    world.with_client(client, |client, scene| {
        client.centrifugo().subscribe(scene, (channel, None), wishes);
        client.flush(scene);
    });
    world.serve();
    let memory = world.clients[client].centrifugo().memory[&channel];
    assert_eq!(memory.offset, 0);
    world.with_client(client, |client, scene| {
        client.centrifugo().unsubscribe(scene, channel);
        client.flush(scene);
    });
    world.serve();
    world.pass(Duration::from_secs(1));
    let homes = |world: &World| world.node.runners[1].counters.channels_home.value();
    assert_eq!(homes(&world), 0, "it costs nothing");
    world.publish_many(channel, missed);
    world.until("control has its answers", |world| world.control.waiting() == 0);
    world.with_client(client, |client, scene| {
        client.centrifugo().subscribe(scene, (channel, Some(memory)), wishes);
        client.flush(scene);
    });
    world.serve();
    let last = world.clients[client].centrifugo().subscribed[&channel].last;
    (last, world.node.runners[0].counters.recoveries_failed.value())
}

#[test]
fn who_left_a_channel_as_the_last_before_its_first_publication_recovers_all() {
    assert_eq!(come_back_to_the_beginning(0), (Some(0), 0));
    assert_eq!(come_back_to_the_beginning(2), (Some(2), 0));
}

#[test]
fn a_subscription_to_one_channel_too_many_is_refused_until_there_is_room() {
    let mut setup = Setup::generous(2);
    setup.channels_max = 1;
    let mut world = World::new(setup, Random::new(SEED));
    let channels = ["", "asked"].map(|namespace| world.setup.channel_of(namespace));
    let first = world.add_to(0, centrifugo(&[channels[0]]));
    let second = world.add_to(1, centrifugo(&[]));
    world.serve();
    let subscribe = |world: &mut World| {
        world.with_client(second, |client, scene| {
            client.centrifugo().subscribe(scene, (channels[1], None), Wishes::default());
            client.flush(scene);
        });
        world.serve();
    };
    subscribe(&mut world);
    let local = |world: &World| world.node.runners[1].counters.channels_local.value();
    assert_eq!(world.clients[second].centrifugo().told, [111]);
    assert_eq!(local(&world), 0, "nothing of the attempt is left");
    world.with_client(first, |client, scene| {
        let centrifugo = client.centrifugo();
        centrifugo.wanted.clear();
        centrifugo.unsubscribe(scene, channels[0]);
        client.flush(scene);
    });
    world.serve();
    subscribe(&mut world);
    assert!(world.clients[second].centrifugo().subscribed.contains_key(&channels[1]));
}

#[test]
fn a_client_that_invents_names_too_fast_is_refused_new_ones_for_a_while() {
    let mut setup = Setup::generous(2);
    setup.settings().client.channels_created_per_second_max = 1;
    setup.settings().client.channels_max = 2;
    let mut world = World::new(setup, Random::new(SEED));
    let channels = ["", "asked", "text"].map(|namespace| world.setup.channel_of(namespace));
    let client = world.add_to(0, centrifugo(&[]));
    world.serve();
    let try_one = |world: &mut World, channel: usize| {
        world.with_client(client, |client, scene| {
            client.centrifugo().subscribe(scene, (channel, None), Wishes::default());
            client.flush(scene);
        });
        world.serve();
        let subscribed = world.clients[client].centrifugo().subscribed.contains_key(&channel);
        world.with_client(client, |client, scene| {
            client.centrifugo().unsubscribe(scene, channel);
            client.flush(scene);
        });
        world.serve();
        subscribed
    };
    let other = world.add_to(0, centrifugo(&[channels[2]]));
    world.serve();
    let tries: Vec<bool> = (0..4).map(|_| try_one(&mut world, channels[0])).collect();
    assert_eq!(tries[..2], [true, true], "its burst");
    assert!(tries[2..].contains(&false), "and then its rate: {tries:?}");
    assert!(world.clients[client].centrifugo().told.contains(&111));
    assert!(try_one(&mut world, channels[2]), "existing channels may be used");
    world.pass(Duration::from_secs(3));
    assert!(try_one(&mut world, channels[1]), "it has earned another one");
    assert!(world.clients[other].ends.is_empty());
}
