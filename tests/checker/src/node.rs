//! A `corecast serve` of our own: its settings, its process, and what its API tells.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::history::Usage;
use crate::http::{API_KEY, Failure, Http};
use crate::process::Process;

/// Time in which a node must be ready after its start.
pub(crate) const START_MAX: Duration = Duration::from_secs(15);

/// Time for a question to the API.
const ASK_MAX: Duration = Duration::from_secs(10);

/// What resident memory may have grown by beside histories: allocators keep what they had.
const RESIDENT_SLACK_KIB: u64 = 64 * 1024;

/// What sockets and descriptors may have grown by: a connection to Redis that is made anew while
/// the old one ends, and our own questions.
const DESCRIPTORS_SLACK: u64 = 8;

/// The namespace of every channel: all of them have a history, and all subscribers recover.
pub(crate) const NAMESPACE: &str = "check";

/// The namespace of channels whose history is in Redis besides.
pub(crate) const DURABLE: &str = "kept";

/// The stream from which nodes take publications in.
pub(crate) const INGEST: &str = "corecast:ingest";

/// How nodes drive their sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Drivers {
    /// Every other node one of them.
    #[default]
    Mixed,
    /// All of them so.
    #[value(name = "io_uring")]
    IoUring,
    /// All of them so.
    Epoll,
}

/// What all nodes are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) drivers: Drivers,
    /// Publications that a channel's history keeps, and for how long.
    pub(crate) history_size: u32,
    pub(crate) history_ttl: Duration,
    /// What a stream of the bus may hold, as settings say it.
    pub(crate) stream_bytes: &'static str,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            drivers: Drivers::Mixed,
            history_size: 20_000,
            history_ttl: Duration::from_secs(3600),
            stream_bytes: "16MiB",
        }
    }
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: u8,
    /// Where clients connect.
    pub(crate) clients: SocketAddr,
    /// Where the API listens.
    pub(crate) api: SocketAddr,
    program: PathBuf,
    directory: PathBuf,
    /// What its command begins with, if it runs at a site of its own.
    inside: Vec<String>,
    process: Option<Process>,
}

/// What a node uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    resident_kib: u64,
    sockets: u64,
    descriptors: u64,
}

/// A history as the API tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct ToldHistory {
    pub(crate) publications: Vec<ToldPublication>,
    pub(crate) offset: u32,
    pub(crate) epoch: String,
}

/// One publication of it.
#[derive(Debug, Deserialize)]
pub(crate) struct ToldPublication {
    pub(crate) offset: u32,
    pub(crate) data: crate::wire::Payload,
}

impl Node {
    /// A node that is to be started by a command that begins with `inside`, when its settings are
    /// written. It listens for clients and for the API.
    pub(crate) fn new(
        number: u8,
        [clients, api]: [SocketAddr; 2],
        (program, directory): (&Path, PathBuf),
        inside: Vec<String>,
    ) -> Node {
        let program = program.to_owned();
        Node { number, clients, api, program, directory, inside, process: None }
    }

    /// The same, with its settings written: it finds Redis by the URL, if there is one.
    ///
    /// # Errors
    /// If its directory can't be written.
    pub(crate) fn with_settings(self, settings: &Settings, redis: Option<&str>) -> Result<Node> {
        std::fs::create_dir_all(&self.directory).context("can't make a node's directory")?;
        let (clients, api) = (self.clients, self.api);
        let driver = match settings.drivers {
            Drivers::IoUring => "io_uring",
            Drivers::Mixed if self.number.is_multiple_of(2) => "io_uring",
            Drivers::Epoll | Drivers::Mixed => "epoll",
        };
        // A small outbox, so that slow readers are cut off and come back.
        let mut text = format!(
            "[server]\nlisten = \"{clients}\"\napi_listen = \"{api}\"\nshards = 2\n\
             driver = \"{driver}\"\n\
             [client]\noutbox_bytes_max = \"64KiB\"\nping_interval = \"5s\"\n\
             pong_timeout = \"4s\"\n\
             [auth]\nanonymous = true\n[api]\nkeys = [\"{API_KEY}\"]\n"
        );
        for name in [NAMESPACE, DURABLE] {
            text.push_str(&format!(
                "[[channel.namespaces]]\nname = \"{name}\"\nhistory_size = {}\n\
                 history_ttl = \"{}s\"\nforce_recovery = true\n\
                 allow_subscribe_for_client = true\nallow_subscribe_for_anonymous = true\n",
                settings.history_size,
                settings.history_ttl.as_secs(),
            ));
            if name == DURABLE && redis.is_some() {
                text.push_str("durable_history = true\n");
            }
        }
        if let Some(redis) = redis {
            let bytes = settings.stream_bytes;
            text.push_str(&format!(
                "[redis]\nurl = \"{redis}\"\ningest = [\"{INGEST}\"]\n\
                 stream_bytes_max = \"{bytes}\"\n"
            ));
        }
        std::fs::write(self.directory.join("corecast.toml"), text)
            .context("can't write a node's settings")?;
        Ok(self)
    }

