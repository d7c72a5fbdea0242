//! What a server costs, read from /proc by its process id.

use crate::sys;
use serde::Serialize;
use std::fs;
use std::io;

/// Where to look: a process, and the threads within it that are told apart.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) pid: u32,
    /// Start of the names of those threads (at most 15 characters are kept by the kernel).
    pub(crate) thread_prefix: Option<String>,
}

/// Totals at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// VmRSS.
    pub(crate) rss_bytes: u64,
    /// User and system time of the process since it began.
    pub(crate) cpu_seconds: f64,
    /// The same of the threads with the prefix alone, if there is one.
    pub(crate) thread_cpu_seconds: Option<f64>,
}

/// What was used between two samples.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    pub(crate) rss_bytes_before: u64,
    pub(crate) rss_bytes_after: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) thread_cpu_seconds: Option<f64>,
    /// Processor time by wall time: 1.0 is one processor fully used.
    pub(crate) cpu_share: f64,
}

impl Watched {
    /// Reads /proc. Fails if the process has ended.
    pub(crate) fn sample(&self) -> io::Result<Sample> {
        let root = format!("/proc/{}", self.pid);
        let status = fs::read_to_string(format!("{root}/status"))?;
        let stat = fs::read_to_string(format!("{root}/stat"))?;
        let mut sample = Sample {
            rss_bytes: rss_bytes(&status).unwrap_or(0),
            cpu_seconds: cpu_seconds(&stat, "").unwrap_or(0.0),
            thread_cpu_seconds: None,
        };
        let Some(prefix) = &self.thread_prefix else { return Ok(sample) };
        let mut seconds = 0.0;
        for task in fs::read_dir(format!("{root}/task"))? {
            // A thread may end between the listing and the reading.
            let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else { continue };
            seconds += cpu_seconds(&stat, prefix).unwrap_or(0.0);
        }
        sample.thread_cpu_seconds = Some(seconds);
        Ok(sample)
    }
}

impl Usage {
    /// What was used from `before` to `after`, `seconds` later.
    pub(crate) fn between(before: Sample, after: Sample, seconds: f64) -> Self {
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        Self {
            rss_bytes_before: before.rss_bytes,
            rss_bytes_after: after.rss_bytes,
            cpu_seconds,
            thread_cpu_seconds: before
                .thread_cpu_seconds
                .zip(after.thread_cpu_seconds)
                .map(|(before, after)| after - before),
            cpu_share: if seconds > 0.0 { cpu_seconds / seconds } else { 0.0 },
        }
    }
}

/// VmRSS of /proc/PID/status.
fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// User and system time of a stat line, if the name in it begins with `prefix`. Fields are counted
/// from the last parenthesis, for a name may hold spaces and parentheses.
fn cpu_seconds(stat: &str, prefix: &str) -> Option<f64> {
    let (head, fields) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    if !name.starts_with(prefix) {
        return None;
    }
    let mut times = fields.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some((user + system) as f64 / sys::ticks_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_after_any_name() {
        let stat = "7 (shard) 0 (x) S 1 7 7 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 1 0 5 0 0";
        let ticks = sys::ticks_per_second();
        assert_eq!(cpu_seconds(stat, "shard"), Some(200.0 / ticks));
        assert_eq!(cpu_seconds(stat, ""), Some(200.0 / ticks));
        assert_eq!(cpu_seconds(stat, "bridge"), None);
        assert_eq!(cpu_seconds("7 (x) S 1", ""), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t    2048 kB\nx"), Some(2 * 1024 * 1024));
        assert_eq!(rss_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_can_be_watched() {
        let watched = Watched { pid: std::process::id(), thread_prefix: Some(String::new()) };
        let sample = watched.sample().unwrap();
        assert!(sample.rss_bytes > 0);
        assert!(sample.thread_cpu_seconds.unwrap() <= sample.cpu_seconds + 0.1);
        let usage = Usage::between(sample, sample, 1.0);
        assert!(usage.cpu_share.abs() < f64::EPSILON);
    }
}
