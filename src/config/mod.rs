//! The settings: one typed value, parsed and checked once, before anything starts.
//!
//! `default.toml` is the only home of defaults: [`Config::default`] parses it, and `load` lays a
//! file, the environment and flags over it.

mod check;
mod environment;
mod load;
mod show;
mod types;
#[cfg(test)]
mod tests;

pub use check::Problem;
pub use load::{Error, Flags, Loaded, Origin, load};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::channel::{ChannelEvents, ChannelRegex, DataType, Namespace, Namespaces, SlowPolicy};
use crate::handshake::Rules;
use crate::ids::Slot;
use crate::limits::{LEASE_CHANNELS_MAX, LEASE_IDEMPOTENCY_BYTES_MAX};
use crate::pool::Pool;
use crate::shard;
use crate::{api, bridge};

/// Every setting with its default, commented: what `corecast config default` prints.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// What `--dev` changes in the defaults.
pub const DEV_TOML: &str = include_str!("dev.toml");

/// All settings of a node, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners, threads and the node's limits.
    pub server: Server,
    /// What a client may do and cost.
    pub client: Client,
    /// Channels' options.
    pub channel: Channel,
    /// Who may connect.
    pub auth: Auth,
    /// The application's access.
    pub api: Api,
    /// What joins nodes.
    pub redis: Redis,
    /// What the application is told of.
    pub events: Events,
    /// The log.
    pub log: Log,
    /// Started with `--dev`: the page is served, and the API may go without a key.
    pub dev: bool,
    /// Started with `--echo`: clients may connect to `/echo`.
    pub echo: bool,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where clients connect; at least one.
    #[serde(deserialize_with = "types::addresses")]
    pub listen: Vec<SocketAddr>,
    /// Where the HTTP API listens.
    #[serde(deserialize_with = "types::address")]
    pub api_listen: SocketAddr,
    /// Threads that serve clients; 0 means one per core.
    pub shards: usize,
    /// How sockets are driven.
    pub driver: Driver,
    /// Cores to pin shards to, in turn; empty means all.
    pub cpu_affinity: Vec<usize>,
    /// Whether shards take descriptor tables of their own.
    pub private_fd_tables: bool,
    /// Most clients of the node.
    pub max_connections: usize,
    /// Most accepted connections per second, for the node.
    pub accept_rate: u32,
    /// How long a stopping server goes on taking clients while it says that it will stop.
    #[serde(deserialize_with = "types::duration")]
    pub drain_delay: Duration,
    /// Time after that in which a stopping server closes its connections and ends.
    #[serde(deserialize_with = "types::duration")]
    pub drain: Duration,
}

/// How sockets are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring, or epoll where that is refused.
    Auto,
    /// io_uring, or no start.
    IoUring,
    /// epoll.
    Epoll,
}

/// `[client]`. Meanings and units are those of [`shard::Options`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Origins that browsers may come from; `*` matches any text.
    #[serde(deserialize_with = "types::one_or_more")]
    pub allowed_origins: Vec<String>,
    /// Time between pings, in whole seconds.
    #[serde(deserialize_with = "types::duration")]
    pub ping_interval: Duration,
    /// Time in which any byte must follow a ping.
    #[serde(deserialize_with = "types::duration")]
    pub pong_timeout: Duration,
    /// Time for the request head.
    #[serde(deserialize_with = "types::duration")]
    pub handshake_timeout: Duration,
    /// Time for the protocol's `connect`.
    #[serde(deserialize_with = "types::duration")]
    pub stale_timeout: Duration,
    /// Longest message, in bytes.
    #[serde(deserialize_with = "types::size")]
    pub message_bytes_max: usize,
    /// Most frames of one message.
    pub fragments_max: u32,
    /// Most frames in a second.
    pub frames_per_second_max: u32,
    /// Most WebSocket pings in a second.
    pub pings_per_second_max: u32,
    /// Bytes of all unfinished messages of the node.
    #[serde(deserialize_with = "types::size")]
    pub inbound_bytes_max: usize,
    /// Bytes that may wait for one client.
    #[serde(deserialize_with = "types::size")]
    pub outbox_bytes_max: usize,
    /// Bytes of all outboxes of the node.
    #[serde(deserialize_with = "types::size")]
    pub outboxes_bytes_max: usize,
    /// What happens to a slow client where its channel's namespace does not say.
    pub slow_policy: SlowPolicy,
    /// Most channels of one connection.
    pub channels_max: usize,
    /// Channels that one client may create in a second.
    pub channels_created_per_second_max: u32,
    /// Longest channel name, in bytes.
    pub channel_bytes_max: usize,
}

