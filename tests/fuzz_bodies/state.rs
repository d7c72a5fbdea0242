//! The world of the simulation, in which the input determines the events instead of a seed. So a
//! fuzzer can find sequences of events that are rare in random schedules.

use std::time::Duration;

use crate::sim::centrifugo::{Centrifugo, Page, Wishes};
use crate::sim::client::{Client, Habits, Speech};
use crate::sim::client_behaviour::{WAYS_TO_LEAVE, leave_in};
use crate::sim::network::Weather;
use crate::sim::plain::Plain;
use crate::sim::random::Random;
use crate::sim::scene::Scene;
use crate::sim::setup::Setup;
use crate::sim::truth::Publisher;
use crate::sim::wire;
use crate::sim::world::World;

/// Maximum number of steps. Further bytes are ignored, so that no input takes long.
const STEPS_MAX: usize = 120;

const CLIENTS: usize = 4;

/// Two bytes determine the settings and other random choices, one the weather, and one the
/// protocols of the clients. Each step has a byte for the event and its client, and one for
/// details.
///
/// # Panics
/// If a check fails.
pub(crate) fn check(data: &[u8]) {
    let [low, high, weather, protocols, steps @ ..] = data else { return };
    let seed = u16::from_le_bytes([*low, *high]);
    let mut world = begin(u64::from(seed), *weather, *protocols);
    for step in steps.as_chunks::<2>().0.iter().take(STEPS_MAX) {
        play(&mut world, *step);
        check_tables(&mut world);
    }
    world.settle();
    world.leave();
    world.check_remains();
}

fn begin(seed: u64, weather: u8, protocols: u8) -> World {
    let mut random = Random::new(seed);
    let setup = Setup::random(&mut random);
    let mut world = World::new(setup, random);
    let bit = |number: u8| usize::from(weather >> number & 1);
    world.with_network(|network| {
        network.weather = Weather {
            short_writes: 40 * bit(0),
            late_news: 50 * bit(1),
            swapped_news: 30 * bit(2),
            idle_news: 10 * bit(3),
            no_memory: 10 * bit(4),
        };
    });
    let open: Vec<usize> =
        (0..world.setup.channels.len()).filter(|&one| is_open(&world, one)).collect();
    let most = world.setup.options.client().channels_max;
    for number in 0..CLIENTS {
        let mut wanted: Vec<usize> = open.iter().copied().skip(number % 2).collect();
        wanted.truncate(most);
        let envelope = match protocols >> (2 * number) & 3 {
            2 => Some(false),
            3 => Some(true),
            _ => None,
        };
        let speech = match envelope {
            Some(envelope) if !wanted.is_empty() => {
                let publish = wanted.first().copied();
                Speech::Plain(Plain::new(envelope, wanted, publish))
            }
            _ => Speech::Centrifugo(Centrifugo::new(Vec::new())),
        };
        let number = world.add(speech);
        world.clients[number].habits = Habits { connects: false, ..Habits::healthy() };
    }
    world
}

fn is_open(world: &World, channel: usize) -> bool {
    world.setup.channels[channel].namespace.allow_subscribe_for_anonymous
}

/// Checks invariants after every step. `Node::run` checks those of each turn.
fn check_tables(world: &mut World) {
    world.check();
    for (shard, runner) in world.node.runners.iter_mut().enumerate() {
        assert_eq!(runner.shard.audit(), 0, "the tables of shard {shard} disagree");
        assert_eq!(runner.counters.panics.value(), 0, "shard {shard} has panicked");
    }
}

fn play(world: &mut World, [event, detail]: [u8; 2]) {
    let number = usize::from(event >> 4) % CLIENTS;
    let channel = usize::from(detail & 7) % world.setup.channels.len();
    let count = usize::from(detail >> 3);
    match event & 15 {
        0 => connect(world, number),
        1 => with_open(world, number, |client, scene| subscribe(client, scene, (channel, detail))),
        2 => with_open(world, number, |client, scene| unsubscribe(client, scene, channel)),
        3 => with_open(world, number, |client, scene| {
            (0..=count % 4).for_each(|_| publish(client, scene, channel));
        }),
        4 => publish_from_outside(world, channel, (count, None)),
        5 => publish_from_outside(world, channel, (0, Some(count))),
        6 => {
            world.clients[number].habits.reads_max =
                [0, 7, 300, usize::MAX][usize::from(detail & 3)]
        }
        7 => world.with_client(number, |client, scene| leave(client, scene, detail)),
        8 => {
            let millis = [1, 20, 50, 100, 300, 1000, 3000, 10_000][usize::from(detail & 7)];
            world.advance(Duration::from_millis(millis));
        }
        9 => turn(world, (usize::from(detail), count)),
        10 => world.act(number),
        11 => world.with(|scene, _, control| control.turn(scene)),
        12 => (0..=count % 8).for_each(|_| world.round(Duration::from_millis(30))),
        13 => administer(world, (number, channel), count),
        14 => misbehave(world, number, detail),
        _ => with_open(world, number, |client, scene| history(client, scene, (channel, detail))),
    }
}

fn connect(world: &mut World, number: usize) {
    world.clients[number].habits.connects = true;
    world.act(number);
    world.clients[number].habits.connects = false;
}

