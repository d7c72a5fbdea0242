//! What is known of a host, and what is wanted of it.

use std::collections::BTreeMap;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Connections, all of them at once.
    pub connections: u64,
    /// Threads that serve them.
    pub shards: u64,
    /// The node's own limit, `server.max_connections`.
    pub connections_max: u64,
    /// io_uring or no start.
    pub ring_required: bool,
}

/// A kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    /// 6 of 6.12.
    pub major: u32,
    /// 12 of 6.12.
    pub minor: u32,
}

/// Whether a ring can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ring {
    /// One was made.
    Works,
    /// The kernel's words.
    Refused(String),
    /// Nobody tried: whoever asks knows it already, or does not want one.
    Untried,
}

/// What is known of a host. `None` is what could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings {
    /// The kernel's version.
    pub kernel: Option<Kernel>,
    /// Cores that this process may run on.
    pub cores: u64,
    /// Descriptors of one table: the hard limit, which the server goes to.
    pub descriptors_max: u64,
    /// Whether each shard gets a table of its own.
    pub private_tables: bool,
    /// Whether a ring can be made.
    pub ring: Ring,
    /// Bytes that this process may lock in memory; none where there is no limit.
    pub locked_max: Option<u64>,
    /// Whether system calls of this process are filtered.
    pub seccomp: Option<bool>,
    /// Whether this process may have files beyond `fs.file-max` (CAP_SYS_ADMIN).
    pub privileged: bool,
    /// Files that are open on this machine.
    pub files_open: Option<u64>,
    /// Bytes that can be had without swapping.
    pub memory_available: Option<u64>,
    /// Bytes that the control groups of this process leave it; none where they set no limit.
    pub cgroup_left: Option<u64>,
    /// Bytes that may still be promised; none where promises are not counted.
    pub commit_left: Option<u64>,
    /// Connections that netfilter tracks; none where it does not.
    pub tracked: Option<u64>,
    /// Kernel settings by name, as `/proc/sys` shows them.
    pub settings: BTreeMap<String, String>,
}

impl Readings {
    /// A kernel setting that is one number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.settings.get(name)?.trim().parse().ok()
    }
}
