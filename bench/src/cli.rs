//! The command line, and what it means: raw flags become a plan with everything checked.

use crate::error::Error;
use crate::fleet::{Ending, Frames, OUTSTANDING_MAX, Plan, Waiting};
use crate::process::Watched;
use crate::publish::Entrance;
use crate::sys;
use crate::target::{Endpoint, Target};
use crate::wire::dialect::Dialect;
use crate::wire::mark::PAYLOAD_BYTES_MIN;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::time::Duration;

/// Descriptors of a thread's table that are left for everything but connections.
const DESCRIPTORS_RESERVED: usize = 1000;
/// Smallest receive buffer of a connection: enough for small frames, and a million of them fit.
const RECEIVE_BYTES_MIN: i32 = 8 * 1024;
/// Largest publication.
const PUBLICATION_BYTES_MAX: usize = 1024 * 1024;

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
    /// Open connections, hold them, close them.
    Connect(ConnectArgs),
    /// Measure what one more idle subscribed connection costs.
    Idle(IdleArgs),
    /// Publish to many subscribers, the next once all have the last.
    Fanout(FanoutArgs),
}

/// Flags of every scenario.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Server; the path decides what is spoken: /connection/websocket is Centrifugo's protocol,
    /// /ws plain payloads, anything else just upgrades.
    #[arg(long, default_value = "ws://127.0.0.1:8000/connection/websocket")]
    url: String,
    /// Connections to open.
    #[arg(long, short = 'n', default_value_t = 1000)]
    pub(crate) connections: usize,
    /// Channel to subscribe to.
    #[arg(long, default_value = "bench")]
    channel: String,
    /// Connections opened per second; 0 is as fast as they go.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Processors for the threads, such as 1,4-7.
    #[arg(long, value_parser = parse_cpus, default_value = "")]
    cpus: Cpus,
    /// Threads; as many as the descriptor limit asks for unless given.
    #[arg(long)]
    threads: Option<usize>,
    /// Ask for events without sleeping, so that the server never pays for a wake.
    #[arg(long)]
    spin: bool,
    /// Server process, to report its memory and processor time.
    #[arg(long)]
    pid: Option<u32>,
    /// Report the server's threads whose names begin so beside the whole process.
    #[arg(long, requires = "pid")]
    thread_prefix: Option<String>,
    /// Longest handshake, and longest wait for one publication to reach everyone.
    #[arg(long, value_parser = parse_duration, default_value = "30s")]
    timeout: Duration,
    /// Reset connections at the end rather than close them.
    #[arg(long)]
    abort: bool,
    /// Print one JSON object rather than a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `connect`.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// How long to hold the connections.
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    pub(crate) hold: Duration,
}

/// Flags of `idle`.
#[derive(Debug, Args)]
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
#[derive(Debug, Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    /// Publications under way at once.
    #[arg(long, default_value_t = 1)]
    pub(crate) outstanding: u32,
    /// How long to publish.
    #[arg(long, default_value_t = 10, conflicts_with = "messages")]
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

/// How to publish.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// HTTP API to publish through.
    #[arg(long, default_value = "http://127.0.0.1:9000/api")]
    api: String,
    /// Key of the API.
    #[arg(long)]
    api_key: Option<String>,
    /// Publish by a frame on a WebSocket instead.
    #[arg(long, conflicts_with = "trigger")]
    publish_ws: bool,
    /// Publish by a byte to this address, for a server that sends canned frames. Every frame then
    /// counts as the next publication.
    #[arg(long)]
    trigger: Option<SocketAddr>,
    /// Payload of a publication.
    #[arg(long, default_value_t = 64)]
    pub(crate) bytes: usize,
}

/// Processors by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(Vec<usize>);

impl CommonArgs {
    /// The plan for `total` connections, with nobody publishing.
    pub(crate) fn plan(&self, total: usize) -> Result<Plan, Error> {
        Ok(Plan {
            target: Target::parse(&self.url, &self.channel)?,
            threads: self.plan_threads(total)?,
            cpus: self.cpus.0.clone(),
            rate: self.rate,
            timeout: self.timeout,
            receive_bytes: RECEIVE_BYTES_MIN,
            waiting: if self.spin { Waiting::Spin } else { Waiting::Sleep },
            frames: Frames::Marked,
            ending: if self.abort { Ending::Abort } else { Ending::Close },
            warmup: 0,
        })
    }