/// `[channel]` and `[[channel.namespaces]]`.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Bytes of all histories of the node.
    pub history_bytes_max: usize,
    /// Maximum number of channels with subscribers on the node.
    pub channels_max: usize,
    /// Channels that all clients of the node may create in a second.
    pub created_per_second_max: u32,
    /// Options of channels without a namespace, then those of each namespace.
    pub namespaces: Vec<Namespace>,
}

/// `[auth]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Everybody may do everything.
    pub insecure: bool,
    /// Clients may connect without a token, as user "".
    pub anonymous: bool,
}

/// `[api]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Keys that open the API. Secret.
    #[serde(deserialize_with = "types::one_or_more")]
    pub keys: Vec<String>,
    /// Longest request body, in bytes.
    #[serde(deserialize_with = "types::size")]
    pub body_bytes_max: usize,
    /// Bytes of remembered idempotency keys of the node.
    #[serde(deserialize_with = "types::size")]
    pub idempotency_bytes_max: usize,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("keys", &format_args!("{} hidden", self.keys.len()))
            .field("body_bytes_max", &self.body_bytes_max)
            .field("idempotency_bytes_max", &self.idempotency_bytes_max)
            .finish()
    }
}

/// `[redis]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Where Redis is; empty for a node on its own. Secret, for it may hold a password.
    pub url: String,
    /// What names of keys begin with.
    pub prefix: String,
    /// How many streams the bus has.
    pub streams: usize,
    /// Bytes that Redis keeps of each.
    #[serde(deserialize_with = "types::size")]
    pub stream_bytes_max: usize,
    /// Streams from which publications are taken in.
    #[serde(deserialize_with = "types::one_or_more")]
    pub ingest: Vec<String>,
}

impl Redis {
    /// Whether there is a bus.
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("url", &format_args!("{} B hidden", self.url.len()))
            .field("prefix", &self.prefix)
            .field("streams", &self.streams)
            .field("stream_bytes_max", &self.stream_bytes_max)
            .field("ingest", &self.ingest)
            .finish()
    }
}

/// `[events]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the configuration")]
pub struct Events {
    /// The stream that they are appended to.
    pub stream: String,
    /// Entries that it keeps, more or less.
    pub entries_max: usize,
    /// Bytes that it keeps, more or less.
    #[serde(deserialize_with = "types::size")]
    pub bytes_max: usize,
    /// Sessions that begin.
    pub connect: bool,
    /// Sessions that end.
    pub disconnect: bool,
    /// Subscriptions that begin, in namespaces that do not say otherwise.
    pub subscribe: bool,
    /// Subscriptions that end, in namespaces that do not say otherwise.
    pub unsubscribe: bool,
    /// Messages of clients to the application.
    pub message: bool,
    /// Keep who is connected, so that each can be told of when the node is lost.
    pub roster: bool,
}

/// An event that a namespace may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChannelEvent {
    Subscribe,
    Unsubscribe,
    Publish,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The least important level that is written.
    pub level: LogLevel,
    /// For whom.
    pub format: LogFormat,
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed on our side.
    Error,
    /// Something needs attention.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Every step.
    Trace,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object per line.
    Json,
}

/// The options of a namespace, as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the configuration")]
struct NamespaceSection {
    #[serde(default)]
    name: String,
    data: DataType,
    history_size: usize,
    #[serde(deserialize_with = "types::duration")]
    history_ttl: Duration,
    durable_history: bool,
    force_recovery: bool,
    force_positioning: bool,
    allow_recovery: bool,
    allow_positioning: bool,
    allow_subscribe_for_client: bool,
    allow_subscribe_for_anonymous: bool,
    allow_publish_for_subscriber: bool,
    allow_publish_for_client: bool,
    allow_publish_for_anonymous: bool,
    allow_history_for_subscriber: bool,
    allow_history_for_client: bool,
    allow_history_for_anonymous: bool,
    slow_policy: Option<SlowPolicy>,
    events: Option<Vec<ChannelEvent>>,
    #[serde(deserialize_with = "types::channel_regex")]
    channel_regex: Option<ChannelRegex>,
}

