//! Inputs of the settings: the flags of `serve`, and the environment.

use std::path::PathBuf;

use clap::Args;

use crate::config::Flags;
use crate::units::parse_count;

/// Flags that override settings.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// TOML file with settings; `corecast config default` prints all of them.
    #[arg(long, value_name = "FILE", env = "CORECAST_CONFIG")]
    config: Option<PathBuf>,
    /// Development mode: no keys or permissions needed, reachable from this host only.
    #[arg(long)]
    dev: bool,
    /// Listen for other hosts as well (0.0.0.0): containers, phones and VMs. Needs --dev.
    #[arg(long)]
    expose: bool,
    /// Serve /echo, which sends every message back, for protocol test suites. Needs --dev.
    #[arg(long)]
    echo: bool,
    /// Address for clients, such as 0.0.0.0:8000; may be given more than once.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Address for the HTTP API and metrics, such as 127.0.0.1:9000.
    #[arg(long, value_name = "ADDR")]
    api_listen: Option<String>,
    /// Number of threads that serve clients; 0 means one per core.
    #[arg(long, value_name = "N", value_parser = shard_count)]
    shards: Option<u32>,
    /// How to drive sockets; auto uses io_uring where the host allows it.
    #[arg(long, value_parser = ["auto", "io_uring", "epoll"])]
    driver: Option<String>,
    /// Redis that connects this node with others, such as redis://127.0.0.1:6379. A URL with a
    /// password belongs in CORECAST_REDIS_URL or the file, which other users can't read.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

impl ServeArgs {
    /// Returns the flags as `config` reads them.
    pub(super) fn into_flags(self) -> Flags {
        Flags {
            config: self.config,
            dev: self.dev,
            expose: self.expose,
            echo: self.echo,
            listen: self.listen,
            api_listen: self.api_listen,
            shards: self.shards,
            driver: self.driver,
            redis: self.redis,
        }
    }
}

/// Parses a number of shards, which may be written as in a file.
fn shard_count(text: &str) -> Result<u32, String> {
    u32::try_from(parse_count(text)?).map_err(|_| format!("{text:?} is too large a number"))
}

/// The variables of the environment. Bytes that are no UTF-8 become U+FFFD, which no setting
/// accepts, because a setting must not be ignored silently.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(key, value)| {
        Some((key.into_string().ok()?, value.to_string_lossy().into_owned()))
    })
}