    fn plan_threads(&self, total: usize) -> Result<usize, Error> {
        let limit = sys::raise_descriptor_limit()
            .map_err(|error| Error::system("read the descriptor limit", error))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let per_thread = limit.saturating_sub(DESCRIPTORS_RESERVED).max(1);
        let threads = self.threads.unwrap_or(total.div_ceil(per_thread).max(1));
        if total == 0 || threads == 0 {
            return Err(Error::Usage("--connections and --threads must be above 0".to_owned()));
        }
        if total.div_ceil(threads) > per_thread {
            return Err(Error::Descriptors { connections: total, threads, per_thread });
        }
        Ok(threads)
    }

    /// The server's process, if it was named.
    pub(crate) fn watched(&self) -> Option<Watched> {
        let thread_prefix = self.thread_prefix.clone();
        self.pid.map(|pid| Watched { pid, thread_prefix })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl PublishArgs {
    /// The way in, with `plan` fitted to it.
    pub(crate) fn entrance(&self, plan: &mut Plan) -> Result<Entrance, Error> {
        if !(PAYLOAD_BYTES_MIN..=PUBLICATION_BYTES_MAX).contains(&self.bytes) {
            let text = format!("--bytes must be {PAYLOAD_BYTES_MIN} to {PUBLICATION_BYTES_MAX}");
            return Err(Error::Usage(text));
        }
        let needed = i32::try_from(self.bytes * 2).unwrap_or(i32::MAX);
        plan.receive_bytes = plan.receive_bytes.max(needed);
        let dialect = plan.target.dialect;
        if let Some(address) = self.trigger {
            if dialect == Dialect::Centrifugo {
                let text = "--trigger counts bare frames; choose a --url with another path";
                return Err(Error::Usage(text.to_owned()));
            }
            plan.frames = Frames::Canned;
            return Ok(Entrance::Trigger(address));
        }
        if self.publish_ws {
            if dialect == Dialect::Bare {
                let text = "--publish-ws is for /connection/websocket and /ws";
                return Err(Error::Usage(text.to_owned()));
            }
            return Ok(Entrance::Socket);
        }
        let endpoint = Endpoint::parse(&self.api)?;
        Ok(Entrance::Api { endpoint, key: self.api_key.clone() })
    }
}

impl FanoutArgs {
    /// Checks what single flags cannot.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(1..=OUTSTANDING_MAX).contains(&self.outstanding) {
            return Err(Error::Usage(format!("--outstanding must be 1 to {OUTSTANDING_MAX}")));
        }
        if self.messages == Some(0) || (self.messages.is_none() && self.seconds == 0) {
            return Err(Error::Usage("--messages and --seconds must be above 0".to_owned()));
        }
        Ok(())
    }
}

/// A number with its unit: 500ms, 5s, 2m. Without a unit it is seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a time such as 5s"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        unit => Err(format!("{unit:?} is not a unit of time; use ms, s or m")),
    }
}

/// A list of numbers and ranges: 1,4-7.
fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let number = text.parse::<usize>().ok().filter(|cpu| *cpu < libc::CPU_SETSIZE as usize);
            number.ok_or_else(|| format!("{text:?} is not a processor number"))
        };
        cpus.extend(number(first)?..=number(last)?);
    }
    Ok(Cpus(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        for (text, milliseconds) in [("500ms", 500), ("5s", 5000), ("5", 5000), ("2m", 120_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in ["", "s", "5h", "-1s", "1.5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors_are_lists_and_ranges() {
        for (text, cpus) in
            [("", vec![]), ("1", vec![1]), ("0,2-4", vec![0, 2, 3, 4]), ("3-1", vec![])]
        {
            assert_eq!(parse_cpus(text), Ok(Cpus(cpus)));
        }
        for text in ["x", "1-", "99999"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn threads_follow_the_descriptor_limit() {
        let Cli { scenario: Scenario::Connect(args) } = Cli::parse_from(["b", "connect"]) else {
            panic!("another scenario");
        };
        assert_eq!(args.common.plan(1).unwrap().threads, 1);
        let limit = usize::try_from(sys::raise_descriptor_limit().unwrap()).unwrap();
        let two = limit - DESCRIPTORS_RESERVED + 1;
        assert_eq!(args.common.plan(two).unwrap().threads, 2);
        let one = CommonArgs { threads: Some(1), ..args.common };
        assert!(matches!(one.plan(two), Err(Error::Descriptors { .. })));
        assert!(matches!(one.plan(0), Err(Error::Usage(_))));
    }
}
