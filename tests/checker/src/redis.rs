//! A Redis server or a Sentinel of our own, and `redis-cli` to speak to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::process::Process;

/// Time in which a server must answer after its start.
const START_MAX: Duration = Duration::from_secs(15);

/// Time for one command.
const COMMAND_MAX: Duration = Duration::from_secs(10);

/// Whether a server that is started again may still have what it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// It begins empty.
    None,
    /// It has what its log of the last seconds says.
    Everysec,
}

/// How long a server of a Cluster, or the one that a Sentinel watches, may be silent before it is
/// replaced, in milliseconds.
const DOWN_AFTER_MS: u32 = 1000;

/// The name under which Sentinels know the primary.
pub(crate) const SENTINEL_NAME: &str = "checker";

/// One server: where it listens, and its process while it runs.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    /// Where it speaks to the others of its Cluster, if it is in one.
    pub(crate) cluster: Option<SocketAddr>,
    directory: PathBuf,
    /// What its command begins with.
    prefix: Vec<String>,
    process: Option<Process>,
}

impl Redis {
    /// A server that is to be started. Its files are to be in `directory`.
    pub(crate) fn new(address: SocketAddr, directory: PathBuf) -> Redis {
        Redis { address, cluster: None, directory, prefix: Vec::new(), process: None }
    }

    /// The same server, to be asked things while others start and kill it.
    pub(crate) fn seen_from_outside(&self) -> Redis {
        Redis { cluster: self.cluster, ..Redis::new(self.address, self.directory.clone()) }
    }

    /// The same, by the clock of those whose command begins with `prefix`.
    pub(crate) fn by_clock(self, prefix: &[String]) -> Redis {
        Redis { prefix: prefix.to_owned(), ..self }
    }

    /// The same, as one of a Cluster, whose others reach it at `cluster`.
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
        self.process.as_ref().with_context(|| format!("Redis at {} does not run", self.address))
    }

    /// What `redis-cli` prints for a command.
    ///
    /// # Errors
    /// If it can't be run, or Redis refuses or does not answer.
    pub(crate) async fn command(&self, words: &[&str]) -> Result<String> {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let mut command = Command::new("redis-cli");
        command.args(["-e", "--raw", "-h", &ip, "-p", &port]).kill_on_drop(true);
        if self.cluster.is_some() {
            // A key may be another one's.
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
        // One that is about to change what it is may not answer for a moment.
        let said = || async { self.command(words).await.unwrap_or_default() };
        while !said().await.lines().any(|line| line.trim() == wanted) {
            if began.elapsed() > COMMAND_MAX {
                bail!("Redis at {} never said {wanted} to {words:?}", self.address);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until it knows so many replicas of its Cluster.
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

    /// What a line of `INFO section` says about `field`.
    ///
    /// # Errors
    /// As [`Redis::command`], and if there is no such line.
    pub(crate) async fn info(&self, section: &str, field: &str) -> Result<String> {
        let info = self.command(&["INFO", section]).await?;
        let mut lines = info.lines().filter_map(|line| line.trim().split_once(':'));
        let found = lines.find(|(name, _)| *name == field).map(|(_, value)| value.to_owned());
        found.with_context(|| format!("Redis at {} has no {field}", self.address))
    }

    /// The keys that match `pattern`.
    ///
    /// # Errors
    /// As [`Redis::command`].
    pub(crate) async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        let keys = self.command(&["--scan", "--pattern", pattern]).await?;
        Ok(keys.lines().map(str::to_owned).filter(|key| !key.is_empty()).collect())
    }
}
