//! A Redis server or a Sentinel process, which is controlled by `redis-cli`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::process::Process;

/// Time in which a server must answer after its start.
const START_MAX: Duration = Duration::from_secs(15);

/// Timeout of one command.
const COMMAND_MAX: Duration = Duration::from_secs(10);

/// Whether a restarted server keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// It starts empty.
    None,
    /// It starts with the data of its append-only file, which is synced every second.
    Everysec,
}

/// Time in milliseconds for which a server of a Cluster, or a Sentinel's primary, may be silent
/// before it is replaced.
const DOWN_AFTER_MS: u32 = 1000;

/// The primary's name in the Sentinel.
pub(crate) const SENTINEL_NAME: &str = "checker";

/// One server: its address, and its process while it runs.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    /// The address for other servers of its Cluster, if it is in one.
    pub(crate) cluster: Option<SocketAddr>,
    directory: PathBuf,
    /// The first words of its command.
    prefix: Vec<String>,
    process: Option<Process>,
}

impl Redis {
    /// Creates a server that has not started. It keeps its files in `directory`.
    pub(crate) fn new(address: SocketAddr, directory: PathBuf) -> Redis {
        Redis { address, cluster: None, directory, prefix: Vec::new(), process: None }
    }

    /// Returns the same server for commands, while other code starts and kills it.
    pub(crate) fn seen_from_outside(&self) -> Redis {
        Redis { cluster: self.cluster, ..Redis::new(self.address, self.directory.clone()) }
    }

    /// Returns the same server with the clock of commands that begin with `prefix`.
    pub(crate) fn by_clock(self, prefix: &[String]) -> Redis {
        Redis { prefix: prefix.to_owned(), ..self }
    }

    /// Returns the same server as part of a Cluster, whose other servers reach it at `cluster`.
    pub(crate) fn in_cluster(self, cluster: SocketAddr) -> Redis {
        Redis { cluster: Some(cluster), ..self }
    }

    /// Starts it, as a replica if there is a `primary`, and waits until it answers.
    ///
    /// # Errors
    /// If it does not start or does not answer.
    pub(crate) async fn start(
        &mut self,
        persistence: Persistence,
        primary: Option<SocketAddr>,
    ) -> Result<()> {
        let logs = self.directory.join("appendonlydir");
        if persistence == Persistence::None && logs.exists() {
            std::fs::remove_dir_all(&logs).context("can't remove Redis' log")?;
        }
        let appendonly = if persistence == Persistence::None { "no" } else { "yes" };
        let mut line = format!(
            "--bind {} --port {} --appendonly {appendonly} --appendfsync everysec \
             --repl-diskless-sync-delay 0 --protected-mode no --replica-announce-ip {} --dir {} \
             --save",
            self.address.ip(),
            self.address.port(),
            self.address.ip(),
            self.directory.display(),
        );
        let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        arguments.push(String::new());
        if let Some(primary) = primary {
            line = format!("--replicaof {} {}", primary.ip(), primary.port());
            arguments.extend(line.split_whitespace().map(str::to_owned));
        }
        if let Some(cluster) = self.cluster {
            line = format!(
                "--cluster-enabled yes --cluster-config-file nodes.conf --cluster-port {} \
                 --cluster-node-timeout {DOWN_AFTER_MS} --cluster-replica-validity-factor 0 \
                 --cluster-announce-ip {}",
                cluster.port(),
                cluster.ip()
            );
            arguments.extend(line.split_whitespace().map(str::to_owned));
        }
        self.run(arguments).await
    }

    /// Starts it as a Sentinel that watches `primary`, and waits until it answers.
    ///
    /// # Errors
    /// If it does not start or does not answer.
    pub(crate) async fn start_sentinel(&mut self, primary: SocketAddr) -> Result<()> {
        std::fs::create_dir_all(&self.directory).context("can't make a Sentinel's directory")?;
        let (here, name) = (self.address, SENTINEL_NAME);
        let settings = format!(
            "port {}\nbind {}\ndir {}\nprotected-mode no\n\
             sentinel monitor {name} {} {} 1\n\
             sentinel down-after-milliseconds {name} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {name} 6000\n",
            here.port(),
            here.ip(),
            self.directory.display(),
            primary.ip(),
            primary.port(),
        );
        let file = self.directory.join("sentinel.conf");
        std::fs::write(&file, settings).context("can't write a Sentinel's settings")?;
        self.run(vec![file.display().to_string(), "--sentinel".to_owned()]).await
    }

