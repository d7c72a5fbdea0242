//! The settings of a node: one typed value, which every thread shares.
//!
//! `config` makes it from files, environment and flags, and checks it. Nobody changes it later.
//! [`CHANGES`] lists the settings that may change while the node runs.

mod changes;
mod types;

pub use changes::{CHANGES, Change};

use core::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::channel::{Namespaces, SlowPolicy};
use crate::units;

/// All settings of a node, checked.
#[derive(Clone, Debug)]
pub struct Settings {
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
    #[serde(deserialize_with = "units::duration")]
    pub drain_delay: Duration,
    /// Time after that in which a stopping server closes its connections and ends.
    #[serde(deserialize_with = "units::duration")]
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

/// `[client]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Origins that browsers may come from; `*` matches any text.
    #[serde(deserialize_with = "types::one_or_more")]
    pub allowed_origins: Vec<String>,
    /// Time between pings, in whole seconds.
    #[serde(deserialize_with = "units::duration")]
    pub ping_interval: Duration,
    /// Time in which any byte must follow a ping.
    #[serde(deserialize_with = "units::duration")]
    pub pong_timeout: Duration,
    /// Time for the request head.
    #[serde(deserialize_with = "units::duration")]
    pub handshake_timeout: Duration,
    /// Time for the protocol's `connect`.
    #[serde(deserialize_with = "units::duration")]
    pub stale_timeout: Duration,
    /// Longest message, in bytes.
    #[serde(deserialize_with = "units::size")]
    pub message_bytes_max: usize,
    /// Most frames of one message.
    pub fragments_max: u32,
    /// Most frames in a second.
    pub frames_per_second_max: u32,
    /// Most WebSocket pings in a second.
    pub pings_per_second_max: u32,
    /// Bytes of all unfinished messages of the node.
    #[serde(deserialize_with = "units::size")]
    pub inbound_bytes_max: usize,
    /// Bytes that may wait for one client.
    #[serde(deserialize_with = "units::size")]
    pub outbox_bytes_max: usize,
    /// Bytes of all outboxes of the node.
    #[serde(deserialize_with = "units::size")]
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
    /// Options of channels without a namespace, and those of each namespace.
    pub namespaces: Namespaces,
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
    #[serde(deserialize_with = "units::size")]
    pub body_bytes_max: usize,
    /// Bytes of remembered idempotency keys of the node.
    #[serde(deserialize_with = "units::size")]
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
    #[serde(deserialize_with = "units::size")]
    pub stream_bytes_max: usize,
    /// Streams from which publications are taken in.
    #[serde(deserialize_with = "types::one_or_more")]
    pub ingest: Vec<String>,
}

impl Redis {
    /// Whether there is a bus, which joins nodes and orders publications.
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
    #[serde(deserialize_with = "units::size")]
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

impl Settings {
    /// Whether the application is told of anything.
    pub fn has_events(&self) -> bool {
        let Events { connect, disconnect, message, roster, .. } = self.events;
        let channels = self.channel.namespaces.iter().any(|namespace| namespace.events.is_on());
        connect || disconnect || message || roster || channels
    }
}

impl Events {
    /// Whether the bridge is told of sessions that begin: the roster lists them.
    pub fn notes_connect(&self) -> bool {
        self.connect || self.roster
    }

    /// Whether the bridge is told of sessions that end.
    pub fn notes_disconnect(&self) -> bool {
        self.disconnect || self.roster
    }
}
