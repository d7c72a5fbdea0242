//! A Redis server of our own, and `redis-cli` to speak to it.

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

/// One server: where it listens, and its process while it runs.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    directory: PathBuf,
    process: Option<Process>,
}

impl Redis {
    /// A server that is to be started. Its files are to be in `directory`.
    pub(crate) fn new(address: SocketAddr, directory: PathBuf) -> Redis {
        Redis { address, directory, process: None }
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
        std::fs::create_dir_all(&self.directory).context("can't make Redis' directory")?;
        let appendonly = if persistence == Persistence::None { "no" } else { "yes" };
        let mut line = format!(
            "--bind {} --port {} --appendonly {appendonly} --appendfsync everysec \
             --repl-diskless-sync-delay 0 --protected-mode no --dir {} --save",
            self.address.ip(),
            self.address.port(),
            self.directory.display(),
        );
        let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        arguments.push(String::new());
        if let Some(primary) = primary {
            line = format!("--replicaof {} {}", primary.ip(), primary.port());
            arguments.extend(line.split_whitespace().map(str::to_owned));
        }
        let log = self.directory.join("log");
        self.process = Some(Process::start(Path::new("redis-server"), &arguments, &log)?);
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
        command.args(["-e", "--raw", "-h", &ip, "-p", &port]).args(words).kill_on_drop(true);
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
        let began = Instant::now();
        while !self.command(&["INFO", section]).await?.lines().any(|line| line.trim() == wanted) {
            if began.elapsed() > COMMAND_MAX {
                bail!("Redis at {} never said {wanted}", self.address);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
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
