//! The command line, and what it means: raw flags become plans with everything checked.

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

/// Loads a WebSocket broadcast server and tells what it did.
///
/// Exit code: 0 if everything went as it should, 1 if a connection failed or a publication was
/// lost, repeated or out of order, 2 if the scenario could not run, 130 if it was interrupted.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

/// What to do to the server.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Open connections at a rate, hold them, close them.
    Connect(ConnectArgs),
    /// Measure what one more idle subscribed connection costs.
    Idle(IdleArgs),
    /// Publish to many subscribers at a fixed rate: how long does a delivery take?
    Fanout(FanoutArgs),
    /// Publish the next as soon as everyone has the last: how much can it deliver?
    Saturate(SaturateArgs),
    /// Publish at a fixed rate to many small channels in turn.
    Channels(ChannelsArgs),
    /// Close connections and open them again at a rate.
    Churn(ChurnArgs),
    /// Let everyone lose the connection at once and come back for what was missed.
    Storm(StormArgs),
    /// Let some subscribers read slowly: what do the others feel?
    Slow(SlowArgs),
    /// Climb from few connections to many, measuring at each rung.
    Ladder(LadderArgs),
    /// Load several servers in turn, and tell the ratios.
    Compare(CompareArgs),
    /// List the profiles that come with the program.
    Profiles,
}

/// Flags of every scenario.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonArgs {
    /// How the server is spoken to: bun, centrifugo, corecast, fastapi, gorilla, limit, nchan,
    /// plain, socketio, tungstenite, or a file like theirs.
    #[arg(long, default_value = "corecast")]
    pub(crate) profile: String,
    /// Where clients connect, if not where the profile says. {channel} stands for the channel.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Other addresses of the same server, such as 10.0.0.2:8000: connections go to that of the url
    /// and to these in turn. Each pair of addresses has 64,000 ports.
    #[arg(long, value_delimiter = ',')]
    destination: Vec<SocketAddr>,
    /// Addresses of this host to connect from, in turn. Towards loopback there are always enough.
    #[arg(long, value_delimiter = ',')]
    source: Vec<Ipv4Addr>,
    /// Connections to open.
    #[arg(long, short = 'n', default_value_t = 1000)]
    pub(crate) connections: usize,
    /// Channel to subscribe to.
    #[arg(long, default_value = "bench")]
    pub(crate) channel: String,
    /// Connections opened per second; 0 is as fast as they go.
    #[arg(long, default_value_t = 0)]
    pub(crate) connect_rate: u32,
    /// Processors for the threads, such as 1,4-7.
    #[arg(long, value_parser = parse_cpus, default_value = "")]
    cpus: Cpus,
    /// Threads; as many as the descriptor limit asks for unless given.
    #[arg(long)]
    threads: Option<usize>,
    /// Ask for events without sleeping, so that the server never pays for a wake.
    #[arg(long)]
    spin: bool,
    /// Server process, to report its memory and processor time; more than one may be given. Found
    /// by its port if it runs on this host.
    #[arg(long)]
    pid: Vec<u32>,
    /// Report the server's threads whose names begin so beside the whole process.
    #[arg(long)]
    thread_prefix: Option<String>,
    /// Longest handshake, and longest time without any delivery while one is awaited.
    #[arg(long, value_parser = parse_duration, default_value = "30s")]
    timeout: Duration,
    /// Reset connections at the end rather than close them.
    #[arg(long)]
    abort: bool,
    /// Print one JSON object rather than a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a page with tables and charts into this directory, too.
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
}

/// How to publish.
#[derive(Clone, Debug, Args)]
pub(crate) struct PublishArgs {
    /// One of the ways that the profile has; its first unless given.
    #[arg(long, value_enum)]
    publish: Option<Way>,
    /// Where publications go, if not where the profile says: a URL, or an address for a trigger.
    #[arg(long)]
    publish_url: Option<String>,
    /// Header of each request to publish, such as "X-API-Key: secret".
    #[arg(long)]
    publish_header: Vec<String>,
    /// Connections to publish on. Each channel keeps to one.
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Payload of a publication.
    #[arg(long, default_value_t = 64)]
    pub(crate) bytes: usize,
}

