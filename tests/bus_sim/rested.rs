//! Schedules in which data is lost while all nodes have read everything. The state of each reader
//! is then known, and so are the losses that it must notice.

use std::time::Duration;

use corecast::limits::BUS_CHANNEL_TTL;

use super::node::LONG;
use super::schedule::Outcome;
use super::setup::BusSetup;
use super::store::Stream;
use super::world::World;
use crate::sim::random::Random;

/// Creates nodes that have read all publications, with clients that are served.
fn rested(seed: u64) -> World {
    let mut random = Random::new(seed);
    let mut setup = BusSetup::random(&mut random);
    while !setup.is_roomy() || !setup.node.channels[0].has_history() {
        setup = BusSetup::random(&mut random);
    }
    let mut world = World::new(setup, random, 3);
    world.rest();
    for _ in 0..world.between(10, 40) {
        publish(&mut world);
    }
    world.rest();
    world
}

fn publish(world: &mut World) {
    let channel = world.below(world.setup.node.channels.len());
    world.publish(channel, false).expect("everybody serves");
    world.round(Duration::from_millis(5));
}

fn outcome(world: &World) -> Outcome {
    let digest = world.network.borrow_mut().random.number();
    Outcome { published: world.record.count(), seen: world.record.seen(), digest }
}

/// An old place of a channel is written to Redis. The place is used again before a node can notice
/// it. Any node that has read it before ends the epoch, so that no node continues in it.
///
/// # Panics
/// If a promise is broken.
pub fn play_written_place(seed: u64) -> Outcome {
    let mut world = rested(seed);
    // Only nodes with subscribers know the place of a channel without a history.
    let channel = 0;
    let name = world.setup.node.channels[channel].name.clone();
    let (before, by) = (world.top(channel), world.between(1, 9) as u64);
    let stream = corecast::bus::stream_of(&name, world.setup.streams);
    let mut is_set_back = false;
    world.redis.harm_one(stream, |stream| is_set_back = stream.places.set_back(&name, by));
    world.record.written_to.push(channel);
    world.publish(channel, false).expect("everybody serves");
    world.until("the epoch has ended", LONG, |world| {
        !is_set_back || world.top(channel).epoch != before.epoch
    });
    for _ in 0..20 {
        publish(&mut world);
    }
    world.settle();
    outcome(&world)
}

/// An epoch ends while one node has not read all of it. Its publications were acknowledged, so they
/// are delivered on that node as well, before clients are told about the next epoch.
///
/// # Panics
/// If a promise is broken.
pub fn play_unread_end(seed: u64) -> Outcome {
    let mut world = rested(seed);
    let (channel, before, now) = (0, world.top(0), world.now());
    let paused = |world: &mut World, until| {
        world.seats[1].node.as_mut().expect("everybody serves").paused_until = until;
    };
    paused(&mut world, now.after(LONG));
    let mut left = Vec::new();
    for _ in 0..world.between(2, 9) {
        left.push(publish_at(&mut world, 0, channel));
    }
    let name = world.setup.node.channels[channel].name.clone();
    let stream = corecast::bus::stream_of(&name, world.setup.streams);
    world.redis.harm_one(stream, |stream| stream.places.lose(&name));
    publish_at(&mut world, 0, channel);
    assert_ne!(world.top(channel).epoch, before.epoch, "a loss ends the epoch");
    let now = world.now();
    paused(&mut world, now);
    world.rest();
    for client in world.clients.iter().filter(|client| client.wanted.contains(&channel)) {
        let missing = left.iter().find(|number| !client.seen.contains(number));
        assert_eq!(missing, None, "client {} is not given it", client.number);
    }
    world.settle();
    outcome(&world)
}

/// Redis forgets a publisher after it has taken the publisher's first batch, and the answer is
/// lost. The batch must not be taken again.
///
/// # Panics
/// If a promise is broken.
pub fn play_forgotten_publisher(seed: u64) -> Outcome {
    let mut world = rested(seed);
    // A new process has published nothing yet.
    world.kill(0, Duration::from_millis(1));
    world.rest();
    let channel = 0;
    let number = world.record.invoke((channel, 1000), false);
    let now = world.now();
    let node = world.seats[0].node.as_mut().expect("everybody serves");
    node.publish(&world.setup, &mut world.record, now, number);
    world.until("it is appended", LONG, |world| world.record.is_appended(number));
    for link in world.redis.links() {
        world.redis.cut(link, false);
    }
    world.redis.harm(Stream::delete_publishers);
    world.until("it is answered", LONG, |world| world.record.is_answered(number));
    for _ in 0..20 {
        publish(&mut world);
    }
    world.settle();
    outcome(&world)
}

/// Publishes on one node, and waits for the acknowledgement.
fn publish_at(world: &mut World, seat: usize, channel: usize) -> usize {
    let number = world.record.invoke((channel, 1000 + seat), false);
    let now = world.now();
    let node = world.seats[seat].node.as_mut().expect("everybody serves");
    node.publish(&world.setup, &mut world.record, now, number);
    world.until("it is acknowledged", LONG, |world| world.record.is_acked(number));
    number
}

/// The clock of Redis jumps so far, and back, that silent channels are forgotten. They must start
/// again at places that they never had.
///
/// # Panics
/// If a promise is broken.
pub fn play_generations(seed: u64) -> Outcome {
    let mut world = rested(seed);
    let generation = BUS_CHANNEL_TTL.as_millis() as i64;
    for by in [generation, -generation, 2 * generation, generation, -3 * generation] {
        world.redis.jump(by);
        // The first channel stays silent.
        for channel in 1..world.setup.node.channels.len() {
            world.publish(channel, false).expect("everybody serves");
        }
        world.rest();
    }
    for _ in 0..20 {
        publish(&mut world);
    }
    world.settle();
    outcome(&world)
}

/// Redis returns to an earlier state in the same process. Nodes have read the lost entries, so none
/// of their places may be used again.
///
/// # Panics
/// If a promise is broken.
pub fn play_setback(seed: u64) -> Outcome {
    let mut world = rested(seed);
    let lost = world.between(1, 8);
    world.redis.go_back(lost);
    world.rest();
    for _ in 0..20 {
        publish(&mut world);
    }
    world.settle();
    outcome(&world)
}
