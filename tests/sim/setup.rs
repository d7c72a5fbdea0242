//! The parameters of one schedule: shards, channels and limits.

use std::sync::Arc;
use std::time::Duration;

use corecast::channel::{DataType, Namespace, Namespaces, SlowPolicy};
use corecast::handshake::Rules;
use corecast::ids::ShardId;
use corecast::mesh::HomeMap;
use corecast::pool::Pool;
use corecast::secret::NodeSecret;
use corecast::settings::Settings;
use corecast::shard::{Options, Pools};

use super::random::Random;

/// A channel. Clients, control and checker identify it by its number.
pub struct Channel {
    pub name: String,
    pub namespace: Namespace,
}

impl Channel {
    pub fn has_history(&self) -> bool {
        self.namespace.has_history()
    }

    pub fn skips(&self) -> bool {
        self.namespace.slow_policy == SlowPolicy::Skip
    }
}

pub struct Setup {
    pub shards: usize,
    pub home_map: HomeMap,
    pub options: Options,
    pub channels: Vec<Channel>,
    /// Maximum number of batches in an inbox.
    pub inbox_batches: usize,
    /// Maximum bytes of publications that a lane keeps while an inbox is full.
    pub spill_bytes: usize,
    /// Memory for all outboxes in bytes.
    pub outboxes_bytes: usize,
    /// Maximum number of channels with subscribers.
    pub channels_max: usize,
    /// Memory for idempotency keys of the node in bytes.
    pub idempotency_bytes: usize,
}

impl Setup {
    /// Creates generous limits, and one channel of each namespace, at home on shard 0.
    pub fn generous(shards: usize) -> Setup {
        let namespaces = namespaces(100, Duration::from_secs(300));
        let home_map = HomeMap::new(&NodeSecret::new([1; 16]), shards);
        let mut setup = Setup {
            shards,
            home_map,
            options: options(namespaces.clone()),
            channels: Vec::new(),
            inbox_batches: 64,
            spill_bytes: 1 << 20,
            outboxes_bytes: 64 << 20,
            channels_max: 1000,
            idempotency_bytes: 1 << 20,
        };
        namespaces.iter().for_each(|namespace| setup.add_channel(namespace, 0));
        setup
    }

    /// Creates random limits, from generous to very tight.
    pub fn random(random: &mut Random) -> Setup {
        let shards = random.between(2, 4);
        let size = random.pick(&[2, 5, 20, 100]);
        let ttl = Duration::from_millis(random.pick(&[700, 5_000, 60_000]));
        let all = namespaces(size, ttl);
        let mut options = options(all.clone());
        let client = &mut Arc::make_mut(&mut options.settings).client;
        client.outbox_bytes_max = random.pick(&[2_000, 10_000, 100_000]);
        client.message_bytes_max = random.pick(&[4_000, 16_000]);
        options.inbound_bytes_max = random.pick(&[1_500, 1 << 20]);
        options.history_bytes_max = random.pick(&[4_000, 20_000, 1 << 20]);
        client.channels_max = random.pick(&[2, 16]);
        // Few, but as many as one client asks for at once.
        let created_per_second_max = random.pick(&[12, 10_000, 10_000, 10_000]);
        Arc::make_mut(&mut options.settings).channel.created_per_second_max =
            created_per_second_max;
        options.connections_max = random.pick(&[6, 64]);
        let mut setup = Setup {
            shards,
            home_map: HomeMap::new(&NodeSecret::new([1; 16]), shards),
            options,
            channels: Vec::new(),
            inbox_batches: random.pick(&[1, 1, 2, 4, 64]),
            spill_bytes: random.pick(&[1, 400, 2_000, 1 << 20]),
            outboxes_bytes: random.pick(&[60_000, 400_000, 64 << 20]),
            channels_max: 1000,
            idempotency_bytes: random.pick(&[1 << 10, 1 << 10, 4 << 10]),
        };
        for _ in 0..random.between(2, 6) {
            let namespace = &all[random.below(all.len())];
            setup.add_channel(namespace, random.below(shards));
        }
        setup
    }

