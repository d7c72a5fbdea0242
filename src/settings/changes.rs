//! The settings that another value of [`super::Settings`] may change while the node runs.

/// The time at which a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// As soon as threads get the new settings. They read the setting where they need it, or derive
    /// values from it again.
    Running,
    /// At the next start, because a socket, thread, table or pool depends on it, or because other
    /// nodes or clients rely on it.
    Restart,
}

use Change::{Restart, Running};

/// All settings. Options of a namespace are listed as those of `[channel]`. Namespaces may be added
/// and removed.
pub const CHANGES: [(&str, Change); 78] = [
    ("server.name", Restart), // Other nodes know it.
    ("server.listen", Restart),
    ("server.api_listen", Restart),
    ("server.unix_mode", Restart),
    ("server.unix_group", Restart),
    ("server.proxies", Restart), // Listeners have them.
    ("server.hosts", Running),
    ("server.path_prefix", Running),
    ("server.shards", Restart),
    ("server.driver", Restart),
    ("server.cpu_affinity", Restart),
    ("server.private_fd_tables", Restart),
    ("server.max_connections", Restart), // Shards have leased them.
    ("server.accept_rate", Restart),
    ("server.drain_delay", Running),
    ("server.drain", Running),
    ("client.allowed_origins", Running),
    ("client.ping_interval", Restart), // Clients know it.
    ("client.pong_timeout", Restart),  // Listeners pass it to the kernel.
    ("client.handshake_timeout", Running),
    ("client.handshake_bytes_max", Running),
    ("client.stale_timeout", Running),
    ("client.message_bytes_max", Running),
    ("client.fragments_max", Running),
    ("client.frames_per_second_max", Running),
    ("client.pings_per_second_max", Running),
    ("client.inbound_bytes_max", Restart),
    ("client.outbox_bytes_max", Running),
    ("client.outboxes_bytes_max", Restart), // Shards have leased them.
    ("client.slow_policy", Running),
    ("client.channels_max", Running),
    ("client.channels_created_per_second_max", Running),
    ("client.channel_bytes_max", Running),
    ("channel.data", Restart), // Histories hold payloads of the old type.
    ("channel.history_size", Running),
    ("channel.history_ttl", Running),
    ("channel.durable_history", Restart), // It must be the same on all nodes.
    ("channel.force_recovery", Running),
    ("channel.force_positioning", Running),
    ("channel.allow_recovery", Running),
    ("channel.allow_positioning", Running),
    ("channel.allow_subscribe_for_client", Running),
    ("channel.allow_subscribe_for_anonymous", Running),
    ("channel.allow_publish_for_subscriber", Running),
    ("channel.allow_publish_for_client", Running),
    ("channel.allow_publish_for_anonymous", Running),
    ("channel.allow_history_for_subscriber", Running),
    ("channel.allow_history_for_client", Running),
    ("channel.allow_history_for_anonymous", Running),
    ("channel.channel_regex", Running),
    ("channel.slow_policy", Running),
    ("channel.events", Running),
    ("channel.history_bytes_max", Restart),
    ("channel.channels_max", Restart), // Shards have leased them.
    ("channel.created_per_second_max", Running),
    ("channel.namespaces", Running),
    ("auth.insecure", Running),
    ("auth.anonymous", Running),
    ("api.keys", Running),
    ("api.body_bytes_max", Running),
    ("api.keep_alive", Running),
    ("api.idempotency_bytes_max", Restart), // Shards have leased them.
    ("redis.url", Restart),
    ("redis.prefix", Restart),
    ("redis.streams", Restart),
    ("redis.stream_bytes_max", Running),
    ("redis.ingest", Restart), // Each stream has its own task.
    ("events.stream", Restart),
    ("events.entries_max", Running),
    ("events.bytes_max", Running),
    ("events.connect", Running),
    ("events.disconnect", Running),
    ("events.subscribe", Running),
    ("events.unsubscribe", Running),
    ("events.message", Running),
    ("events.roster", Restart), // It would lack clients that are already connected.
    ("log.level", Restart),
    ("log.format", Restart),
];
