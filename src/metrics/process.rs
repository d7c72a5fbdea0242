//! Resource usage of the process, from the kernel.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::limits::DESCRIPTORS_COUNTED_MAX;

/// Ticks per second of times in `/proc`. The value is part of the kernel's interface.
const USER_HZ: f64 = 100.0;

/// Resource usage of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Bytes of resident memory.
    pub resident_bytes: u64,
    /// Bytes of virtual memory.
    pub virtual_bytes: u64,
    /// Number of threads.
    pub threads: u64,
    /// CPU time of all threads in user and kernel mode, in seconds.
    pub cpu_seconds: f64,
    /// When the process started, in seconds since 1970.
    pub start_seconds: f64,
}

impl Process {
    /// Reads `/proc/self`. Values that can't be read are 0, for example without a mounted `/proc`.
    pub fn read() -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let bytes = |name| status_value(&status, name).unwrap_or_default() * 1024;
        Process {
            resident_bytes: bytes("VmRSS:"),
            virtual_bytes: bytes("VmSize:"),
            threads: status_value(&status, "Threads:").unwrap_or_default(),
            cpu_seconds: parse_cpu(&stat).unwrap_or_default(),
            start_seconds: parse_start(&stat).unwrap_or_default(),
        }
    }
}

/// Parses the number in a line such as `VmRSS: 1234 kB`, without its unit.
fn status_value(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim_end().parse().ok()
}

/// Returns the fields of `/proc/self/stat` from the third one on. The second one is a name in
/// parentheses and may contain spaces.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    stat.rsplit_once(')').map(|(_, after_name)| after_name.split_ascii_whitespace())
}

/// Sums fields 14 and 15.
fn parse_cpu(stat: &str) -> Option<f64> {
    let mut fields = fields(stat)?.skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / USER_HZ)
}

/// Adds field 22, the ticks from the start of the host, to the time of that start.
fn parse_start(stat: &str) -> Option<f64> {
    let ticks: u64 = fields(stat)?.nth(19)?.parse().ok()?;
    let host = fs::read_to_string("/proc/stat").ok()?;
    let booted: u64 = host.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(booted as f64 + ticks as f64 / USER_HZ)
}

/// The descriptor tables of the process, and their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Number of shards that have a table of their own. All other threads share one.
    pub private_tables: usize,
    /// Number of descriptors that one table may hold.
    pub table_max: usize,
}

impl Default for Descriptors {
    /// One table without a known limit.
    fn default() -> Descriptors {
        Descriptors { private_tables: 0, table_max: 0 }
    }
}

impl Descriptors {
    /// Returns the number of descriptors that all tables together may hold.
    pub fn total_max(self) -> usize {
        self.table_max.saturating_mul(1 + self.private_tables)
    }

    /// Returns the number of open descriptors in all tables. A descriptor counts once for each
    /// table that has it.
    pub fn open(self) -> u64 {
        let shared = open_in("/proc/self/fd");
        if self.private_tables == 0 {
            return shared;
        }
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let own = tasks.map(|task| task.path()).filter(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("shard-"))
        });
        shared + own.map(|task| open_in(&task.join("fd").to_string_lossy())).sum::<u64>()
    }
}

/// Counts the descriptors of one table. Since Linux 6.2 the size of the directory is their number.
/// Older kernels have to list them, so the count ends at [`DESCRIPTORS_COUNTED_MAX`].
fn open_in(directory: &str) -> u64 {
    match fs::metadata(directory) {
        Ok(metadata) if metadata.size() > 0 => metadata.size(),
        _ => {
            let listed = fs::read_dir(directory).into_iter().flatten();
            listed.take(DESCRIPTORS_COUNTED_MAX).count() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let status = "Name:\tx\nVmSize:\t    4096 kB\nVmRSS:\t    2048 kB\nThreads:\t7\n";
        assert_eq!(status_value(status, "VmRSS:"), Some(2048));
        assert_eq!(status_value(status, "VmSize:"), Some(4096));
        assert_eq!(status_value(status, "Threads:"), Some(7));
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 1 0 500 0 0";
        assert_eq!(parse_cpu(stat), Some(2.0));
        assert_eq!(parse_cpu(""), None);
        assert!(parse_start(stat).expect("the host has started") > 5.0);
    }

    #[test]
    fn describes_this_process() {
        let process = Process::read();
        assert!(process.resident_bytes > 0 && process.virtual_bytes > process.resident_bytes);
        assert!(process.threads >= 1);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
        let age = now - process.start_seconds;
        assert!((-2.0..3600.0).contains(&age), "this test started {age} s ago");
        let descriptors = Descriptors { private_tables: 0, table_max: 1024 };
        let before = descriptors.open();
        let files: Vec<_> = (0..10).map(|_| fs::File::open("/dev/null")).collect();
        assert!(descriptors.open() >= before.min(3) + 10);
        drop(files);
        assert_eq!(Descriptors { private_tables: 3, table_max: 1024 }.total_max(), 4096);
    }
}