    /// Whether the channels may exceed the limits of channels in use or of new channels.
    pub fn lacks_channels(&self) -> bool {
        self.channels_max < self.channels.len()
            || self.options.client().channels_created_per_second_max < 10_000
            || self.options.settings.channel.created_per_second_max < 10_000
    }

    /// Returns the settings for changes.
    pub fn settings(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.options.settings)
    }

    /// Whether the last `count` publications of a channel can always be recovered.
    pub fn keeps(&self, channel: usize, count: usize) -> bool {
        let namespace = &self.channels[channel].namespace;
        count <= namespace.history_size
            && namespace.history_ttl >= Duration::from_secs(60)
            && self.options.history_bytes_max >= 1 << 20
    }

    /// Returns the pools that the node's shards share.
    pub fn pools(&self) -> Pools {
        Pools {
            channels: Pool::new(self.channels_max, self.shards, 256),
            created: Arc::default(),
            idempotency: Pool::new(self.idempotency_bytes, self.shards, 1 << 16),
        }
    }

    /// Adds a channel whose home is `home`. Only the end of its name is chosen for this, so that
    /// neither its length nor its sort order depends on it.
    pub fn add_channel(&mut self, namespace: &Namespace, home: usize) {
        let number = self.channels.len();
        let prefix = match namespace.name.as_str() {
            "" => String::new(),
            name => format!("{name}:"),
        };
        let name = (0..10_000)
            .map(|end| format!("{prefix}c{number:02}-{end:04}"))
            .find(|name| self.home_map.home(name) == ShardId::new(home))
            .expect("some name has this home");
        self.channels.push(Channel { name, namespace: namespace.clone() });
    }

    /// Returns the channel called `name`.
    pub fn find(&self, name: &str) -> usize {
        let found = self.channels.iter().position(|channel| channel.name == name);
        found.unwrap_or_else(|| panic!("the channel {name:?} was not requested"))
    }

    /// Returns the first channel of a namespace.
    pub fn channel_of(&self, namespace: &str) -> usize {
        let found = self.channels.iter().position(|one| one.namespace.name == namespace);
        found.expect("the namespace has a channel")
    }
}

fn open(name: &str) -> Namespace {
    let defaults = Settings::default().channel.namespaces.plain().clone();
    Namespace {
        name: name.to_owned(),
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_subscriber: true,
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        allow_history_for_subscriber: true,
        allow_history_for_client: true,
        allow_history_for_anonymous: true,
        ..defaults
    }
}

/// Returns one namespace of each kind that clients can distinguish.
fn namespaces(history_size: usize, history_ttl: Duration) -> Vec<Namespace> {
    let kept = |name| Namespace { history_size, history_ttl, ..open(name) };
    vec![
        Namespace { force_recovery: true, ..kept("") },
        Namespace { allow_recovery: true, allow_positioning: true, ..kept("asked") },
        Namespace { force_positioning: true, data: DataType::Text, ..kept("text") },
        open("live"),
        Namespace { slow_policy: SlowPolicy::Skip, ..open("skip") },
        Namespace { data: DataType::Binary, ..open("binary") },
        Namespace { allow_subscribe_for_anonymous: false, ..open("closed") },
    ]
}

fn options(namespaces: Vec<Namespace>) -> Options {
    let mut settings = Settings::default();
    settings.channel.namespaces = Namespaces::new(namespaces, 255);
    settings.channel.created_per_second_max = 10_000;
    settings.auth.anonymous = true;
    let client = &mut settings.client;
    client.ping_interval = Duration::from_secs(4);
    client.pong_timeout = Duration::from_secs(2);
    client.handshake_timeout = Duration::from_secs(3);
    client.stale_timeout = Duration::from_secs(3);
    client.message_bytes_max = 64 * 1024;
    client.fragments_max = 32;
    client.frames_per_second_max = 10_000;
    client.pings_per_second_max = 1_000;
    client.outbox_bytes_max = 64 * 1024;
    client.channels_max = 16;
    client.channels_created_per_second_max = 10_000;
    Options {
        rules: Rules::default(),
        inbound_bytes_max: 1 << 20,
        history_bytes_max: 1 << 20,
        connections_max: 64,
        settings: Arc::new(settings),
    }
}
