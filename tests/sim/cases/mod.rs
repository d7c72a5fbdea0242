//! Scenarios that random schedules rarely contain, one file for each behaviour.

mod census;
mod channels;
mod drain;
mod last_words;
mod heartbeats;
mod input_limits;
mod missed;
mod order;
mod recovery;
mod replies;
mod resuming;
mod slow_clients;
mod sweeps;

use std::time::Duration;

use crate::sim::centrifugo::Centrifugo;
use crate::sim::client::Speech;
use crate::sim::plain::Plain;
use crate::sim::random::Random;
use crate::sim::setup::Setup;
use crate::sim::world::World;

const SEED: u64 = 7;

/// A node with generous limits and without network faults.
fn world(shards: usize) -> World {
    World::new(Setup::generous(shards), Random::new(SEED))
}

fn centrifugo(channels: &[usize]) -> Speech {
    Speech::Centrifugo(Centrifugo::new(channels.to_vec()))
}

fn plain(envelope: bool, channels: &[usize]) -> Speech {
    Speech::Plain(Plain::new(envelope, channels.to_vec(), None))
}

impl World {
    /// Adds a client of a certain shard. Returns its number.
    fn add_to(&mut self, shard: usize, speech: Speech) -> usize {
        let number = self.add(speech);
        self.clients[number].shard = Some(shard);
        self.clients[number].buffers = Some((20_000, 50_000));
        number
    }

    /// Waits until all clients are served.
    fn serve(&mut self) {
        self.until("everybody is served", World::is_settled);
    }

    /// Publishes `count` times, a few in each round. Returns the number of the last publication.
    fn publish_many(&mut self, channel: usize, count: usize) -> usize {
        const AT_ONCE: usize = 10;
        let mut last = 0;
        for at in 0..count {
            last = self.with(|scene, _, control| control.publish(scene, channel, (None, false)));
            if at % AT_ONCE == 0 {
                self.round(Duration::from_millis(1));
            }
        }
        last
    }

    /// Returns the last close code or status that a client received.
    fn last_end(&self, number: usize) -> Option<u16> {
        self.clients[number].ends.last().copied()
    }

    /// Lets a client send raw bytes.
    fn send_raw(&mut self, number: usize, bytes: &[u8]) {
        let client = &mut self.clients[number];
        client.tainted = true;
        client.habits.connects = false;
        client.outgoing.extend(bytes);
    }

    /// Waits until a client is disconnected. Returns the close code or status it received.
    fn wait_end(&mut self, number: usize) -> Option<u16> {
        self.clients[number].habits.connects = false;
        self.until("the client is gone", |world| world.clients[number].link.is_none());
        self.last_end(number)
    }
}
