//! Reads the state of this host from `/proc` and `/sys`, and probes features that can't be read.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::keys::Key;
use super::readings::{Kernel, Readings, Ring, SettingsAccess};
use crate::settings::{Driver, Server};
use crate::sys::{self, EventFd};

/// Kernel settings that findings need in addition to those of the table.
const MORE_SETTINGS: [&str; 2] = ["net.ipv4.tcp_ehash_entries", "net.ipv4.ip_local_port_range"];

/// Bit of CAP_SYS_ADMIN in a set of capabilities.
const CAP_SYS_ADMIN: u32 = 21;

/// Reads everything, and probes whether descriptor tables and rings can be created, as far as the
/// server is set up to use them.
pub fn read(server: &Server) -> Readings {
    let private_tables = server.private_fd_tables && sys::can_own_descriptors();
    let ring = if server.driver == Driver::Epoll { Ring::Untried } else { try_ring() };
    Readings { ring, ..read_without_probes(private_tables) }
}

/// Reads everything that needs no probe: about thirty small files, in about a millisecond.
pub fn read_without_probes(private_tables: bool) -> Readings {
    let status = text("/proc/self/status").unwrap_or_default();
    let meminfo = text("/proc/meminfo").unwrap_or_default();
    let overcommit = text("/proc/sys/vm/overcommit_memory");
    let counts_promises = overcommit.is_some_and(|mode| mode.trim() == "2");
    Readings {
        kernel: text("/proc/sys/kernel/osrelease").and_then(|release| parse_kernel(&release)),
        cores: sys::cores().len() as u64,
        descriptors_max: sys::descriptors_max() as u64,
        private_tables,
        ring: Ring::Untried,
        locked_max: text("/proc/self/limits").and_then(|limits| parse_locked(&limits)),
        seccomp: field(&status, "Seccomp:").map(|mode| mode != "0"),
        privileged: has_capability(&status, CAP_SYS_ADMIN) && is_first_user_namespace(),
        files_open: text("/proc/sys/fs/file-nr").and_then(|line| first_number(&line)),
        page_bytes: sys::page_bytes(),
        memory_available: kibibytes(&meminfo, "MemAvailable:"),
        cgroup_left: cgroup_left(),
        commit_left: counts_promises.then(|| commit_left(&meminfo)).flatten(),
        tracked: text("/proc/sys/net/netfilter/nf_conntrack_count")
            .and_then(|count| first_number(&count)),
        settings_access: settings_access(&status),
        settings: settings(),
    }
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn settings() -> BTreeMap<String, String> {
    let keys = Key::all(u64::MAX).into_iter().map(|key| key.name);
    let found = keys.chain(MORE_SETTINGS).filter_map(|name| {
        let value = text(Path::new("/proc/sys").join(name.replace('.', "/")))?;
        Some((name.to_owned(), value.trim().to_owned()))
    });
    found.collect()
}

/// Opens a setting for writing, without writing.
fn settings_access(status: &str) -> SettingsAccess {
    let is_root = field(status, "Uid:").and_then(|ids| ids.split_whitespace().nth(1)) == Some("0");
    match fs::OpenOptions::new().write(true).open("/proc/sys/fs/nr_open") {
        Ok(_) => SettingsAccess::Here,
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !is_root => {
            SettingsAccess::Root
        }
        Err(_) => SettingsAccess::OnHost,
    }
}

fn try_ring() -> Ring {
    match EventFd::new().and_then(sys::Ring::new) {
        Ok(_) => Ring::Works,
        Err(error) => Ring::Refused(error.to_string()),
    }
}

/// Parses `Max locked memory  8388608  8388608  bytes`: the soft limit, then the hard limit.
fn parse_locked(limits: &str) -> Option<u64> {
    first_number(field(limits, "Max locked memory")?)
}

/// Parses a version such as `6.12.3-amd64`.
fn parse_kernel(release: &str) -> Option<Kernel> {
    let mut numbers = release.trim().split(|letter: char| !letter.is_ascii_digit());
    Some(Kernel { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
}

fn first_number(line: &str) -> Option<u64> {
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the rest of the line that begins with `name`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn has_capability(status: &str, bit: u32) -> bool {
    let set = field(status, "CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    set.is_some_and(|set| set >> bit & 1 == 1)
}

/// Whether this is the initial user namespace, which maps all ids. In other namespaces root is not
/// exempt from the kernel's limits.
fn is_first_user_namespace() -> bool {
    let map = text("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Returns the bytes of a line such as `MemAvailable: 1234 kB`.
fn kibibytes(meminfo: &str, name: &str) -> Option<u64> {
    first_number(field(meminfo, name)?).map(|kib| kib.saturating_mul(1024))
}

fn commit_left(meminfo: &str) -> Option<u64> {
    let limit = kibibytes(meminfo, "CommitLimit:")?;
    Some(limit.saturating_sub(kibibytes(meminfo, "Committed_AS:")?))
}

/// Returns the bytes that the tightest control group of this process leaves free.
fn cgroup_left() -> Option<u64> {
    let groups = text("/proc/self/cgroup")?;
    groups.lines().filter_map(parse_cgroup).flat_map(CgroupFiles::upwards).filter_map(left).min()
}

/// A control group, and the names of its files for limit and usage.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CgroupFiles {
    top: &'static str,
    path: String,
    limit: &'static str,
    used: &'static str,
    /// The line in `memory.stat` for pages of files, which the kernel reclaims first.
    reclaimable: &'static str,
}

/// Parses a line of `/proc/self/cgroup` for memory: `0::/a/b` in version 2 of control groups,
/// `4:memory:/a/b` in version 1.
fn parse_cgroup(line: &str) -> Option<CgroupFiles> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = path.to_owned();
    if number == "0" {
        let (limit, used, reclaimable) = ("memory.max", "memory.current", "inactive_file");
        return Some(CgroupFiles { top: "/sys/fs/cgroup", path, limit, used, reclaimable });
    }
    controllers.split(',').any(|one| one == "memory").then_some(CgroupFiles {
        top: "/sys/fs/cgroup/memory",
        path,
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        reclaimable: "total_inactive_file",
    })
}

impl CgroupFiles {
    /// Returns the group and all its ancestors. A container may see its own group as the top.
    fn upwards(self) -> Vec<CgroupFiles> {
        let path = PathBuf::from(&self.path);
        let above = path.ancestors().map(|path| path.to_string_lossy().into_owned());
        above.map(|path| CgroupFiles { path, ..self.clone() }).collect()
    }

    fn read(&self, file: &str) -> Option<String> {
        let group = Path::new(self.top).join(self.path.trim_start_matches('/'));
        text(group.join(file))
    }
}

/// Returns the bytes that a group may still use. `None` if it has no limit.
#[expect(clippy::needless_pass_by_value, reason = "a step of an iterator over owned groups")]
fn left(group: CgroupFiles) -> Option<u64> {
    // Without a limit, the text is "max", or in version 1 a number above any machine's memory.
    let limit = first_number(&group.read(group.limit)?).filter(|&limit| limit < 1 << 60)?;
    let used = first_number(&group.read(group.used)?)?;
    let stat = group.read("memory.stat").unwrap_or_default();
    let prefix = format!("{} ", group.reclaimable);
    let reclaimable = field(&stat, &prefix).and_then(first_number).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn kernels_are_told_by_their_first_two_numbers() {
        let kernel = |release| parse_kernel(release).map(|kernel| (kernel.major, kernel.minor));
        assert_eq!(kernel("6.1.0-32-amd64\n"), Some((6, 1)));
        assert_eq!(kernel("6.18-rc1"), Some((6, 18)));
        assert_eq!(kernel("linux"), None);
    }

    #[test]
    fn lines_of_proc_are_read() {
        let meminfo = "MemTotal: 9 kB\nMemAvailable:   2048 kB\nCommitLimit: 8 kB\n\
                       Committed_AS: 3 kB\n";
        assert_eq!(kibibytes(meminfo, "MemAvailable:"), Some(2 << 20));
        assert_eq!(kibibytes(meminfo, "MemFree:"), None);
        assert_eq!(commit_left(meminfo), Some(5 << 10));
        let status = "CapPrm:\t0\nCapEff:\t0000000000200000\nSeccomp:\t2\n";
        assert!(has_capability(status, CAP_SYS_ADMIN) && !has_capability(status, 20));
        assert_eq!(field(status, "Seccomp:"), Some("2"));
        assert_eq!(parse_locked("Max locked memory      65536   65536   bytes\n"), Some(65_536));
        assert_eq!(parse_locked("Max locked memory      unlimited   unlimited   bytes\n"), None);
    }

    #[test]
    fn both_versions_of_control_groups_are_known() {
        let second = parse_cgroup("0::/system.slice/corecast.service").expect("version 2");
        let paths: Vec<String> = second.upwards().into_iter().map(|group| group.path).collect();
        assert_eq!(paths, ["/system.slice/corecast.service", "/system.slice", "/"]);
        let first = parse_cgroup("4:cpu,memory:/a").expect("version 1");
        assert_eq!((first.top, &*first.path), ("/sys/fs/cgroup/memory", "/a"));
        assert_eq!(parse_cgroup("4:cpuset:/a"), None);
    }

    #[test]
    fn this_host_can_be_read() {
        let server = Server { driver: Driver::Epoll, ..Settings::default().server };
        let readings = read(&server);
        assert!(readings.kernel.is_some() && readings.memory_available.is_some(), "{readings:?}");
        assert!(readings.descriptors_max > 0 && readings.cores > 0, "{readings:?}");
        assert!(readings.settings.contains_key("fs.nr_open"), "{readings:?}");
    }
}
