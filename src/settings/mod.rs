//! The settings of a node: one typed value that all threads share.
//!
//! `config` loads it from a file, the environment and flags, and checks it. The value never
//! changes. `CHANGES` lists the settings that a later value may change while the node runs.

mod changes;
mod listen;
mod types;

pub use changes::{CHANGES, Change};
pub use listen::ListenAddress;

use std::time::Duration;

use serde::Deserialize;

use crate::channel::{Namespaces, SlowPolicy};
use crate::proxies::Proxies;
use crate::units;

/// All settings of a node, already checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Listeners, threads and limits of the node.
    pub server: Server,
    /// Limits and timeouts of a client.
    pub client: Client,
    /// Options of channels.
    pub channel: Channel,
    /// Access of clients.
    pub auth: Auth,
    /// Access of the application.
    pub api: Api,
    /// The bus between nodes.
    pub redis: Redis,
    /// Events for the application.
    pub events: Events,
    /// The log.
    pub log: Log,
    /// Whether the node was started with `--dev`: it serves the demo page, and the API needs no
    /// key.
    pub dev: bool,
    /// Whether the node was started with `--expose`: with `--dev`, it serves other hosts as well.
    pub expose: bool,
    /// The name of this host, which clients may use with `--expose`.
    pub host_name: String,
    /// Whether the node was started with `--echo`: clients may connect to `/echo`.
    pub echo: bool,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Name of this node for people; empty means the name of the host.
    pub name: String,
    /// Addresses for clients; at least one.
    #[serde(deserialize_with = "types::addresses")]
    pub listen: Vec<ListenAddress>,
    /// Address of the HTTP API.
    #[serde(deserialize_with = "types::address")]
    pub api_listen: ListenAddress,
    /// The mode of Unix sockets.
    #[serde(deserialize_with = "types::mode")]
    pub unix_mode: u32,
    /// The group of Unix sockets, by name or number; empty for the default of the kernel.
    pub unix_group: String,
    /// The peers that may name the clients of their connections.
    #[serde(deserialize_with = "types::proxies")]
    pub proxies: Proxies,
    /// Names by which clients may address the server. If empty, all, or those that `--dev` trusts.
    #[serde(deserialize_with = "types::one_or_more")]
    pub hosts: Vec<String>,
    /// Path in front of all paths of the client port, which requests may have; "" for none.
    pub path_prefix: String,
    /// Number of threads that serve clients; 0 means one per core.
    pub shards: usize,
    /// The driver of sockets.
    pub driver: Driver,
    /// Cores to which shards are pinned, in turn; empty means all.
    pub cpu_affinity: Vec<usize>,
    /// Whether each shard has its own descriptor table.
    pub private_fd_tables: bool,
    /// Maximum number of clients of the node.
    pub max_connections: usize,
    /// Maximum number of accepted connections per second on the node.
    pub accept_rate: u32,
    /// Time during which a stopping server still accepts clients while `/ready` returns 503.
    #[serde(deserialize_with = "units::duration")]
    pub drain_delay: Duration,
    /// Maximum time after `drain_delay` until a stopping server has closed its connections and
    /// exited.
    #[serde(deserialize_with = "units::duration")]
    pub drain: Duration,
}

/// The driver of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring, or epoll if the kernel refuses io_uring.
    Auto,
    /// io_uring. The server does not start without it.
    IoUring,
    /// epoll.
    Epoll,
}

/// `[client]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Origins of pages that may connect; `*` matches any text.
    #[serde(deserialize_with = "types::one_or_more")]
    pub allowed_origins: Vec<String>,
    /// Time between pings, in whole seconds.
    #[serde(deserialize_with = "units::duration")]
    pub ping_interval: Duration,
    /// Time limit for a client to send anything after a ping.
    #[serde(deserialize_with = "units::duration")]
    pub pong_timeout: Duration,
    /// Time limit for the request head.
    #[serde(deserialize_with = "units::duration")]
    pub handshake_timeout: Duration,
    /// Maximum size of the request head in bytes.
    #[serde(deserialize_with = "units::size")]
    pub handshake_bytes_max: usize,
    /// Time limit for the command `connect`.
    #[serde(deserialize_with = "units::duration")]
    pub stale_timeout: Duration,
    /// Maximum size of a message in bytes.
    #[serde(deserialize_with = "units::size")]
    pub message_bytes_max: usize,
    /// Maximum number of frames of one message.
    pub fragments_max: u32,
    /// Maximum number of frames per second.
    pub frames_per_second_max: u32,
    /// Maximum number of WebSocket pings per second.
    pub pings_per_second_max: u32,
    /// Maximum number of bytes of all unfinished messages of the node.
    #[serde(deserialize_with = "units::size")]
    pub inbound_bytes_max: usize,
    /// Maximum number of bytes that may wait for one client.
    #[serde(deserialize_with = "units::size")]
    pub outbox_bytes_max: usize,
    /// Maximum number of bytes of all outboxes of the node.
    #[serde(deserialize_with = "units::size")]
    pub outboxes_bytes_max: usize,
    /// Policy for slow clients in namespaces that do not set one.
    pub slow_policy: SlowPolicy,
    /// Maximum number of channels of one connection.
    pub channels_max: usize,
    /// Maximum number of channels per second that one client may create.
    pub channels_created_per_second_max: u32,
    /// Maximum length of a channel name in bytes.
    pub channel_bytes_max: usize,
}

