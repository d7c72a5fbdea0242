//! Whether there is memory for the connections.

use super::finding::{Finding, Verdict};
use crate::doctor::keys::{Key, command};
use crate::doctor::readings::{Readings, Wanted};
use crate::limits::{CONNECTION_BYTES_MAX, CONNECTION_KERNEL_BYTES};

/// Bytes of a page, as the kernel counts TCP's memory on x86-64 and most of arm64.
const PAGE_BYTES: u64 = 4096;

/// Bytes that the connections take when nothing is sent, ours and the kernel's.
fn idle_bytes(wanted: &Wanted) -> u64 {
    wanted.connections.saturating_mul((CONNECTION_BYTES_MAX + CONNECTION_KERNEL_BYTES) as u64)
}

const FIX: &str = "more memory, or fewer connections on each node";

pub(super) fn available(wanted: &Wanted, readings: &Readings) -> Finding {
    let needed = idle_bytes(wanted);
    let Some(found) = readings.memory_available else {
        return Finding::unknown("memory", size(needed), "/proc/meminfo can't be read");
    };
    let why = "the kernel kills the process that has most";
    let finding = Finding::new("memory", size(found), size(needed));
    finding.failing_if_not(found >= needed, Verdict::Stops, why, FIX)
}

pub(super) fn cgroup(wanted: &Wanted, readings: &Readings) -> Finding {
    let needed = idle_bytes(wanted);
    let Some(left) = readings.cgroup_left else {
        return Finding::new("memory of the group", "no limit", size(needed));
    };
    let missing = size(needed.saturating_sub(left));
    Finding::new("memory of the group", format!("{} left", size(left)), size(needed))
        .failing_if_not(
            left >= needed,
            Verdict::Stops,
            "sockets count in the control group, and the kernel kills the server",
            format!("raise the group's limit (MemoryMax=, docker run --memory) by {missing}"),
        )
}

/// Where the kernel promises no more than it has, what is reserved counts.
pub(super) fn commit(wanted: &Wanted, readings: &Readings) -> Finding {
    const NAME: &str = "vm.overcommit_memory";
    let needed = wanted.connections.saturating_mul(CONNECTION_BYTES_MAX as u64);
    let Some(left) = readings.commit_left else {
        return Finding::new(NAME, "memory is not counted by promises", "any");
    };
    Finding::new(NAME, format!("2, {} left", size(left)), size(needed)).failing_if_not(
        left >= needed,
        Verdict::Stops,
        "the kernel promises no more than it has, and an allocation fails",
        command(NAME, "0"),
    )
}

/// Idle sockets take none of TCP's memory. Each with anything under way takes whole pages.
pub(super) fn tcp(wanted: &Wanted, readings: &Readings) -> Finding {
    const NAME: &str = "net.ipv4.tcp_mem";
    let pages = wanted.connections;
    let needed = format!("{pages} pages ({})", size(pages.saturating_mul(PAGE_BYTES)));
    let limits = readings.settings.get(NAME).map(|text| text.split_whitespace());
    let Some(most) = limits.and_then(Iterator::last).and_then(|most| most.parse::<u64>().ok())
    else {
        return Finding::unknown(NAME, needed, "only the host's network namespace shows it");
    };
    let key = Key::all(wanted.connections).into_iter().find(|key| key.name == NAME);
    let fallback = || {
        let (pressure, most) = (pages.saturating_mul(3) / 2, pages.saturating_mul(2));
        command(NAME, &format!("{pages} {pressure} {most}"))
    };
    let enough = key.filter(|key| key.value.last().is_some_and(|&value| value >= pages));
    Finding::new(NAME, format!("{most} pages ({})", size(most.saturating_mul(PAGE_BYTES))), needed)
        .failing_if_not(
            most >= pages,
            Verdict::Note,
            "one message under way to everybody is a page for each; beyond it sends find no room",
            enough.map_or_else(fallback, |key| key.command()),
        )
}

/// Bytes for people: 4.1G, in steps of 1024 as systemd and Docker read them.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(unit));
            return if tenths % 10 == 0 || tenths >= 1000 {
                format!("{}{name}", tenths.div_ceil(10))
            } else {
                format!("{}.{}{name}", tenths / 10, tenths % 10)
            };
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short_and_never_below_what_they_mean() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1K"),
            (4_352_000_000, "4.1G"),
            (100 << 20, "100M"),
            ((100 << 20) + 1, "101M"),
            (1 << 30, "1G"),
            (u64::MAX, "17179869184G"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
