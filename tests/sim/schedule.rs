//! Random schedules, which are determined by a seed.

use std::sync::Arc;
use std::time::Duration;

use corecast::metrics::ShardCounters;

use super::centrifugo::{Centrifugo, Page};
use super::client::{Habits, Speech};
use super::network::Weather;
use super::plain::Plain;
use super::random::Random;
use super::setup::Setup;
use super::wire;
use super::world::World;

/// The result of a schedule.
pub struct Outcome {
    /// The counters of the shards.
    pub counters: Vec<Arc<ShardCounters>>,
    /// Number of publications whose idempotency key found no room.
    #[allow(dead_code, reason = "the census counts them")]
    pub keys_refused: u64,
    /// A hash that differs between different schedules.
    pub digest: u64,
}

/// Plays one schedule to its end.
///
/// # Panics
/// If the server breaks a promise.
pub fn play(seed: u64) -> Outcome {
    let mut world = begin(seed);
    let steps = world.with_network(|network| network.random.between(100, 700));
    for _ in 0..steps {
        world.step();
    }
    world.settle();
    world.leave();
    world.check_remains();
    let counters = world.node.runners.iter().map(|runner| Arc::clone(&runner.counters)).collect();
    let keys_refused = world.truth.keys_refused;
    Outcome {
        counters,
        keys_refused,
        digest: world.with_network(|network| network.random.number()),
    }
}

/// Plays a client that requests far more than it reads, in one message.
///
/// # Panics
/// If the server breaks a promise.
#[allow(dead_code, reason = "for the test that shows that a fault is noticed")]
pub fn play_greedy(seed: u64) {
    const QUESTIONS: usize = 200;
    let mut world = World::new(Setup::generous(2), Random::new(seed));
    let channel = world.setup.channel_of("");
    let client = world.add(Speech::Centrifugo(Centrifugo::new(Vec::new())));
    world.clients[client].buffers = Some((20_000, 50_000));
    world.truth.padding = Some(2_000);
    for _ in 0..60 {
        world.with(|scene, _, control| control.publish(scene, channel, (None, false)));
        world.round(Duration::from_millis(1));
    }
    world.until("everybody is served", World::is_settled);
    world.clients[client].habits.reads_max = 0;
    world.with_client(client, |client, scene| {
        let page = Page { limit: -1, since: None, reverse: false };
        (0..QUESTIONS).for_each(|_| client.centrifugo().history(scene, channel, page));
        let lines = std::mem::take(&mut client.centrifugo().lines).join("\n");
        client.push_frame(scene, wire::TEXT, lines.as_bytes());
    });
    world.pass(Duration::from_secs(1));
    world.clients[client].habits.reads_max = usize::MAX;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.clients[client].connections, 1, "no client is closed for it");
}

/// Plays a client that stops reading while its channel is busy.
///
/// # Panics
/// If the server breaks a promise.
#[allow(dead_code, reason = "for the test that shows that a fault is noticed")]
pub fn play_deaf(seed: u64) {
    let mut setup = Setup::generous(2);
    // No answer could be as long as the publications that wait.
    setup.options.history_bytes_max = 4_000;
    setup.settings().client.outbox_bytes_max = 20_000;
    let mut world = World::new(setup, Random::new(seed));
    let channel = world.setup.channel_of("live");
    let client = world.add(Speech::Centrifugo(Centrifugo::new(vec![channel])));
    world.clients[client].buffers = Some((20_000, 4_000));
    world.until("everybody is served", World::is_settled);
    world.clients[client].habits.reads_max = 0;
    world.truth.padding = Some(2_000);
    for _ in 0..60 {
        world.with(|scene, _, control| control.publish(scene, channel, (None, false)));
        world.round(Duration::from_millis(1));
    }
    world.clients[client].habits.reads_max = usize::MAX;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.clients[client].ends, [3008], "it is closed as too slow");
}

fn begin(seed: u64) -> World {
    let mut random = Random::new(seed);
    let setup = Setup::random(&mut random);
    let calm = random.chance(20);
    let mut world = World::new(setup, random);
    let clients = world.with_network(|network| {
        if !calm {
            network.weather = Weather {
                short_writes: network.random.pick(&[0, 5, 40]),
                late_news: network.random.pick(&[0, 20, 70]),
                swapped_news: network.random.pick(&[0, 30]),
                idle_news: network.random.pick(&[0, 10]),
                no_memory: network.random.pick(&[0, 0, 10]),
            };
        }
        network.random.between(2, 9)
    });
    for _ in 0..clients {
        add_client(&mut world, calm);
    }
    world
}

fn add_client(world: &mut World, calm: bool) {
    let speech = speech(world);
    let number = world.add(speech);
    world.clients[number].habits = world.with_network(|network| {
        let random = &mut network.random;
        let talks = random.pick(&[0, 10, 60]);
        if calm {
            return Habits { talks, ..Habits::healthy() };
        }
        Habits {
            reads_max: random.pick(&[0, 7, 300, usize::MAX, usize::MAX]),
            reads: random.pick(&[5, 50, 100]),
            pongs: random.chance(85),
            talks,
            rude: random.pick(&[0, 0, 0, 10, 80]),
            leaves: random.pick(&[0, 0, 5, 40]),
            connects: true,
        }
    });
}

/// Returns a client with a random protocol and random channels.
fn speech(world: &mut World) -> Speech {
    let channels = &world.setup.channels;
    let open = |channel: &usize| channels[*channel].namespace.allow_subscribe_for_anonymous;
    let open: Vec<usize> = (0..channels.len()).filter(open).collect();
    let most = world.setup.options.client().channels_max;
    let mut network = world.node.network.borrow_mut();
    let random = &mut network.random;
    let mut wanted: Vec<usize> = open.into_iter().filter(|_| random.chance(60)).collect();
    wanted.truncate(most);
    if wanted.is_empty() || random.chance(65) {
        return Speech::Centrifugo(Centrifugo::new(wanted));
    }
    let publish = random.chance(50).then(|| random.pick(&wanted));
    let envelope = random.chance(50);
    Speech::Plain(Plain::new(envelope, wanted, publish))
}
