//! What the kernel can do and lets us do.

use super::finding::{Finding, Verdict};
use crate::doctor::keys::{Key, command};
use crate::doctor::readings::{Kernel, Readings, Ring, Wanted};

/// The first kernel with DEFER_TASKRUN, which the ring is made with.
const RING_KERNEL: Kernel = Kernel { major: 6, minor: 1 };

/// The first kernel that does not count rings as locked memory. Source: io_uring_setup(2).
const RINGS_UNLOCKED_KERNEL: Kernel = Kernel { major: 5, minor: 12 };

/// Buckets of the kernel's hash of connections that it makes by itself at most: Linux's
/// `tcp_init`, 512 * 1024.
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
        "older kernels have not the io_uring that Corecast uses: epoll serves",
        "install a newer kernel",
    )
}

pub(super) fn ring(wanted: &Wanted, readings: &Readings) -> Finding {
    let error = match &readings.ring {
        Ring::Works => return Finding::new("io_uring", "works", "works"),
        Ring::Untried => return Finding::new("io_uring", "not asked for", "none"),
        Ring::Refused(error) => error,
    };
    let verdict = if wanted.ring_required { Verdict::Stops } else { Verdict::Note };
    let why = if wanted.ring_required {
        "server.driver = \"io_uring\" does not start without it"
    } else {
        "epoll serves instead: the same, with more system calls"
    };
    let disabled = readings.number("kernel.io_uring_disabled").is_some_and(|level| level > 0);
    let fix = if disabled {
        command("kernel.io_uring_disabled", "0")
    } else if readings.seccomp == Some(true) {
        "docker run --security-opt seccomp=corecast.json: see kernel-tuning/README.md".to_owned()
    } else {
        "a kernel of 6.1 or newer, with CONFIG_IO_URING".to_owned()
    };
    Finding::new("io_uring", format!("refused: {error}"), "works")
        .failing_if_not(false, verdict, why, fix)
}

/// Kernels that count rings as locked memory are too old for ours, unless somebody has taken what
/// we use back to them: the limit is shown, so that nobody has to wonder.
pub(super) fn locked(readings: &Readings) -> Finding {
    let found = readings.locked_max.map_or("no limit".to_owned(), super::memory::size);
    let counted = readings.kernel.is_some_and(|kernel| kernel < RINGS_UNLOCKED_KERNEL);
    Finding::new("locked memory", found, if counted { "no limit" } else { "any" }).failing_if_not(
        !counted || readings.locked_max.is_none(),
        Verdict::Note,
        "kernels before 5.12 count rings in it; without them epoll serves",
        "LimitMEMLOCK=infinity in the unit's [Service], or ulimit -l unlimited",
    )
}

/// netfilter keeps an entry for each connection wherever a rule asks for the state of one.
pub(super) fn conntrack(wanted: &Wanted, readings: &Readings) -> Finding {
    const NAME: &str = "net.netfilter.nf_conntrack_max";
    let (Some(most), Some(tracked)) = (readings.number(NAME), readings.tracked) else {
        return Finding::new(NAME, "nothing is tracked", "none");
    };
    let needed = wanted.connections.saturating_add(tracked);
    let in_use = tracked > 0;
    let why = if in_use {
        "a full table drops packets of whoever is new"
    } else {
        "no rule tracks connections yet; once one does, a full table drops packets"
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

/// More connections than buckets make chains, and each packet walks one.
pub(super) fn hash(wanted: &Wanted, readings: &Readings) -> Finding {
    const NAME: &str = "net.ipv4.tcp_ehash_entries";
    let needed = wanted.connections.checked_next_power_of_two().unwrap_or(wanted.connections);
    // Negative where the namespace shares the host's.
    let text = readings.settings.get(NAME).map(|text| text.trim().trim_start_matches('-'));
    let Some(found) = text.and_then(|text| text.parse::<u64>().ok()) else {
        return Finding::unknown(NAME, needed.to_string(), "Linux shows it from 6.1 on");
    };
    let note = if needed > HASH_BUCKETS_AUTOMATIC { "" } else { " (small because memory is)" };
    Finding::new(NAME, found.to_string(), needed.to_string()).failing_if_not(
        found >= wanted.connections,
        Verdict::Note,
        "more connections than buckets: each packet walks a chain of several",
        format!("boot with thash_entries={needed}{note}"),
    )
}
