//! The end of a schedule: all clients are served, then all leave, and no state is left.

use std::time::Duration;

use corecast::metrics::ShardCounters;

use super::client::Speech;
use super::client_behaviour;
use super::follow::Follow;
use super::truth::CONTROL;
use super::world::World;

/// Longer than the lifetime of any channel.
const FOREVER: Duration = Duration::from_secs(8000);

/// Time between two ticks of a shard.
const TICK: Duration = Duration::from_millis(100);

/// Time in which a client reads everything that has been sent to it.
const LATE_NEWS: Duration = Duration::from_millis(100);

impl World {
    /// Ends all faults, and checks that all clients are served.
    pub fn settle(&mut self) {
        self.calm();
        // The next tick sends data for which there was no memory.
        self.pass(TICK + LATE_NEWS);
        self.until("everybody is served", World::is_settled);
        self.read_all();
        self.check_tops();
        self.probe();
        let errors: usize = self.node.runners.iter_mut().map(|runner| runner.shard.audit()).sum();
        assert_eq!(errors, 0, "tables disagree");
        self.check_steady();
        self.check_causes();
    }

    /// Reads the history of every channel.
    fn read_all(&mut self) {
        for channel in 0..self.setup.channels.len() {
            self.until("there is room for a question", |world| {
                world.with(|scene, _, control| control.read_final(scene, channel))
            });
        }
        self.until("control has its answers", |world| world.control.waiting() == 0);
    }

    /// Checks that no client that is told about gaps is behind the top.
    fn check_tops(&self) {
        let skipped = self.drops(0) > 0;
        for client in &self.clients {
            let (number, follows) = match &client.speech {
                Speech::Centrifugo(centrifugo) => (client.number, &centrifugo.subscribed),
                Speech::Plain(plain) if plain.envelope => (client.number, &plain.follows),
                Speech::Plain(_) => continue,
            };
            for (&channel, follow) in follows.iter().filter(|(_, follow)| follow.strict) {
                let skips = skipped && self.setup.channels[channel].skips();
                if !skips {
                    self.check_top(number, channel, follow);
                }
            }
        }
    }

    fn check_top(&self, client: usize, channel: usize, follow: &Follow) {
        let name = &self.setup.channels[channel].name;
        let top = self.control.tops[&channel];
        if let Some(epoch) = follow.epoch {
            assert_eq!(epoch, top.epoch, "client {client} is in another epoch of {name}");
        }
        if let Some(reached) = follow.reached() {
            assert_eq!(reached, top.offset, "client {client} is not at the top of {name}");
        }
    }

    /// Checks that one more publication in each channel reaches every subscriber.
    fn probe(&mut self) {
        for channel in 0..self.setup.channels.len() {
            let probe =
                self.with(|scene, _, control| control.publish(scene, channel, (None, false)));
            self.until("the probe has arrived", World::is_settled);
            for client in &self.clients {
                let follow = match &client.speech {
                    Speech::Centrifugo(centrifugo) => centrifugo.subscribed.get(&channel),
                    Speech::Plain(plain) => plain.follows.get(&channel),
                };
                if let Some(follow) = follow {
                    let (number, last) = (client.number, follow.last_of(CONTROL));
                    assert_eq!(last, Some(probe), "client {number} has missed the probe");
                }
            }
        }
    }

    /// Checks that clients that behave stay connected, over several pings.
    fn check_steady(&mut self) {
        let links: Vec<_> = self.clients.iter().map(|client| client.link).collect();
        let options = &self.setup.options;
        self.pass(options.client().ping_interval * 2 + options.client().pong_timeout);
        let after: Vec<_> = self.clients.iter().map(|client| client.link).collect();
        assert_eq!(after, links, "connections end for no reason");
    }

    /// Checks that clients were told about gaps only if something was dropped.
    fn check_causes(&self) {
        let drops = self.drops(0) + self.drops(1);
        assert!(drops > 0 || self.notices == 0, "{} notices, and nothing was lost", self.notices);
    }

    fn drops(&self, reason: usize) -> u64 {
        self.node.runners.iter().map(|runner| runner.counters.drops[reason].value()).sum()
    }

    /// Disconnects all clients, in one of several ways.
    pub fn leave(&mut self) {
        for client in &mut self.clients {
            client.habits.connects = false;
        }
        let drains = self.with(|scene, clients, control| {
            if scene.chance(50) {
                return control.drain(scene, Duration::from_secs(2));
            }
            clients.iter_mut().for_each(|client| client_behaviour::leave(client, scene));
            false
        });
        self.until("everybody has left", |world| {
            world.is_silent() && world.clients.iter().all(|client| client.link.is_none())
        });
        assert!(!drains || self.control.drained == self.setup.shards, "every shard has drained");
    }

    /// Checks that no state of the clients is left.
    pub fn check_remains(&mut self) {
        self.pass(Duration::from_millis(300));
        for (shard, runner) in self.node.runners.iter_mut().enumerate() {
            assert_eq!(runner.shard.connections_count(), 0, "shard {shard} has connections");
            assert_eq!(runner.shard.audit(), 0, "tables disagree");
            let open = self.node.network.borrow().open_count(shard);
            assert_eq!(open, 0, "shard {shard} has open sockets");
            check_counters(shard, &runner.counters);
        }
        let counted = self.node.subnets.connections();
        assert_eq!(counted, 0, "connections that have ended count for their subnets");
        for _ in 0..4 {
            self.advance(FOREVER);
            self.pass(Duration::from_millis(200));
        }
        for (shard, runner) in self.node.runners.iter().enumerate() {
            let (count, bytes) = (&runner.counters.channels_home, &runner.counters.history_bytes);
            assert_eq!(count.value(), 0, "shard {shard} still has interested shards");
            assert_eq!(bytes.value(), 0, "shard {shard} has bytes without channels");
        }
        self.truth.finish();
    }
}

fn check_counters(shard: usize, counters: &ShardCounters) {
    for (what, cell) in [
        ("centrifugo connections", &counters.connections[0]),
        ("plain connections", &counters.connections[1]),
        ("envelope connections", &counters.connections[2]),
        ("handshakes", &counters.handshaking),
        ("outbox bytes", &counters.outbox_bytes),
        ("inbound bytes", &counters.inbound_bytes),
        ("subscriptions", &counters.subscriptions),
        ("local channels", &counters.channels_local),
        ("audit errors", &counters.audit_errors),
        ("panics", &counters.panics),
    ] {
        assert_eq!(cell.value(), 0, "shard {shard}: {what}");
    }
}
