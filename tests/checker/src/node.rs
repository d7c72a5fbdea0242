//! A `corecast serve` process: its settings, its start and end, and its API.

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

/// Timeout of a request to the API.
const ASK_MAX: Duration = Duration::from_secs(10);

/// Allowed growth of resident memory besides histories, because allocators keep freed memory.
const RESIDENT_SLACK_KIB: u64 = 64 * 1024;

/// Allowed growth of sockets and descriptors: a connection to Redis may be renewed while the old
/// one ends, and the checker itself sends requests.
const DESCRIPTORS_SLACK: u64 = 8;

/// The namespace of every channel: all of them have a history, and all subscribers recover.
pub(crate) const NAMESPACE: &str = "check";

/// The namespace of channels with durable histories in Redis.
pub(crate) const DURABLE: &str = "kept";

/// The ingest stream, from which nodes take publications.
pub(crate) const INGEST: &str = "corecast:ingest";

/// How nodes drive their sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Drivers {
    /// Nodes alternate between both drivers.
    #[default]
    Mixed,
    /// All nodes use io_uring.
    #[value(name = "io_uring")]
    IoUring,
    /// All nodes use epoll.
    Epoll,
}

/// The settings of all nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) drivers: Drivers,
    /// Number of publications in a channel's history, and their lifetime.
    pub(crate) history_size: u32,
    pub(crate) history_ttl: Duration,
    /// Size limit of a stream of the bus, as in the settings.
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
    /// Address for clients.
    pub(crate) clients: SocketAddr,
    /// Address of the API.
    pub(crate) api: SocketAddr,
    program: PathBuf,
    directory: PathBuf,
    /// The first words of its command, if it runs at its own site.
    inside: Vec<String>,
    process: Option<Process>,
}

/// Resources that a node uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    resident_kib: u64,
    sockets: u64,
    descriptors: u64,
}

/// A history as returned by the API.
#[derive(Debug, Deserialize)]
pub(crate) struct ToldHistory {
    pub(crate) publications: Vec<ToldPublication>,
    pub(crate) offset: u32,
    pub(crate) epoch: String,
}

/// One publication of a history.
#[derive(Debug, Deserialize)]
pub(crate) struct ToldPublication {
    pub(crate) offset: u32,
    pub(crate) data: crate::wire::Payload,
}

impl Node {
    /// Creates a node that has not started. Its command begins with `inside`. It listens at these
    /// addresses for clients and for the API.
    pub(crate) fn new(
        number: u8,
        [clients, api]: [SocketAddr; 2],
        (program, directory): (&Path, PathBuf),
        inside: Vec<String>,
    ) -> Node {
        let program = program.to_owned();
        Node { number, clients, api, program, directory, inside, process: None }
    }

    /// Writes its settings, with the URL of Redis if there is one.
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
        // A small outbox, so that slow readers are closed and return.
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

    /// Starts it without waiting until it is ready.
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
    /// If a system call fails.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Returns its process, for signals.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn process(&self) -> Result<&Process> {
        self.process.as_ref().with_context(|| format!("node {} does not run", self.number))
    }

    /// Describes its end if it ended without being killed.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.process.as_mut().and_then(Process::ended)?;
        Some(format!("node {} ended by itself with {status}", self.number))
    }

    /// Returns the resources it uses.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn used(&self) -> Result<Used> {
        let (resident_kib, sockets, descriptors) = self.process()?.usage()?;
        Ok(Used { resident_kib, sockets, descriptors })
    }

    /// Reads a channel's whole history, oldest publication first.
    ///
    /// # Errors
    /// If the node does not return it.
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
    /// Returns the maximum of each resource.
    pub(crate) fn max(self, other: Used) -> Used {
        Used {
            resident_kib: self.resident_kib.max(other.resident_kib),
            sockets: self.sockets.max(other.sockets),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }

    /// Compares `after` with the usage of an idle node.
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
