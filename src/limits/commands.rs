//! Bounds of the commands that people type, and of the log.

use std::time::Duration;

/// Longest wait of `corecast publish` for the API. It answers within seconds or says that it can't.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(15);

/// Most bytes that `corecast publish` reads from standard input as a message.
pub const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Lines of the log that may wait for the thread that writes them; beyond them lines are dropped.
/// About 200 B each.
pub const LOG_LINES_MAX: usize = 16_384;

/// Maximum number of connections that `corecast doctor` can be asked about: a greater one is more
/// likely a typing error.
pub const DOCTOR_CONNECTIONS_MAX: u64 = 1_000_000_000;

/// Silence after which the connection of `corecast subscribe` counts as dead: the server pings
/// every 25 s by default.
pub const SUBSCRIBE_SILENCE_MAX: Duration = Duration::from_secs(60);

/// First and longest pause before `corecast subscribe` connects again.
pub const SUBSCRIBE_PAUSE_MIN: Duration = Duration::from_millis(500);

/// See [`SUBSCRIBE_PAUSE_MIN`].
pub const SUBSCRIBE_PAUSE_MAX: Duration = Duration::from_secs(20);