/// `[channel]` and `[[channel.namespaces]]`.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Maximum number of bytes of all histories of the node.
    pub history_bytes_max: usize,
    /// Maximum number of channels with subscribers on the node.
    pub channels_max: usize,
    /// Maximum number of channels per second that all clients of the node may create.
    pub created_per_second_max: u32,
    /// Options of channels without a namespace, and of each namespace.
    pub namespaces: Namespaces,
}

/// `[auth]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// All clients have all permissions.
    pub insecure: bool,
    /// Clients may connect without a token, as the user "".
    pub anonymous: bool,
}

/// `[api]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// The keys of the API. They are secret.
    #[serde(deserialize_with = "types::one_or_more")]
    pub keys: Vec<String>,
    /// Maximum size of a request body in bytes.
    #[serde(deserialize_with = "units::size")]
    pub body_bytes_max: usize,
    /// Time for which a connection stays open without requests.
    #[serde(deserialize_with = "units::duration")]
    pub keep_alive: Duration,
    /// Maximum number of bytes of kept idempotency keys on the node.
    #[serde(deserialize_with = "units::size")]
    pub idempotency_bytes_max: usize,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("keys", &format_args!("{} hidden", self.keys.len()))
            .field("body_bytes_max", &self.body_bytes_max)
            .field("keep_alive", &self.keep_alive)
            .field("idempotency_bytes_max", &self.idempotency_bytes_max)
            .finish()
    }
}

/// `[redis]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// URL of Redis; empty for a single node. It is secret, because it may contain a password.
    pub url: String,
    /// Prefix of all keys.
    pub prefix: String,
    /// Number of streams of the bus.
    pub streams: usize,
    /// Bytes that Redis keeps of each stream.
    #[serde(deserialize_with = "units::size")]
    pub stream_bytes_max: usize,
    /// Streams from which nodes read publications of the application.
    #[serde(deserialize_with = "types::one_or_more")]
    pub ingest: Vec<String>,
}

impl Redis {
    /// Whether there is a bus, which connects nodes and orders publications.
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
#[expect(clippy::struct_excessive_bools, reason = "each field is a setting")]
pub struct Events {
    /// The stream to which events are appended.
    pub stream: String,
    /// Approximate number of entries that the stream keeps.
    pub entries_max: usize,
    /// Approximate number of bytes that the stream keeps.
    #[serde(deserialize_with = "units::size")]
    pub bytes_max: usize,
    /// Report the beginning of sessions.
    pub connect: bool,
    /// Report the end of sessions.
    pub disconnect: bool,
    /// Report the beginning of subscriptions, in namespaces without their own `events`.
    pub subscribe: bool,
    /// Report the end of subscriptions, in namespaces without their own `events`.
    pub unsubscribe: bool,
    /// Report messages of clients to the application.
    pub message: bool,
    /// Keep a list of connected clients, so that the end of each can be reported if the node dies.
    pub roster: bool,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The minimum level of log lines.
    pub level: LogLevel,
    /// The format of log lines.
    pub format: LogFormat,
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// The server failed at something.
    Error,
    /// Something needs attention.
    Warn,
    /// Information for operators.
    Info,
    /// Information for developers.
    Debug,
    /// Every step.
    Trace,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text.
    Text,
    /// A JSON object per line.
    Json,
}

impl Settings {
    /// Whether any event is enabled.
    pub fn has_events(&self) -> bool {
        let Events { connect, disconnect, message, roster, .. } = self.events;
        let channels = self.channel.namespaces.iter().any(|namespace| namespace.events.is_on());
        connect || disconnect || message || roster || channels
    }
}

impl Events {
    /// Whether shards report the beginning of sessions to the bridge. The roster needs it too.
    pub fn notes_connect(&self) -> bool {
        self.connect || self.roster
    }

    /// Whether shards report the end of sessions to the bridge. The roster needs it too.
    pub fn notes_disconnect(&self) -> bool {
        self.disconnect || self.roster
    }
}