impl NamespaceSection {
    fn into_namespace(self, slow_policy: SlowPolicy, events: ChannelEvents) -> Namespace {
        let named = |list: Vec<ChannelEvent>| ChannelEvents {
            subscribe: list.contains(&ChannelEvent::Subscribe),
            unsubscribe: list.contains(&ChannelEvent::Unsubscribe),
            publish: list.contains(&ChannelEvent::Publish),
        };
        Namespace {
            name: self.name,
            data: self.data,
            history_size: self.history_size,
            history_ttl: self.history_ttl,
            durable_history: self.durable_history,
            force_recovery: self.force_recovery,
            force_positioning: self.force_positioning,
            allow_recovery: self.allow_recovery,
            allow_positioning: self.allow_positioning,
            allow_subscribe_for_client: self.allow_subscribe_for_client,
            allow_subscribe_for_anonymous: self.allow_subscribe_for_anonymous,
            allow_publish_for_subscriber: self.allow_publish_for_subscriber,
            allow_publish_for_client: self.allow_publish_for_client,
            allow_publish_for_anonymous: self.allow_publish_for_anonymous,
            allow_history_for_subscriber: self.allow_history_for_subscriber,
            allow_history_for_client: self.allow_history_for_client,
            allow_history_for_anonymous: self.allow_history_for_anonymous,
            slow_policy: self.slow_policy.unwrap_or(slow_policy),
            events: self.events.map_or(events, named),
            channel_regex: self.channel_regex,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        load::defaults()
    }
}

impl Config {
    /// What keeps these settings from being served, though each is valid: a file may be checked
    /// before its keys are there, but a server without one is no use to any application.
    ///
    /// # Errors
    /// The problems, each with its way out.
    pub fn check_serve(&self) -> Result<(), Error> {
        let problems = check::serve_problems(self);
        if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
    }

    /// All namespaces, for those who resolve channels.
    pub fn namespaces(&self) -> Namespaces {
        Namespaces::new(self.channel.namespaces.clone(), self.client.channel_bytes_max)
    }

    /// The settings of the API.
    pub fn api_options(&self) -> api::Options {
        api::Options {
            keys: self.api.keys.clone(),
            open: self.dev,
            page: self.dev,
            body_bytes_max: self.api.body_bytes_max,
            namespaces: self.namespaces(),
        }
    }

    /// The settings of the bridge.
    pub fn bridge_options(&self) -> bridge::Options {
        bridge::Options {
            url: self.redis.url.clone(),
            prefix: self.redis.prefix.clone(),
            streams: self.redis.streams,
            stream_bytes_max: self.redis.stream_bytes_max,
            namespaces: self.namespaces(),
            ingest: self.redis.ingest.clone(),
            publication_bytes_max: self.api.body_bytes_max,
            events: bridge::EventOptions {
                on: self.has_events(),
                connect: self.events.connect,
                disconnect: self.events.disconnect,
                roster: self.events.roster,
                stream: self.events.stream.clone(),
                entries_max: self.events.entries_max,
                bytes_max: self.events.bytes_max,
                sessions_max: self.server.max_connections,
            },
        }
    }

    /// Whether the application is told of anything.
    fn has_events(&self) -> bool {
        let Events { connect, disconnect, message, roster, .. } = self.events;
        let channels = self.channel.namespaces.iter().any(|namespace| namespace.events.is_on());
        connect || disconnect || message || roster || channels
    }

    /// What `shards` shards share. The bounds of the node that are reached unevenly.
    pub fn pools(&self, shards: usize) -> shard::Pools {
        shard::Pools {
            channels: Pool::new(self.channel.channels_max, shards, LEASE_CHANNELS_MAX),
            created: Arc::default(),
            idempotency: Pool::new(
                self.api.idempotency_bytes_max,
                shards,
                LEASE_IDEMPOTENCY_BYTES_MAX,
            ),
        }
    }

    /// The settings of one of `shards` shards. Memory limits of the node are divided evenly, since
    /// the kernel spreads clients evenly; `connections_max` is not: it is leased, so that uneven
    /// shards can fill the node.
    pub fn shard_options(&self, shards: usize) -> shard::Options {
        assert!(shards > 0, "a node has at least one shard");
        let client = &self.client;
        shard::Options {
            namespaces: self.namespaces(),
            rules: Rules { allowed_origins: client.allowed_origins.clone(), echo: self.echo },
            bus: self.redis.is_on(),
            events: shard::Events {
                connect: self.events.connect || self.events.roster,
                disconnect: self.events.disconnect || self.events.roster,
                message: self.events.message,
            },
            insecure: self.auth.insecure,
            anonymous: self.auth.anonymous,
            ping_interval: client.ping_interval,
            pong_timeout: client.pong_timeout,
            handshake_timeout: client.handshake_timeout,
            stale_timeout: client.stale_timeout,
            message_bytes_max: client.message_bytes_max,
            fragments_max: client.fragments_max,
            frames_per_second_max: client.frames_per_second_max,
            pings_per_second_max: client.pings_per_second_max,
            // A shard must have room for one message of full length, however many shards there are.
            inbound_bytes_max: (client.inbound_bytes_max / shards).max(client.message_bytes_max),
            outbox_bytes_max: client.outbox_bytes_max,
            channels_max: client.channels_max,
            channels_created_per_second_max: client.channels_created_per_second_max,
            node_channels_created_per_second_max: self.channel.created_per_second_max,
            history_bytes_max: self.channel.history_bytes_max / shards,
            connections_max: self.server.max_connections.min(Slot::COUNT_MAX),
        }
    }
}
