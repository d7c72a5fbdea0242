//! Features of the kernel, and permission to use them.

use super::finding::{Finding, Verdict};
use crate::doctor::keys::{Key, command};
use crate::doctor::readings::{Kernel, Readings, Ring, Wanted};

/// The first kernel with DEFER_TASKRUN, which the ring needs.
const RING_KERNEL: Kernel = Kernel { major: 6, minor: 1 };

/// The first kernel that does not count rings as locked memory. Source: io_uring_setup(2).
const RINGS_UNLOCKED_KERNEL: Kernel = Kernel { major: 5, minor: 12 };

/// Maximum number of buckets that the kernel chooses by itself for its hash of connections. Source:
/// Linux, `tcp_init`.
const HASH_BUCKETS_AUTOMATIC: u64 = 512 * 1024;

pub(super) fn version(readings: &Readings) -> Finding {
    let needed = format!("{}.{}", RING_KERNEL.major, RING_KERNEL.minor);
    let Some(kernel) = readings.kernel else {
        return Finding::unknown("kernel", needed, "/proc/sys/kernel/osrelease can't be read");
    };
    let found = format!("{}.{}", kernel.major, kernel.minor);
    Finding::new("kernel", found, needed).failing_if_not(
        kernel >= RING_KERNEL,
        Verdict::Note,
        "this kernel lacks io_uring features that Corecast needs; it uses epoll instead",
        "install a newer kernel",
    )
}

pub(super) fn ring(wanted: &Wanted, readings: &Readings) -> Finding {
    let error = match &readings.ring {
        Ring::Works => return Finding::new("io_uring", "works", "works"),
        Ring::Untried => return Finding::new("io_uring", "not checked", "none"),
        Ring::Refused(error) => error,
    };
    let verdict = if wanted.ring_required { Verdict::Stops } else { Verdict::Note };
    let why = if wanted.ring_required {
        "server.driver is \"io_uring\", so the server does not start without it"
    } else {
        "the server uses epoll instead, which needs more system calls"
    };
    let disabled = readings.number("kernel.io_uring_disabled").is_some_and(|level| level > 0);
    let fix = if disabled {
        command("kernel.io_uring_disabled", "0")
    } else if readings.seccomp == Some(true) {
        "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp \
         profile (docker run --security-opt seccomp=FILE)"
            .to_owned()
    } else {
        "install a kernel of 6.1 or newer with CONFIG_IO_URING".to_owned()
    };
    Finding::new("io_uring", format!("refused: {error}"), "works")
        .failing_if_not(false, verdict, why, fix)
}

/// Kernels that count rings as locked memory are too old for our ring, except with backported
/// features. The limit is shown for them.
pub(super) fn locked(readings: &Readings) -> Finding {
    let found = readings.locked_max.map_or("no limit".to_owned(), super::memory::size);
    let counted = readings.kernel.is_some_and(|kernel| kernel < RINGS_UNLOCKED_KERNEL);
    Finding::new("locked memory", found, if counted { "no limit" } else { "any" }).failing_if_not(
        !counted || readings.locked_max.is_none(),
        Verdict::Note,
        "kernels before 5.12 count rings as locked memory; without rings the server uses epoll",
        "LimitMEMLOCK=infinity in the unit's [Service], or ulimit -l unlimited",
    )
}

/// netfilter keeps an entry for each connection if any rule uses the state of connections.
pub(super) fn conntrack(wanted: &Wanted, readings: &Readings) -> Finding {
    const NAME: &str = "net.netfilter.nf_conntrack_max";
    let (Some(most), Some(tracked)) = (readings.number(NAME), readings.tracked) else {
        return Finding::new(NAME, "not in use", "none");
    };
    let needed = wanted.connections.saturating_add(tracked);
    let in_use = tracked > 0;
    let why = if in_use {
        "when the table is full, packets of new connections are dropped"
    } else {
        "no rule tracks connections yet; with such a rule, a full table drops packets"
    };
    let verdict = if in_use { Verdict::Stops } else { Verdict::Note };
    let key = Key::all(wanted.connections).into_iter().find(|key| key.name == NAME);
    let enough = key.filter(|key| key.value.first().is_some_and(|&value| value >= needed));
    let fix = enough.map_or_else(|| command(NAME, &needed.to_string()), |key| key.command());
    let fix = format!("{fix}, or a notrack rule for the port");
    Finding::new(NAME, most.to_string(), needed.to_string()).failing_if_not(
        most >= needed,
        verdict,
        why,
        fix,
    )
}

/// With more connections than buckets, the kernel searches a chain for each packet.
pub(super) fn hash(wanted: &Wanted, readings: &Readings) -> Finding {
    const NAME: &str = "net.ipv4.tcp_ehash_entries";
    let needed = wanted.connections.checked_next_power_of_two().unwrap_or(wanted.connections);
    // The value is negative if the namespace shares the hash of the host.
    let text = readings.settings.get(NAME).map(|text| text.trim().trim_start_matches('-'));
    let Some(found) = text.and_then(|text| text.parse::<u64>().ok()) else {
        return Finding::unknown(NAME, needed.to_string(), "only Linux 6.1 and newer show it");
    };
    let note = if needed > HASH_BUCKETS_AUTOMATIC {
        ""
    } else {
        " (the kernel chose less because memory is small)"
    };
    Finding::new(NAME, found.to_string(), needed.to_string()).failing_if_not(
        found >= wanted.connections,
        Verdict::Note,
        "with more connections than buckets, the kernel searches a chain for each packet",
        format!("boot with thash_entries={needed}{note}"),
    )
}