/// Lets a client send a request, if it is connected.
fn with_open(world: &mut World, number: usize, ask: impl FnOnce(&mut Client, &mut Scene<'_>)) {
    world.with_client(number, |client, scene| {
        let speaks = client.is_open() && !client.finished && !client.leaving && !client.tainted;
        let introduced = match &client.speech {
            Speech::Centrifugo(centrifugo) => {
                centrifugo.client.is_some() || centrifugo.is_waiting()
            }
            Speech::Plain(_) => true,
        };
        if speaks && introduced {
            ask(client, scene);
        }
    });
    world.act(number);
}

fn subscribe(client: &mut Client, scene: &mut Scene<'_>, (channel, detail): (usize, u8)) {
    let Speech::Centrifugo(centrifugo) = &mut client.speech else { return };
    let is_open = scene.setup.channels[channel].namespace.allow_subscribe_for_anonymous;
    let most = scene.setup.options.client().channels_max;
    if is_open && !centrifugo.wanted.contains(&channel) && centrifugo.wanted.len() < most {
        centrifugo.wanted.push(channel);
    }
    let since = centrifugo.memory.get(&channel).copied().filter(|_| detail & 8 == 0);
    let wishes = Wishes {
        positioned: detail & 16 != 0,
        recoverable: detail & 32 != 0,
        strict: detail & 64 != 0,
    };
    centrifugo.subscribe(scene, (channel, since), wishes);
}

fn unsubscribe(client: &mut Client, scene: &mut Scene<'_>, channel: usize) {
    let Speech::Centrifugo(centrifugo) = &mut client.speech else { return };
    centrifugo.wanted.retain(|&other| other != channel);
    centrifugo.unsubscribe(scene, channel);
}

fn publish(client: &mut Client, scene: &mut Scene<'_>, channel: usize) {
    let publisher = Publisher { client: client.number, connection: client.connections };
    match &mut client.speech {
        Speech::Centrifugo(centrifugo) => centrifugo.publish(scene, channel, publisher),
        Speech::Plain(plain) => {
            let Some(channel) = plain.publish else { return };
            let attempt = scene.invoke(channel, publisher);
            let data = scene.truth.attempt(attempt).data.clone();
            let opcode = if std::str::from_utf8(&data).is_ok() { wire::TEXT } else { wire::BINARY };
            client.push_message(scene, opcode, &data);
        }
    }
}

fn history(client: &mut Client, scene: &mut Scene<'_>, (channel, detail): (usize, u8)) {
    let Speech::Centrifugo(centrifugo) = &mut client.speech else { return };
    let memory = centrifugo.memory.get(&channel).copied();
    let page = Page {
        limit: [-1, 0, 1, 3][usize::from(detail >> 3 & 3)],
        since: memory.filter(|_| detail & 32 != 0),
        reverse: detail & 64 != 0,
    };
    centrifugo.history(scene, channel, page);
}

/// Publishes from the application: several times, or once with an idempotency key.
fn publish_from_outside(world: &mut World, channel: usize, (count, key): (usize, Option<usize>)) {
    world.with(|scene, _, control| {
        let skips_history = key.is_some_and(|key| key & 1 != 0);
        for _ in 0..=count {
            control.publish(scene, channel, (key.map(|key| key >> 1), skips_history));
        }
    });
}

/// Runs some turns of one shard, with the events that have arrived.
fn turn(world: &mut World, (shard, count): (usize, usize)) {
    let shard = shard % world.setup.shards;
    world.with_network(|network| network.deliver(shard));
    (0..=count % 4).for_each(|_| world.node.run(shard, &world.setup));
}

fn leave(client: &mut Client, scene: &mut Scene<'_>, how: u8) {
    let way = match usize::from(how) % WAYS_TO_LEAVE {
        // A close frame can be sent once. The next time, the client leaves in silence.
        0 if client.leaving || client.finished => WAYS_TO_LEAVE - 1,
        way => way,
    };
    leave_in(client, scene, way);
}

/// Ends subscriptions or connections from the application, or removes a history.
fn administer(world: &mut World, (number, channel): (usize, usize), what: usize) {
    let id = match &world.clients[number].speech {
        Speech::Centrifugo(centrifugo) => centrifugo.client.clone(),
        Speech::Plain(_) => None,
    };
    let ids: Vec<String> = id.into_iter().collect();
    world.with(|scene, _, control| match what % 4 {
        0 => control.disconnect(scene, &ids),
        1 => control.unsubscribe(scene, (channel, &ids)),
        2 => control.remove_history(scene, channel),
        _ => control.ask_channels(scene),
    });
}

/// Makes a client break the protocol or stop answering pings, or makes the kernel end its watch.
fn misbehave(world: &mut World, number: usize, how: u8) {
    match how % 3 {
        0 => {
            world.clients[number].habits.rude = 1000;
            world.act(number);
            world.clients[number].habits.rude = 0;
        }
        1 => world.clients[number].habits.pongs ^= true,
        _ => {
            if let Some(link) = world.clients[number].link {
                world.with_network(|network| network.end_watch(link));
            }
        }
    }
}
