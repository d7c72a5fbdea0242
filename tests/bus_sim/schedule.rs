//! Random schedules, which are determined by a seed.

use std::time::Duration;

use super::faults::Trouble;
use super::setup::BusSetup;
use super::world::World;
use crate::sim::random::Random;

/// The result of a schedule.
pub struct Outcome {
    pub published: usize,
    pub seen: usize,
    /// A hash that differs between different schedules.
    pub digest: u64,
}

/// Plays one schedule to its end.
///
/// # Panics
/// If a promise is broken.
pub fn play(seed: u64) -> Outcome {
    let mut random = Random::new(seed);
    let setup = BusSetup::random(&mut random);
    let trouble = random.pick(&[
        Trouble::Delays,
        Trouble::Outages,
        Trouble::Outages,
        Trouble::Losses,
        Trouble::Losses,
        Trouble::Losses,
    ]);
    let (clients, steps) = (random.between(1, 6), random.between(100, 500));
    let (faults, publications) = (random.between(1, 5), random.between(1, 40));
    let short = trouble == Trouble::Losses && random.chance(20);
    let mut world = World::new(setup, random, clients);
    if short {
        // Small streams, so that entries are trimmed before a paused node has read them.
        world.redis.bytes_max = 2_000;
        world.redis.broken = true;
    }
    for _ in 0..steps {
        let millis = match world.below(100) {
            0..2 => world.between(300, 1_500),
            2..10 => world.between(20, 200),
            _ => world.between(1, 12),
        };
        world.round(Duration::from_millis(millis as u64));
        if world.chance(publications) {
            act(&mut world);
        }
        if world.chance(faults) {
            world.fault(trouble);
        }
    }
    world.settle();
    let digest = world.network.borrow_mut().random.number();
    Outcome { published: world.record.count(), seen: world.record.seen(), digest }
}

/// Publishes, or tries a publication again.
fn act(world: &mut World) {
    let channel = world.below(world.setup.node.channels.len());
    match world.below(100) {
        0..20 => {
            let client = world.below(world.clients.len());
            world.with_client(client, |client, stage| client.publish(stage, channel));
        }
        20..65 => {
            world.publish(channel, false);
        }
        65..70 => {
            for _ in 0..world.between(2, 15) {
                world.publish(channel, false);
            }
        }
        70..85 => {
            world.publish(channel, true);
        }
        _ => {
            let count = world.record.count();
            if count > 0 {
                // Recent ones rather than old ones.
                let number = count - 1 - world.below(count.min(20));
                world.retry(number);
            }
        }
    }
}
