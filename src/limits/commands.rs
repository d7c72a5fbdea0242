//! Limits of the commands and the log.

use std::time::Duration;

/// Maximum time that a command waits for the API, which responds within seconds.
pub const API_CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum bytes of a response of the API that a command reads. The largest is a history of 16 MiB,
/// and JSON may make it somewhat longer.
pub const API_RESULT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Number of channels that `corecast channels` shows unless another one is asked for. More would
/// scroll past.
pub const CHANNELS_SHOWN: u64 = 1000;

/// Number of publications that `corecast history` shows unless another one is asked for.
pub const HISTORY_SHOWN: u64 = 10;

/// Maximum number of bytes that `corecast publish` reads from standard input.
pub const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Maximum bytes of a configuration that `corecast config import` reads.
pub const IMPORT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Maximum number of log lines that wait for the thread that writes them, about 200 B each. Further
/// lines are dropped.
pub const LOG_LINES_MAX: usize = 16_384;

/// Minimum time between two log lines of one kind that clients can cause. The next line has the
/// number of lines that were left out.
pub const LOG_REPEATS_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum length of a text from outside in a log line, in characters.
pub const LOG_TEXT_CHARS_MAX: usize = 200;

/// Maximum number of connections for `corecast doctor`. A larger one is probably a typing error.
pub const DOCTOR_CONNECTIONS_MAX: u64 = 1_000_000_000;

/// Silence after which the connection of `corecast subscribe` counts as dead. The server pings
/// every 25 s by default.
pub const SUBSCRIBE_SILENCE_MAX: Duration = Duration::from_secs(60);

/// First and maximum pause before `corecast subscribe` reconnects.
pub const SUBSCRIBE_PAUSE_MIN: Duration = Duration::from_millis(500);

/// See [`SUBSCRIBE_PAUSE_MIN`].
pub const SUBSCRIBE_PAUSE_MAX: Duration = Duration::from_secs(20);