    /// Starts it, without waiting until it is ready.
    ///
    /// # Errors
    /// If the program can't be started.
    pub(crate) fn start(&mut self) -> Result<()> {
        let settings = self.directory.join("corecast.toml").display().to_string();
        let mut words = self.inside.clone();
        words.push(self.program.display().to_string());
        words.extend(["serve".to_owned(), "--config".to_owned(), settings]);
        let log = self.directory.join("log");
        self.process = Some(Process::start(Path::new(&words[0]), &words[1..], &log)?);
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// If it ends, or is not ready within [`START_MAX`].
    pub(crate) async fn until_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        let mut http = Http::new(self.api);
        loop {
            let answer = http.get("/ready", Duration::from_secs(1)).await;
            if matches!(answer, Ok((200, _))) {
                return Ok(());
            }
            let log = self.directory.join("log");
            if let Some(status) = self.process.as_mut().and_then(Process::ended) {
                bail!("node {} ended with {status}: see {}", self.number, log.display());
            }
            if began.elapsed() > START_MAX {
                let said = match answer {
                    Ok((status, body)) => format!("{status} {}", String::from_utf8_lossy(&body)),
                    Err(Failure::Unsent(error) | Failure::Sent(error)) => error,
                };
                bail!("node {} is not ready within {START_MAX:?}: {}", self.number, said.trim());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills it.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Its process, to be signalled.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn process(&self) -> Result<&Process> {
        self.process.as_ref().with_context(|| format!("node {} does not run", self.number))
    }

    /// Whether it has ended though nobody killed it, and how.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.process.as_mut().and_then(Process::ended)?;
        Some(format!("node {} ended by itself with {status}", self.number))
    }

    /// What it uses.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn used(&self) -> Result<Used> {
        let (resident_kib, sockets, descriptors) = self.process()?.usage()?;
        Ok(Used { resident_kib, sockets, descriptors })
    }

    /// Reads a channel's whole history, oldest first.
    ///
    /// # Errors
    /// If the node does not tell it.
    pub(crate) async fn history(&self, channel: &str) -> Result<ToldHistory> {
        let mut http = Http::new(self.api);
        let body = format!("{{\"channel\":\"{channel}\",\"limit\":-1}}");
        let answer = http.post("/api/history", &body, ASK_MAX).await;
        let (_, body) = answer
            .map_err(|failure| anyhow::anyhow!("node {} history: {failure:?}", self.number))?;
        #[derive(Deserialize)]
        struct Reply {
            result: ToldHistory,
        }
        let reply: Reply = serde_json::from_slice(&body).with_context(|| {
            let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            format!("node {} on the history of {channel}: {text}", self.number)
        })?;
        Ok(reply.result)
    }
}

impl Used {
    /// The larger of each.
    pub(crate) fn max(self, other: Used) -> Used {
        Used {
            resident_kib: self.resident_kib.max(other.resident_kib),
            sockets: self.sockets.max(other.sockets),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }

    /// Whether `after` is near enough to what a rested node uses.
    pub(crate) fn compare(self, node: u8, after: Used, history_kib: u64) -> Vec<Usage> {
        let row = |what: &str, before: u64, after: u64, slack: u64| Usage {
            what: format!("{what} of node {node}"),
            before,
            after,
            limit: before + slack,
        };
        let resident = RESIDENT_SLACK_KIB + history_kib;
        vec![
            row("resident KiB", self.resident_kib, after.resident_kib, resident),
            row("sockets", self.sockets, after.sockets, DESCRIPTORS_SLACK),
            row("descriptors", self.descriptors, after.descriptors, DESCRIPTORS_SLACK),
        ]
    }
}
