//! The parameters of one schedule: nodes, streams, channels and limits.

use std::time::Duration;

use corecast::bus::stream_of;
use corecast::channel::{Namespace, Namespaces};
use corecast::ids::ShardId;

use crate::sim::random::Random;
use crate::sim::setup::{Channel, Setup};

/// Maximum number of lives of a node.
pub const LIVES_MAX: usize = 6;

pub struct BusSetup {
    /// The setup of every node, with the channels of the schedule.
    pub node: Setup,
    pub nodes: usize,
    pub streams: usize,
}

impl BusSetup {
    pub fn random(random: &mut Random) -> BusSetup {
        let shards = random.pick(&[1, 1, 2, 3]);
        let (nodes, streams) = (random.between(2, 3), random.between(1, 2));
        let mut node = Setup::generous(shards);
        let (size, durable) = (random.pick(&[5, 200, 200]), random.chance(50));
        let namespaces: Vec<Namespace> =
            node.channels.iter().map(|one| one.namespace.clone()).collect();
        let sized = |mut one: Namespace| {
            if one.has_history() {
                (one.history_size, one.history_ttl) = (size, Duration::from_secs(3600));
                one.durable_history = durable;
            }
            one
        };
        let namespaces: Vec<Namespace> = namespaces.into_iter().map(sized).collect();
        node.settings().channel.namespaces = Namespaces::new(namespaces.clone(), 255);
        node.settings().redis.url = "redis://simulated".to_owned();
        node.settings().redis.streams = streams;
        // No client is disconnected because it is slow. The other simulation tests that.
        let long = Duration::from_secs(300);
        node.settings().client.ping_interval = long;
        node.settings().client.stale_timeout = long;
        node.settings().client.handshake_timeout = long;
        node.options.history_bytes_max = random.pick(&[5_000, 1 << 20, 1 << 20]);
        node.inbox_batches = random.pick(&[1, 64, 64, 64]);
        node.spill_bytes = random.pick(&[1, 2_000, 1 << 20, 1 << 20]);
        node.channels.clear();
        let mut setup = BusSetup { node, nodes, streams };
        for _ in 0..random.between(2, 6) {
            let name = if random.chance(80) { "" } else { "live" };
            let namespace = namespaces.iter().find(|one| one.name == name).expect("it is one");
            let place = (random.below(shards), random.below(streams));
            setup.add_channel(namespace, place);
        }
        setup
    }

    /// Adds a channel with this home and this stream. The end of its name is chosen for both.
    fn add_channel(&mut self, namespace: &Namespace, (home, stream): (usize, usize)) {
        let number = self.node.channels.len();
        let prefix = if namespace.name.is_empty() { "" } else { "live:" };
        let fits = |name: &String| {
            self.node.home_map.home(name) == ShardId::new(home)
                && stream_of(name, self.streams) == stream
        };
        let name = (0..10_000).map(|end| format!("{prefix}c{number:02}-{end:04}")).find(fits);
        let name = name.expect("some name has this home and this stream");
        self.node.channels.push(Channel { name, namespace: namespace.clone() });
    }

    /// Whether no data is evicted for lack of memory.
    pub fn is_roomy(&self) -> bool {
        self.is_spacious()
            && self.node.options.history_bytes_max == 1 << 20
            && self.node.channels.iter().all(|one| one.namespace.history_size != 5)
    }

    /// Whether no publication finds both inbox and spill full.
    pub fn is_spacious(&self) -> bool {
        self.node.spill_bytes == 1 << 20
    }

    /// Returns the first desk of a node's life. Each life has its own desks.
    pub fn desk(&self, node: usize, life: usize) -> usize {
        assert!(life < LIVES_MAX, "node {node} has had all of its lives");
        (node * LIVES_MAX + life) * self.node.shards
    }

    pub fn desks(&self) -> usize {
        self.nodes * LIVES_MAX * self.node.shards
    }
}