    /// Starts the process, and waits until it answers.
    async fn run(&mut self, arguments: Vec<String>) -> Result<()> {
        std::fs::create_dir_all(&self.directory).context("can't make Redis' directory")?;
        let mut words = self.prefix.clone();
        words.push("redis-server".to_owned());
        words.extend(arguments);
        let log = self.directory.join("log");
        self.process = Some(Process::start(Path::new(&words[0]), &words[1..], &log)?);
        let began = Instant::now();
        while self.command(&["PING"]).await.ok().as_deref() != Some("PONG") {
            if let Some(status) = self.process.as_mut().and_then(Process::ended) {
                bail!("redis-server ended with {status}: see {}", log.display());
            }
            if began.elapsed() > START_MAX {
                bail!("redis-server at {} does not answer: see {}", self.address, log.display());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
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
        self.process.as_ref().with_context(|| format!("Redis at {} does not run", self.address))
    }

    /// Returns the output of `redis-cli` for a command.
    ///
    /// # Errors
    /// If it can't be run, or Redis refuses or does not answer.
    pub(crate) async fn command(&self, words: &[&str]) -> Result<String> {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let mut command = Command::new("redis-cli");
        command.args(["-e", "--raw", "-h", &ip, "-p", &port]).kill_on_drop(true);
        if self.cluster.is_some() {
            // The key may be on another server.
            command.arg("-c");
        }
        command.args(words);
        let output = timeout(COMMAND_MAX, command.output()).await;
        let output = output.with_context(|| format!("{words:?} took over {COMMAND_MAX:?}"))?;
        let output = output.context("can't start `redis-cli`")?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("{words:?}: {said}{error}");
        }
        Ok(said)
    }

    /// Waits until `INFO section` has the line `wanted`.
    ///
    /// # Errors
    /// If it takes too long.
    pub(crate) async fn until(&self, section: &str, wanted: &str) -> Result<()> {
        self.until_said(&["INFO", section], wanted).await
    }

    /// Waits until the answer to a command has the line `wanted`.
    ///
    /// # Errors
    /// If it takes too long.
    pub(crate) async fn until_said(&self, words: &[&str], wanted: &str) -> Result<()> {
        let began = Instant::now();
        // A server that changes its role may not answer for a moment.
        let said = || async { self.command(words).await.unwrap_or_default() };
        while !said().await.lines().any(|line| line.trim() == wanted) {
            if began.elapsed() > COMMAND_MAX {
                bail!("Redis at {} never said {wanted} to {words:?}", self.address);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until it knows `count` replicas of its Cluster.
    ///
    /// # Errors
    /// If it takes too long.
    pub(crate) async fn until_replicas_are_known(&self, count: usize) -> Result<()> {
        let began = Instant::now();
        loop {
            let nodes = self.command(&["CLUSTER", "NODES"]).await?;
            let replicas = nodes.lines().filter(|line| line.contains("slave")).count();
            if replicas == count {
                return Ok(());
            }
            if began.elapsed() > COMMAND_MAX {
                bail!("Redis at {} knows {replicas} of {count} replicas", self.address);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns the value of `field` in `INFO section`.
    ///
    /// # Errors
    /// As [`Redis::command`], and if there is no such line.
    pub(crate) async fn info(&self, section: &str, field: &str) -> Result<String> {
        let info = self.command(&["INFO", section]).await?;
        let mut lines = info.lines().filter_map(|line| line.trim().split_once(':'));
        let found = lines.find(|(name, _)| *name == field).map(|(_, value)| value.to_owned());
        found.with_context(|| format!("Redis at {} has no {field}", self.address))
    }

    /// Returns the keys that match `pattern`.
    ///
    /// # Errors
    /// As [`Redis::command`].
    pub(crate) async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        let keys = self.command(&["--scan", "--pattern", pattern]).await?;
        Ok(keys.lines().map(str::to_owned).filter(|key| !key.is_empty()).collect())
    }
}