/// How long to load, and what not to count.
#[derive(Clone, Debug, Args)]
pub(crate) struct WindowArgs {
    /// How long to publish, in seconds.
    #[arg(long, default_value_t = 10, conflicts_with = "messages", value_parser = seconds())]
    pub(crate) seconds: u64,
    /// How many publications to measure, instead of a time.
    #[arg(long)]
    pub(crate) messages: Option<u32>,
    /// Publications before those that are measured.
    #[arg(long, default_value_t = 3)]
    pub(crate) warmup: u32,
    /// Pause between the last connection and the first publication, and again at the end, for
    /// repeats that come late.
    #[arg(long, value_parser = parse_duration, default_value = "300ms")]
    pub(crate) settle: Duration,
}

/// Flags of `connect`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// How long to hold the connections.
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
    /// How long to measure the processor time of idle connections.
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    pub(crate) hold: Duration,
    /// Pause between the last connection and the reading of memory.
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    pub(crate) settle: Duration,
    /// At the end publish one message, and see that everyone gets it exactly once.
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
    /// Publications per second. Each is due at its moment, whatever became of those before.
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
    /// Publications under way at once.
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
    /// Channels; the connections are spread over them.
    #[arg(long, default_value_t = 100)]
    pub(crate) channels: u32,
    /// Publications per second, all channels together.
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
}

/// Flags of `churn`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChurnArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Connections closed and opened again per second.
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u32,
    /// How long, in seconds.
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
    /// Publications while everyone is away.
    #[arg(long, default_value_t = 10, value_parser = missed())]
    pub(crate) missed: u32,
    /// Clients on another channel that keep their connection.
    #[arg(long, default_value_t = 1000)]
    pub(crate) bystanders: usize,
    /// Publications per second to the bystanders.
    #[arg(long, default_value_t = 20.0)]
    pub(crate) bystander_rate: f64,
    /// How long the bystanders are measured before the storm, and after it.
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
    /// Subscribers beside the others that read slowly.
    #[arg(long, default_value_t = 10)]
    pub(crate) slow: usize,
    /// What a slow subscriber reads per second.
    #[arg(long, default_value_t = 2048)]
    pub(crate) slow_bytes: usize,
    /// Publications per second.
    #[arg(long, default_value_t = 20.0)]
    pub(crate) rate: f64,
    /// Windows with everyone prompt and windows with some slow, in turn.
    #[arg(long, default_value_t = 3, value_parser = pairs())]
    pub(crate) pairs: u32,
    /// The server may close the slow ones.
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
    /// Connections at each rung.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    pub(crate) rungs: Vec<usize>,
    /// Pause after the last connection of a rung, before memory is read.
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    pub(crate) settle: Duration,
    /// How long to measure idle connections on each rung.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub(crate) idle: Duration,
    /// Publications per second on each rung.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) rate: f64,
    /// How long to publish on each rung, in seconds.
    #[arg(long, default_value_t = 10, value_parser = seconds())]
    pub(crate) seconds: u64,
    /// How long to publish on the last rung, in seconds, if longer.
    #[arg(long, value_parser = seconds())]
    pub(crate) last_seconds: Option<u64>,
}

/// Flags of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// What to load them with.
    #[arg(value_enum)]
    pub(crate) load: CompareLoad,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    /// A server: its profile, and what differs from it, such as
    /// corecast,url=ws://127.0.0.1:8000/connection/websocket,publish-url=…,publish=frame,name=….
    /// The others are set against the first.
    #[arg(long = "server", required = true, num_args = 1)]
    pub(crate) servers: Vec<String>,
    /// Windows for each server, taken in turn.
    #[arg(long, default_value_t = 15, value_parser = pairs())]
    pub(crate) pairs: u32,
    /// Length of a window, in seconds. With `connect` a window opens all connections once.
    #[arg(long, default_value_t = 5, value_parser = seconds())]
    pub(crate) seconds: u64,
    /// Publications before each window.
    #[arg(long, default_value_t = 3)]
    pub(crate) warmup: u32,
    /// With `saturate`: publications under way at once.
    #[arg(long, default_value_t = 1)]
    pub(crate) outstanding: u32,
    /// With `fanout` and `channels`: publications per second.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) rate: f64,
    /// With `channels`: how many.
    #[arg(long, default_value_t = 100)]
    pub(crate) channels: u32,
    /// Fail if the worse end of the interval of a ratio is above this, such as cpu=1.05 or
    /// p99=1.0. Of cpu, cpu-handshake, rate (where below fails), p50, p99.
    #[arg(long)]
    pub(crate) assert: Vec<String>,
}

/// What every server of a comparison is loaded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CompareLoad {
    /// The next publication as soon as everyone has the last.
    Saturate,
    /// Publications at a fixed rate.
    Fanout,
    /// The same, to many small channels.
    Channels,
    /// Handshakes.
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
