//! Limits for the values of settings.

use std::time::Duration;

/// Maximum of `server.accept_rate`, in connections per second. Higher values are typing errors.
pub const SETTING_ACCEPT_RATE_MAX: usize = 10_000_000;

/// Maximum of other settings that are rates per second. They are used with 32 bits.
pub const SETTING_PER_SECOND_MAX: usize = 1_000_000_000;

/// Minimum of `client.ping_interval`, because clients receive it in whole seconds.
pub const SETTING_PING_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Minimum of timeouts for clients: deadlines are checked ten times a second.
pub const SETTING_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Maximum number of frames per second that `client.frames_per_second_max` allows. Each connection
/// counts its frames in 20 bits.
pub const SETTING_FRAMES_PER_SECOND_MAX: u32 = 1_000_000;

/// Maximum number of pings per second that `client.pings_per_second_max` allows. Each connection
/// counts its pings in 12 bits.
pub const SETTING_PINGS_PER_SECOND_MAX: u32 = 4_000;

/// Minimum of `client.message_bytes_max`, with room for the commands of SDKs.
pub const SETTING_MESSAGE_BYTES_MIN: usize = 1024;

/// Maximum message size that any setting allows. One shard may have to hold it for one client.
pub const SETTING_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Minimum and maximum of `client.handshake_bytes_max`. A request of a browser without cookies has
/// 500 bytes. The highest value arrives in 27 packets of a path with the smallest MTU of IPv6, and
/// so within `HANDSHAKE_RECEIVES_MAX`.
pub const SETTING_HANDSHAKE_BYTES_MIN: usize = 1024;
/// See [`SETTING_HANDSHAKE_BYTES_MIN`].
pub const SETTING_HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// Maximum length of `server.path_prefix`.
pub const SETTING_PATH_PREFIX_BYTES_MAX: usize = 128;

/// Maximum of `api.keep_alive`. Longer pauses are rare, and each connection is one of
/// `API_CONNECTIONS_MAX`.
pub const SETTING_KEEP_ALIVE_MAX: Duration = Duration::from_secs(3600);

/// Maximum request body that any setting allows.
pub const SETTING_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Maximum number of cores that can be named, from the size of the kernel's `cpu_set_t`.
pub const CPUS_MAX: usize = 1024;

/// Maximum length of the name of a node in bytes, like that of a host. Source: RFC 1035 §2.3.4.
pub const NODE_NAME_BYTES_MAX: usize = 255;

/// Maximum number of streams of a bus, because each may need its own connection.
pub const STREAMS_MAX: usize = 64;

/// Minimum and maximum bytes of a stream of the bus. Every node loads all streams at its start.
pub const SETTING_STREAM_BYTES_MIN: usize = 64 * 1024;

/// See [`SETTING_STREAM_BYTES_MIN`].
pub const SETTING_STREAM_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Minimum number of entries of the stream of events: room for a few batches.
pub const SETTING_EVENTS_MIN: usize = 1000;

/// Minimum bytes of the stream of events: room for a few batches, and for this many messages of the
/// maximum size.
pub const SETTING_EVENTS_BYTES_MIN: usize = 1024 * 1024;

/// See [`SETTING_EVENTS_BYTES_MIN`].
pub const SETTING_EVENTS_MESSAGES_MIN: usize = 16;

/// Maximum bytes of the stream of events, because a script can't count further.
pub const SETTING_EVENTS_BYTES_MAX: usize = 1 << 50;

/// Maximum duration that any setting allows. It must fit into the ticks of connections.
pub const SETTING_DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// Minimum similarity of two keys, from 0 to 1, for an error to suggest one for the other.
pub const KEY_LIKENESS_MIN: f64 = 0.6;

/// Maximum bytes of a file that a variable ending in `_FILE` names. A list of API keys is far
/// shorter; the limit stops the mistake of naming a device or a log.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
