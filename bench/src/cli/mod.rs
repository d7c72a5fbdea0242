//! The command line: flags are checked and turned into plans.

mod contender;
mod plan;
mod values;

use crate::publish::Way;
use clap::{Args, Parser, Subcommand};
pub(crate) use contender::Contender;
pub(crate) use plan::Subject;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use values::{Cpus, missed, pairs, parse_cpus, parse_duration, seconds};

/// Load generator for WebSocket broadcast servers.
///
/// Exit code: 0 on success, 1 if a connection failed or a publication was lost, repeated or out of
/// order, 2 if the scenario could not run, 130 if it was interrupted.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

/// The scenario to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Open connections at a rate, hold them and close them.
    Connect(ConnectArgs),
    /// Measure the cost of one more idle subscribed connection.
    Idle(IdleArgs),
    /// Publish to many subscribers at a fixed rate, and measure latency.
    Fanout(FanoutArgs),
    /// Publish as soon as all subscribers have the last message, and measure throughput.
    Saturate(SaturateArgs),
    /// Publish to many small channels in turn at a fixed rate.
    Channels(ChannelsArgs),
    /// Close and reopen connections at a rate.
    Churn(ChurnArgs),
    /// Reset all connections at once, and let all clients return and recover missed messages.
    Storm(StormArgs),
    /// Let some subscribers read slowly, and measure the latency of the others.
    Slow(SlowArgs),
    /// Increase the number of connections in steps, and measure at each step.
    Ladder(LadderArgs),
    /// Load several servers in turn, and report the ratios between them.
    Compare(CompareArgs),
    /// List the profiles that come with the program.
    Profiles,
}

/// Flags of every scenario.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonArgs {
    /// Profile of the server: bun, centrifugo, corecast, fastapi, gorilla, limit, nchan, plain,
    /// socketio, tungstenite, or the path of a profile.
    #[arg(long, default_value = "corecast")]
    pub(crate) profile: String,
    /// URL for clients, instead of the one in the profile. {channel} stands for the channel.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Further addresses of the same server, such as 10.0.0.2:8000. Connections use the address of
    /// the URL and these in turn, because each pair of addresses has only 64,000 ports.
    #[arg(long, value_delimiter = ',')]
    destination: Vec<SocketAddr>,
    /// Source addresses on this host, used in turn. On loopback they are chosen automatically.
    #[arg(long, value_delimiter = ',')]
    source: Vec<Ipv4Addr>,
    /// Number of connections to open.
    #[arg(long, short = 'n', default_value_t = 1000)]
    pub(crate) connections: usize,
    /// Channel to subscribe to.
    #[arg(long, default_value = "bench")]
    pub(crate) channel: String,
    /// Connections to open per second; 0 means as fast as possible.
    #[arg(long, default_value_t = 0)]
    pub(crate) connect_rate: u32,
    /// Processors for the threads, such as 1,4-7.
    #[arg(long, value_parser = parse_cpus, default_value = "")]
    cpus: Cpus,
    /// Number of threads [default: as many as the descriptor limit requires].
    #[arg(long)]
    threads: Option<usize>,
    /// Poll for events without sleeping, so that the server never pays for a wake-up.
    #[arg(long)]
    spin: bool,
    /// Process id of the server, whose memory and CPU time are reported; may be given more than
    /// once. On this host the process is found by its port.
    #[arg(long)]
    pid: Vec<u32>,
    /// Also report the threads of the server whose names begin with this text.
    #[arg(long)]
    thread_prefix: Option<String>,
    /// Maximum time of a handshake, and maximum time without a delivery while one is expected.
    #[arg(long, value_parser = parse_duration, default_value = "30s")]
    timeout: Duration,
    /// Reset connections at the end instead of closing them.
    #[arg(long)]
    abort: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write a page with tables and charts into this directory.
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
}

/// How to publish.
#[derive(Clone, Debug, Args)]
pub(crate) struct PublishArgs {
    /// Way to publish [default: the first one in the profile].
    #[arg(long, value_enum)]
    publish: Option<Way>,
    /// Target of publications, instead of the one in the profile: a URL, or an address for
    /// `trigger`.
    #[arg(long)]
    publish_url: Option<String>,
    /// Header of each publish request, such as "X-API-Key: secret".
    #[arg(long)]
    publish_header: Vec<String>,
    /// Number of connections to publish on. Each channel always uses the same one.
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Size of the payload of a publication, in bytes.
    #[arg(long, default_value_t = 64)]
    pub(crate) bytes: usize,
}

/// The duration of the load, and parts that are not counted.
#[derive(Clone, Debug, Args)]
pub(crate) struct WindowArgs {
    /// Time to publish, in seconds.
    #[arg(long, default_value_t = 10, conflicts_with = "messages", value_parser = seconds())]
    pub(crate) seconds: u64,
    /// Number of publications to measure, instead of a time.
    #[arg(long)]
    pub(crate) messages: Option<u32>,
    /// Number of publications before the measured ones.
    #[arg(long, default_value_t = 3)]
    pub(crate) warmup: u32,
    /// Pause between the last connection and the first publication, and at the end to detect late
    /// repeats.
    #[arg(long, value_parser = parse_duration, default_value = "300ms")]
    pub(crate) settle: Duration,
}

