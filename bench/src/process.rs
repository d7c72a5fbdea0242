//! CPU time and memory of a server, read from /proc by process id.

use crate::sys;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// State of a listening socket in /proc/net/tcp.
const LISTENING: &str = "0A";

/// The processes to measure, and their threads that are reported separately.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) pids: Vec<u32>,
    /// Prefix of the names of these threads (the kernel keeps at most 15 characters).
    pub(crate) thread_prefix: Option<String>,
}

/// Totals at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// VmRSS. Memory that processes share is counted for each of them.
    pub(crate) rss_bytes: u64,
    /// CPU time since the processes started.
    cpu_seconds: f64,
    user_seconds: f64,
    system_seconds: f64,
    /// CPU time of threads with the prefix, if there is one.
    thread_cpu_seconds: Option<f64>,
}

/// CPU time and memory between two samples.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    pub(crate) rss_bytes_before: u64,
    pub(crate) rss_bytes_after: u64,
    pub(crate) cpu_seconds: f64,
    /// User and system time as the kernel estimates them, with the resolution of its ticks.
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    pub(crate) thread_cpu_seconds: Option<f64>,
    /// CPU time divided by wall time: 1.0 is one fully used processor.
    pub(crate) cpu_share: f64,
}

impl Watched {
    /// Reads /proc. Fails if a process has ended.
    pub(crate) fn sample(&self) -> io::Result<Sample> {
        let mut sum = Sample {
            thread_cpu_seconds: self.thread_prefix.as_ref().map(|_| 0.0),
            ..Sample::default()
        };
        for pid in &self.pids {
            let root = format!("/proc/{pid}");
            let status = fs::read_to_string(format!("{root}/status"))?;
            let stat = fs::read_to_string(format!("{root}/stat"))?;
            let (user, system) = times(&stat, "").unwrap_or_default();
            sum.rss_bytes += rss_bytes(&status).unwrap_or(0);
            sum.cpu_seconds += sys::process_cpu_ns(*pid)? as f64 / 1e9;
            sum.user_seconds += user;
            sum.system_seconds += system;
            let Some(prefix) = &self.thread_prefix else { continue };
            let threads = sum.thread_cpu_seconds.get_or_insert(0.0);
            let mut matched = false;
            for task in fs::read_dir(format!("{root}/task"))? {
                // A thread may end before its file is read.
                let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else { continue };
                let Some((user, system)) = times(&stat, prefix) else { continue };
                *threads += user + system;
                matched = true;
            }
            if !matched {
                let why = format!("it has no thread whose name begins with {prefix:?}");
                return Err(io::Error::new(io::ErrorKind::NotFound, why));
            }
        }
        Ok(sum)
    }
}

impl Usage {
    /// Returns the usage from `before` to `after`, which are `seconds` apart.
    pub(crate) fn between(before: Sample, after: Sample, seconds: f64) -> Self {
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        Self {
            rss_bytes_before: before.rss_bytes,
            rss_bytes_after: after.rss_bytes,
            cpu_seconds,
            user_seconds: after.user_seconds - before.user_seconds,
            system_seconds: after.system_seconds - before.system_seconds,
            thread_cpu_seconds: before
                .thread_cpu_seconds
                .zip(after.thread_cpu_seconds)
                .map(|(before, after)| after - before),
            cpu_share: if seconds > 0.0 { cpu_seconds / seconds } else { 0.0 },
        }
    }
}

/// Returns the processes of this host that listen on `port`. There are none if /proc does not show
/// them.
pub(crate) fn listening_on(port: u16) -> Vec<u32> {
    let mut sockets = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        sockets.extend(text.lines().filter_map(|line| listener(line, port)));
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids = pids.filter(|pid| holds(*pid, &sockets)).collect::<Vec<u32>>();
    pids.sort_unstable();
    pids
}

/// Returns the link of the socket in a line of /proc/net/tcp, if it listens on `port`.
fn listener(line: &str, port: u16) -> Option<String> {
    let fields = line.split_ascii_whitespace().collect::<Vec<_>>();
    let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
    let local = local.rsplit_once(':')?.1;
    let listens = state == LISTENING && u16::from_str_radix(local, 16) == Ok(port);
    listens.then(|| format!("socket:[{inode}]"))
}

/// Whether a process holds one of `sockets`, in the descriptor table of any thread.
fn holds(pid: u32, sockets: &BTreeSet<String>) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let tables = tasks.filter_map(|task| fs::read_dir(task.path().join("fd")).ok());
    let mut links = tables.flatten().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    links.any(|link: std::path::PathBuf| sockets.contains(&*Path::to_string_lossy(&link)))
}

/// Reads VmRSS from the content of /proc/PID/status.
fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Returns user and system time of a stat line in seconds, if the name in it begins with `prefix`.
/// Fields are counted from the last parenthesis, because a name may contain spaces and parentheses.
fn times(stat: &str, prefix: &str) -> Option<(f64, f64)> {
    let (head, fields) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    if !name.starts_with(prefix) {
        return None;
    }
    let mut times = fields.split_ascii_whitespace().skip(11);
    let mut next = || Some(times.next()?.parse::<u64>().ok()? as f64 / sys::ticks_per_second());
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_after_any_name() {
        let stat = "7 (shard) 0 (x) S 1 7 7 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 1 0 5 0 0";
        let ticks = sys::ticks_per_second();
        assert_eq!(times(stat, "shard"), Some((150.0 / ticks, 50.0 / ticks)));
        assert_eq!(times(stat, ""), Some((150.0 / ticks, 50.0 / ticks)));
        assert_eq!(times(stat, "bridge"), None);
        assert_eq!(times("7 (x) S 1", ""), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t    2048 kB\nx"), Some(2 * 1024 * 1024));
        assert_eq!(rss_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_can_be_watched_and_is_found_by_its_port() {
        let pid = std::process::id();
        let watched = Watched { pids: vec![pid], thread_prefix: Some(String::new()) };
        let sample = watched.sample().unwrap();
        assert!(sample.rss_bytes > 0);
        assert!(sample.thread_cpu_seconds.unwrap() <= sample.cpu_seconds + 0.1);
        let usage = Usage::between(sample, sample, 1.0);
        assert!(usage.cpu_share.abs() < f64::EPSILON);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listening_on(port), [pid]);
        // The client's port is in use, too, but has no listener.
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert!(listening_on(client.local_addr().unwrap().port()).is_empty());
    }
}
