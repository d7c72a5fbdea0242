//! Child processes: they die with the checker, receive signals by their process id, and are
//! inspected through `/proc`.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// Tells a checker that it already runs in a namespace. The programs that it starts do not have it.
pub(crate) const ENTERED: &str = "CORECAST_CHECKER_NETWORK";

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
}

impl Process {
    /// Starts `program`, with both outputs appended to the file `log`.
    ///
    /// # Errors
    /// If the log can't be written or the program can't be started.
    pub(crate) fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Process> {
        let open = || fs::OpenOptions::new().create(true).append(true).open(log);
        let log = || open().with_context(|| format!("can't write {}", log.display()));
        // `setpriv` replaces itself by the program, so the program has the child's process id.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            // The server refuses variables that it does not read.
            .env_remove(ENTERED)
            .stdin(Stdio::null())
            .stdout(log()?)
            .stderr(log()?)
            .kill_on_drop(true)
            .spawn()
            .context("can't start `setpriv`, which Debian has in util-linux")?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Process { child, pid: pid.context("the child ended at once")? })
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends a signal. Does nothing if the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process(self.pid, signal) {
            eprintln!("signal {signal:?} to {:?}: {error}", self.pid);
        }
    }

    /// Kills it with SIGKILL, and waits for its end.
    ///
    /// # Errors
    /// If a system call fails.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("can't kill a child")
    }

    /// Returns the exit status if it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten();
        status.map(|status| status.to_string())
    }

    /// Returns resident memory in KiB, the number of distinct sockets, and the size of the largest
    /// descriptor table, because threads may have their own tables.
    ///
    /// # Errors
    /// If `/proc` no longer contains it.
    pub(crate) fn usage(&self) -> Result<(u64, u64, u64)> {
        usage(self.pid())
    }
}

/// Does the same as [`Process::usage`] for a process id.
///
/// # Errors
/// If `/proc` does not contain it.
pub(crate) fn usage(pid: i32) -> Result<(u64, u64, u64)> {
    let root = format!("/proc/{pid}");
    let status = fs::read_to_string(format!("{root}/status")).context("a node is gone")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let (mut sockets, mut largest) = (HashSet::new(), 0);
    for task in fs::read_dir(format!("{root}/task"))?.flatten() {
        // A thread may end while its directory is read.
        let Ok(descriptors) = fs::read_dir(task.path().join("fd")) else { continue };
        let mut count = 0;
        for descriptor in descriptors.flatten() {
            count += 1;
            if let Ok(target) = fs::read_link(descriptor.path())
                && target.to_string_lossy().starts_with("socket:")
            {
                sockets.insert(target);
            }
        }
        largest = count.max(largest);
    }
    Ok((resident.context("no VmRSS")?, sockets.len() as u64, largest))
}
