//! Resource usage of the process, from the kernel.

use std::fs;

/// Ticks per second of times in `/proc`. The value is part of the kernel's interface.
const USER_HZ: f64 = 100.0;

/// Resource usage of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Bytes of resident memory.
    pub resident_bytes: u64,
    /// CPU time of all threads in user and kernel mode, in seconds.
    pub cpu_seconds: f64,
}

impl Process {
    /// Reads `/proc/self`. Values that can't be read are 0, for example without a mounted `/proc`.
    pub fn read() -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Process {
            resident_bytes: parse_resident(&status).unwrap_or_default(),
            cpu_seconds: parse_cpu(&stat).unwrap_or_default(),
        }
    }
}

/// Parses the line `VmRSS: 1234 kB`.
fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Sums fields 14 and 15. Field 2 is a name in parentheses and may contain spaces.
fn parse_cpu(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(parse_cpu(stat), Some(2.0));
        assert_eq!(parse_cpu(""), None);
        assert!(Process::read().resident_bytes > 0);
    }
}
