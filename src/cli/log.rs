//! The log. Its own thread writes it, so that no shard ever waits for a terminal or a disk.

use std::io::{self, IsTerminal as _};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::failure::Failure;
use crate::limits::LOG_LINES_MAX;
use crate::settings::{Log, LogFormat, LogLevel};

/// Starts the log on standard error. It ends when the guard is dropped.
pub(super) fn start(log: &Log) -> Result<WorkerGuard, Failure> {
    let (writer, guard) = NonBlockingBuilder::default()
        // Lines are dropped if the writer is too slow, because a shard must not wait for it.
        .lossy(true)
        .buffered_lines_limit(LOG_LINES_MAX)
        .thread_name("log")
        .finish(io::stderr());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter(log.level)))
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer);
    let started = match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    started.map_err(|error| Failure::Words(format!("can't start the log: {error}")))?;
    Ok(guard)
}

/// The filter for a level. Libraries log only warnings and errors, because some of them print data
/// of clients at finer levels.
fn filter(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "warn,corecast=info",
        LogLevel::Debug => "warn,corecast=debug",
        LogLevel::Trace => "warn,corecast=trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_never_louder_than_a_warning() {
        for level in [LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            assert!(filter(level).starts_with("warn,corecast="), "{level:?}");
        }
    }
}
