//! The settings of Centrifugo, and what becomes of each. Version 6 has sections (`client.token`),
//! version 5 has long names (`client_channel_limit`).

/// What becomes of a setting.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// It is the same as this setting of Corecast.
    Copy(&'static str, Kind),
    /// A part of an address to listen on.
    Listen(Part),
    /// The origins of web pages.
    Origins,
    /// The way in which nodes are connected.
    Engine,
    /// The sources of publications.
    Consumers,
    /// The time of a shutdown.
    Shutdown,
    /// Corecast does the same without a setting, or the setting tunes what Corecast has not.
    Leave,
    /// It has no equivalent. The text says what to do.
    Tell(&'static str),
}

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// True or false.
    Flag,
    /// A number.
    Count,
    /// A number, where 0 means no limit.
    Limit,
    /// A number of bytes, where 0 means the default.
    Bytes,
    /// A duration.
    Duration,
    /// Text.
    Text,
    /// A list of texts, or one.
    Texts,
    /// The level of log lines.
    Level,
    /// The format of payloads.
    DataFormat,
}

/// A part of an address to listen on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// The host of clients.
    Address,
    /// The port of clients.
    Port,
    /// The host of the API.
    InternalAddress,
    /// The port of the API.
    InternalPort,
}

const KEY_NEEDED: &str = "the API always needs a key, except with --dev: add one to api.keys, and \
                          send it in the header X-API-Key";
const INSECURE: &str = "opens the server to everybody: use `corecast serve --dev` for development";
const PATH: &str = "paths are fixed: clients use /connection/websocket, the application /api, and \
                    Prometheus /metrics";
const NAMES: &str = "names of channels are fixed: ':' ends a namespace, and '$' and '#' have no \
                     meaning, so do not rely on them for access";
const USER_LIMITED: &str = "'#' in the name of a channel restricts nobody here: every client that \
                            may subscribe in this namespace may subscribe to the channels of other \
                            users, so don't allow it to clients where you rely on this";
const FIXED: &str = "has a fixed value in Corecast, which docs/operations.md lists under limits";