/// Flags of `connect`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Time to hold the connections.
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    pub(crate) hold: Duration,
}

/// Flags of `idle`.
#[derive(Clone, Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    /// Time to measure the CPU time of idle connections.
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    pub(crate) hold: Duration,
    /// Pause between the last connection and the measurement of memory.
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    pub(crate) settle: Duration,
    /// Publish one message at the end, and check that each connection gets it exactly once.
    #[arg(long)]
    pub(crate) publish_once: bool,
}

/// Flags of `fanout`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
    /// Publications per second. Each has a fixed due time, even if earlier ones are late.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) rate: f64,
}

/// Flags of `saturate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SaturateArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
    /// Number of outstanding publications.
    #[arg(long, default_value_t = 1)]
    pub(crate) outstanding: u32,
}

/// Flags of `channels`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChannelsArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
    /// Number of channels, among which the connections are divided.
    #[arg(long, default_value_t = 100)]
    pub(crate) channels: u32,
    /// Publications per second, in all channels together.
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
}

/// Flags of `churn`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChurnArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Connections to close and reopen per second.
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u32,
    /// Duration in seconds.
    #[arg(long, default_value_t = 10, value_parser = seconds())]
    pub(crate) seconds: u64,
}

/// Flags of `storm`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StormArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    /// Number of publications while all clients are away.
    #[arg(long, default_value_t = 10, value_parser = missed())]
    pub(crate) missed: u32,
    /// Number of clients on another channel that keep their connection.
    #[arg(long, default_value_t = 1000)]
    pub(crate) bystanders: usize,
    /// Publications per second to the bystanders.
    #[arg(long, default_value_t = 20.0)]
    pub(crate) bystander_rate: f64,
    /// Time to measure the bystanders before and after the storm.
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    pub(crate) calm: Duration,
}

/// Flags of `slow`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SlowArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
    /// Number of additional subscribers that read slowly.
    #[arg(long, default_value_t = 10)]
    pub(crate) slow: usize,
    /// Bytes that a slow subscriber reads per second.
    #[arg(long, default_value_t = 2048)]
    pub(crate) slow_bytes: usize,
    /// Publications per second.
    #[arg(long, default_value_t = 20.0)]
    pub(crate) rate: f64,
    /// Number of pairs of windows, one without and one with slow subscribers.
    #[arg(long, default_value_t = 3, value_parser = pairs())]
    pub(crate) pairs: u32,
    /// Allow the server to close slow subscribers.
    #[arg(long)]
    pub(crate) may_close: bool,
}

/// Flags of `ladder`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LadderArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    /// Number of connections at each step.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    pub(crate) rungs: Vec<usize>,
    /// Pause after the last connection of a step, before memory is measured.
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    pub(crate) settle: Duration,
    /// Time to measure idle connections at each step.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub(crate) idle: Duration,
    /// Publications per second at each step.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) rate: f64,
    /// Time to publish at each step, in seconds.
    #[arg(long, default_value_t = 10, value_parser = seconds())]
    pub(crate) seconds: u64,
    /// Time to publish at the last step, in seconds, if it should be longer.
    #[arg(long, value_parser = seconds())]
    pub(crate) last_seconds: Option<u64>,
}

/// Flags of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// Load for all servers.
    #[arg(value_enum)]
    pub(crate) load: CompareLoad,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    /// A server: a profile with changes, such as
    /// corecast,url=ws://127.0.0.1:8000/connection/websocket,publish-url=…,publish=frame,name=….
    /// All others are compared with the first one.
    #[arg(long = "server", required = true, num_args = 1)]
    pub(crate) servers: Vec<String>,
    /// Number of windows for each server; windows alternate between servers.
    #[arg(long, default_value_t = 15, value_parser = pairs())]
    pub(crate) pairs: u32,
    /// Length of a window in seconds. With `connect`, a window opens all connections once.
    #[arg(long, default_value_t = 5, value_parser = seconds())]
    pub(crate) seconds: u64,
    /// Number of publications before each window.
    #[arg(long, default_value_t = 3)]
    pub(crate) warmup: u32,
    /// With `saturate`: number of outstanding publications.
    #[arg(long, default_value_t = 1)]
    pub(crate) outstanding: u32,
    /// With `fanout` and `channels`: publications per second.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) rate: f64,
    /// With `channels`: number of channels.
    #[arg(long, default_value_t = 100)]
    pub(crate) channels: u32,
    /// Fail if the worse end of the interval of a ratio exceeds this value, such as cpu=1.05 or
    /// p99=1.0. Ratios: cpu, cpu-handshake, rate (fails if below the value), p50, p99.
    #[arg(long)]
    pub(crate) assert: Vec<String>,
}

/// The load of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CompareLoad {
    /// Publish as soon as all subscribers have the last message.
    Saturate,
    /// Publish at a fixed rate.
    Fanout,
    /// Publish to many small channels at a fixed rate.
    Channels,
    /// Open connections.
    Connect,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
