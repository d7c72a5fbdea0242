//! The state of a host, and the wanted number of connections.

use std::collections::BTreeMap;

/// The wanted use of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of simultaneous connections.
    pub connections: u64,
    /// Number of threads that serve them.
    pub shards: u64,
    /// Limit of the node itself, `server.max_connections`.
    pub connections_max: u64,
    /// Whether the server refuses to start without io_uring.
    pub ring_required: bool,
}

/// Version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    /// First number of the version: 6 in 6.12.
    pub major: u32,
    /// Second number of the version: 12 in 6.12.
    pub minor: u32,
}

/// Whether a ring can be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ring {
    /// A ring was created.
    Works,
    /// The kernel refused, with this error.
    Refused(String),
    /// Not probed, because the caller already knows or wants no ring.
    Untried,
}

/// Who can change kernel settings from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsAccess {
    /// This process.
    Here,
    /// Root.
    Root,
    /// Nobody in this container, because `/proc/sys` is read-only.
    OnHost,
}

/// The state of a host. `None` means that a value could not be read, unless a field says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings {
    /// Version of the kernel.
    pub kernel: Option<Kernel>,
    /// Number of cores that this process may use.
    pub cores: u64,
    /// Maximum number of descriptors of one table: the hard limit, which the server uses.
    pub descriptors_max: u64,
    /// Whether each shard has its own descriptor table.
    pub private_tables: bool,
    /// Whether a ring can be created.
    pub ring: Ring,
    /// Bytes that this process may lock in memory. `None` if there is no limit.
    pub locked_max: Option<u64>,
    /// Whether a seccomp filter restricts the system calls of this process.
    pub seccomp: Option<bool>,
    /// Whether this process may exceed `fs.file-max` (CAP_SYS_ADMIN).
    pub privileged: bool,
    /// Number of open files on this machine.
    pub files_open: Option<u64>,
    /// Bytes of a page, in which the kernel counts TCP's memory.
    pub page_bytes: u64,
    /// Bytes that are available without swapping.
    pub memory_available: Option<u64>,
    /// Bytes that the control groups of this process leave free. `None` if there is no limit.
    pub cgroup_left: Option<u64>,
    /// Bytes that may still be committed. `None` if the kernel does not limit commitments.
    pub commit_left: Option<u64>,
    /// Number of connections that netfilter tracks. `None` if it tracks none.
    pub tracked: Option<u64>,
    /// Who can change kernel settings from here.
    pub settings_access: SettingsAccess,
    /// Kernel settings by name, with their text in `/proc/sys`.
    pub settings: BTreeMap<String, String>,
}

impl Readings {
    /// Returns a kernel setting that is one number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.settings.get(name)?.trim().parse().ok()
    }
}