/// Single settings: the name in version 6, the name in version 5, and what becomes of them.
const SETTINGS: [(&str, &str, Action); 65] = [
    ("http_server.address", "address", Action::Listen(Part::Address)),
    ("http_server.port", "port", Action::Listen(Part::Port)),
    ("http_server.internal_address", "internal_address", Action::Listen(Part::InternalAddress)),
    ("http_server.internal_port", "internal_port", Action::Listen(Part::InternalPort)),
    ("log.level", "log_level", Action::Copy("log.level", Kind::Level)),
    (
        "log.file",
        "log_file",
        Action::Tell("the log goes to standard error: let systemd or a container keep it"),
    ),
    ("engine.type", "engine", Action::Engine),
    ("broker.type", "broker", Action::Engine),
    ("broker.enabled", "broker.enabled", Action::Leave),
    ("presence_manager.type", "presence_manager", Action::Leave),
    ("client.allowed_origins", "allowed_origins", Action::Origins),
    ("client.ping_interval", "ping_interval", Action::Copy("client.ping_interval", Kind::Duration)),
    ("client.pong_timeout", "pong_timeout", Action::Copy("client.pong_timeout", Kind::Duration)),
    (
        "client.stale_close_delay",
        "client_stale_close_delay",
        Action::Copy("client.stale_timeout", Kind::Duration),
    ),
    (
        "client.channel_limit",
        "client_channel_limit",
        Action::Copy("client.channels_max", Kind::Limit),
    ),
    (
        "client.queue_max_size",
        "client_queue_max_size",
        Action::Copy("client.outbox_bytes_max", Kind::Bytes),
    ),
    (
        "client.connection_limit",
        "client_connection_limit",
        Action::Copy("server.max_connections", Kind::Limit),
    ),
    (
        "client.connection_rate_limit",
        "client_connection_rate_limit",
        Action::Copy("server.accept_rate", Kind::Limit),
    ),
    (
        "client.allow_anonymous_connect_without_token",
        "allow_anonymous_connect_without_token",
        Action::Copy("auth.anonymous", Kind::Flag),
    ),
    (
        "client.disallow_anonymous_connection_tokens",
        "disallow_anonymous_connection_tokens",
        Action::Leave,
    ),
    ("client.insecure", "client_insecure", Action::Tell(INSECURE)),
    (
        "client.insecure_skip_token_signature_verify",
        "client_insecure_skip_token_signature_verify",
        Action::Tell(INSECURE),
    ),
    (
        "client.user_connection_limit",
        "client_user_connection_limit",
        Action::Tell("there are no users in this version, so they have no limit"),
    ),
    (
        "client.user_id_http_header",
        "client_user_id_http_header",
        Action::Tell("there are no users in this version: every client is anonymous"),
    ),
    (
        "client.subscribe_to_user_personal_channel.enabled",
        "user_subscribe_to_personal",
        Action::Tell(
            "there are no users in this version: subscribe clients with the method subscribe of \
             the API",
        ),
    ),
    ("client.concurrency", "client_concurrency", Action::Leave),
    ("client.expired_close_delay", "client_expired_close_delay", Action::Leave),
    ("client.expired_sub_close_delay", "client_expired_sub_close_delay", Action::Leave),
    ("client.channel_position_check_delay", "client_channel_position_check_delay", Action::Leave),
    ("client.channel_position_max_time_lag", "client_channel_position_max_time_lag", Action::Leave),
    (
        "client.connect_include_server_time",
        "client_connect_include_server_time",
        Action::Tell("the reply to connect has no time of the server"),
    ),
    (
        "client.history_max_publication_limit",
        "client_history_max_publication_limit",
        Action::Tell(FIXED),
    ),
    (
        "client.recovery_max_publication_limit",
        "client_recovery_max_publication_limit",
        Action::Tell(FIXED),
    ),
    (
        "channel.max_length",
        "channel_max_length",
        Action::Copy("client.channel_bytes_max", Kind::Limit),
    ),
    ("channel.history_meta_ttl", "global_history_meta_ttl", Action::Leave),
    ("channel.publication_data_format", "", Action::Copy("channel.data", Kind::DataFormat)),
    ("channel.namespace_boundary", "channel_namespace_boundary", Action::Tell(NAMES)),
    ("", "allow_user_limited_channels", Action::Tell(USER_LIMITED)),
    ("", "history_meta_ttl", Action::Leave),
    ("", "shared_position_sync", Action::Leave),
    ("channel.private_prefix", "channel_private_prefix", Action::Tell(NAMES)),
    ("channel.user_boundary", "channel_user_boundary", Action::Tell(NAMES)),
    ("channel.user_separator", "channel_user_separator", Action::Tell(NAMES)),
    ("http_api.key", "api_key", Action::Copy("api.keys", Kind::Texts)),
    ("http_api.insecure", "api_insecure", Action::Tell(KEY_NEEDED)),
    (
        "http_api.disabled",
        "api_disable",
        Action::Tell("the API can't be switched off: keep server.api_listen on a loopback address"),
    ),
    (
        "http_api.external",
        "api_external",
        Action::Tell("the API has an address of its own, server.api_listen"),
    ),
    (
        "http_api.error_mode",
        "api_error_mode",
        Action::Tell("send the header X-Centrifugo-Error-Mode with each request instead"),
    ),
    ("http_api.handler_prefix", "api_handler_prefix", Action::Tell(PATH)),
    ("websocket.handler_prefix", "websocket_handler_prefix", Action::Tell(PATH)),
    (
        "websocket.message_size_limit",
        "websocket_message_size_limit",
        Action::Copy("client.message_bytes_max", Kind::Bytes),
    ),
    (
        "websocket.disabled",
        "websocket_disable",
        Action::Tell("WebSocket is what Corecast is for, and can't be switched off"),
    ),
    ("websocket.write_timeout", "websocket_write_timeout", Action::Leave),
    ("websocket.read_buffer_size", "websocket_read_buffer_size", Action::Leave),
    ("websocket.write_buffer_size", "websocket_write_buffer_size", Action::Leave),
    ("websocket.use_write_buffer_pool", "websocket_use_write_buffer_pool", Action::Leave),
    ("shutdown.timeout", "shutdown_timeout", Action::Shutdown),
    // It is a pause after the last connection, so it is not server.drain_delay.
    ("shutdown.termination_delay", "shutdown_termination_delay", Action::Leave),
    ("node.name", "name", Action::Copy("server.name", Kind::Text)),
    ("node.info_metrics_aggregate_interval", "node_info_metrics_aggregate_interval", Action::Leave),
    ("consumers", "consumers", Action::Consumers),
    (
        "prometheus.enabled",
        "prometheus",
        Action::Tell(
            "metrics are always at /metrics of server.api_listen, with other names: see \
             docs/metrics.md",
        ),
    ),
    (
        "health.enabled",
        "health",
        Action::Tell(
            "health checks are always on: /health on the port for clients, /ready and /live on \
             server.api_listen",
        ),
    ),
    ("pid_file", "pid_file", Action::Tell("there is no such file: let systemd follow the process")),
    ("gomaxprocs", "gomaxprocs", Action::Tell("use server.shards for the number of threads")),
];

