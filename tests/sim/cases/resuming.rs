//! A `connect` with subscriptions whose channels can't be had. The close says why, and which
//! channel.

use std::time::Duration;

use corecast::reason::CloseReason;

use super::{Random, SEED, Setup, World, centrifugo};

/// Adds a client to a shard whose `connect` has subscriptions to `channels`.
fn add_resuming(world: &mut World, shard: usize, channels: &[usize]) -> usize {
    let client = world.add_to(shard, centrifugo(channels));
    world.clients[client].centrifugo().always_resumes = true;
    client
}

/// Returns the code and text with which a client was closed, once for all of its connections.
fn end(world: &World, client: usize) -> (u16, &str) {
    let (ends, texts) = (&world.clients[client].ends, &world.clients[client].texts);
    assert_eq!((ends.len(), texts.len()), (1, 1), "it was closed once: {ends:?} {texts:?}");
    (ends[0], &texts[0])
}

fn closes(world: &World, reason: CloseReason) -> u64 {
    let runners = world.node.runners.iter();
    runners.map(|runner| runner.counters.closes[reason as usize].value()).sum()
}

/// A setup without room for the second of two clients.
fn check_refused(setup: Setup, text: &str) {
    let mut world = World::new(setup, Random::new(SEED));
    let channels = ["asked", "text"].map(|namespace| world.setup.channel_of(namespace));
    world.add_to(0, centrifugo(&channels[..1]));
    world.serve();
    let client = add_resuming(&mut world, 1, &channels[1..]);
    // The client comes back without the channel, of which it knows by the text.
    world.serve();
    let name = &world.setup.channels[channels[1]].name;
    assert_eq!(end(&world, client), (3013, format!("{text}; channel {name:?}").as_str()));
    assert_eq!(closes(&world, CloseReason::TooManyRequests), 1);
    assert_eq!(closes(&world, CloseReason::InternalError), 0);
}

#[test]
fn a_connect_with_one_channel_too_many_for_the_node_is_told_so() {
    let mut setup = Setup::generous(2);
    setup.channels_max = 1;
    check_refused(setup, "too many requests: channel.channels_max is reached");
}

#[test]
fn a_connect_with_more_new_channels_than_the_node_accepts_is_told_so() {
    let mut setup = Setup::generous(2);
    setup.settings().channel.created_per_second_max = 1;
    check_refused(setup, "too many requests: channel.created_per_second_max is reached");
}

#[test]
fn a_connect_with_more_channels_than_a_client_may_have_is_told_so() {
    let mut setup = Setup::generous(2);
    setup.settings().client.channels_max = 2;
    let mut world = World::new(setup, Random::new(SEED));
    let channels = ["", "asked", "text"].map(|namespace| world.setup.channel_of(namespace));
    let client = add_resuming(&mut world, 0, &channels);
    world.until("it is closed", |world| world.last_end(client).is_some());
    let text = "channel limit: 3 channels, but client.channels_max = 2";
    assert_eq!(end(&world, client), (3505, text));
}

#[test]
fn a_connect_that_no_home_answers_is_told_for_which_channels_it_waited() {
    let mut world = World::new(Setup::generous(2), Random::new(SEED));
    let channels = ["", "asked", "text"].map(|namespace| world.setup.channel_of(namespace));
    let client = add_resuming(&mut world, 1, &channels);
    world.clients[client].habits.connects = true;
    // The first shard is the home of all channels, and does not run.
    for _ in 0..200 {
        world.advance(Duration::from_millis(30));
        world.act(client);
        world.with_network(|network| network.deliver(1));
        (0..2).for_each(|_| world.node.run(1, &world.setup));
        if world.last_end(client).is_some() {
            break;
        }
    }
    let (code, text) = end(&world, client);
    let names = channels.map(|channel| &world.setup.channels[channel].name);
    let text_of = |name| format!("subscribing took longer than 3s; channel {name:?} and 2 others");
    assert!(code == 3004 && names.iter().any(|name| text_of(name) == text), "{code} {text:?}");
    assert_eq!(closes(&world, CloseReason::InternalError), 1);
    // The client comes back when the home answers.
    world.serve();
    assert_eq!(world.clients[client].centrifugo().subscribed.len(), 3);
}