/// Sections, and beginnings of names, of which all settings share an action. The first match
/// counts.
const SECTIONS: [(&str, Action); 19] = [
    (
        "admin",
        Action::Tell(
            "there is no admin page in this version: use `corecast info`, `corecast channels` and \
             the metrics",
        ),
    ),
    (
        "swagger",
        Action::Tell("there is no such page in this version: docs/api.md describes the API"),
    ),
    (
        "debug",
        Action::Tell("there are no profiling endpoints: use perf, as docs/performance.md shows"),
    ),
    (
        "opentelemetry",
        Action::Tell("there is no tracing in this version: use the metrics and the log"),
    ),
    ("graphite", Action::Tell("let an agent read /metrics and send it to Graphite")),
    ("usage_stats", Action::Leave),
    ("enable_unreleased_features", Action::Leave),
    ("prometheus", Action::Leave),
    ("health", Action::Tell(PATH)),
    ("init", Action::Leave),
    ("controller", Action::Leave),
    ("presence_manager", Action::Leave),
    ("client_presence_update_interval", Action::Leave),
    ("client.presence_update_interval", Action::Leave),
    ("global_presence_ttl", Action::Leave),
    ("channel_position", Action::Leave),
    (
        "rpc",
        Action::Tell(
            "RPC is not part of this version: clients can send messages, which [events] forwards \
             to the application",
        ),
    ),
    ("nats", Action::Tell("NATS is not supported: nodes are connected by Redis (redis.url)")),
    (
        "tarantool",
        Action::Tell("Tarantool is not supported: nodes are connected by Redis (redis.url)"),
    ),
];

/// Returns what becomes of the setting, or `None` if no rule is for it.
pub(super) fn action(key: &str) -> Option<Action> {
    if let Some((_, _, action)) = SETTINGS.iter().find(|(new, old, _)| *new == key || *old == key) {
        return Some(*action);
    }
    let begins = |name: &str| {
        key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
    };
    SECTIONS.iter().find(|(name, _)| begins(name)).map(|(_, action)| *action)
}

/// Returns the setting of Corecast that is the same as `key`, which may also be written as in a
/// variable of the environment, with `_` for each `.`.
pub(super) fn equivalent(key: &str) -> Option<&'static str> {
    let flat = key.replace('.', "_");
    let is = |name: &str| !name.is_empty() && name.replace('.', "_") == flat;
    let (.., action) = SETTINGS.iter().find(|(new, old, _)| is(new) || is(old))?;
    match action {
        Action::Copy(to, _) => Some(to),
        Action::Listen(Part::Address | Part::Port) => Some("server.listen"),
        Action::Listen(Part::InternalAddress | Part::InternalPort) => Some("server.api_listen"),
        Action::Origins => Some("client.allowed_origins"),
        Action::Engine => Some("redis.url"),
        Action::Shutdown => Some("server.drain"),
        // The types of other consumers are features of their own.
        Action::Consumers | Action::Leave | Action::Tell(_) => None,
    }
}

/// Returns the names of all single settings.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().flat_map(|(new, old, _)| [*new, *old]).filter(|name| !name.is_empty())
}
