//! Checks whether there is enough memory for the connections.

use super::finding::{Finding, Verdict};
use crate::doctor::keys::{Key, command};
use crate::doctor::readings::{Readings, Wanted};
use crate::limits::{CONNECTION_BYTES_MAX, CONNECTION_KERNEL_BYTES};

/// Returns the bytes that idle connections need, in the server and in the kernel.
fn idle_bytes(wanted: &Wanted) -> u64 {
    wanted.connections.saturating_mul((CONNECTION_BYTES_MAX + CONNECTION_KERNEL_BYTES) as u64)
}

const FIX: &str = "add memory, or use more nodes with fewer connections each";

pub(super) fn available(wanted: &Wanted, readings: &Readings) -> Finding {
    let needed = idle_bytes(wanted);
    let Some(found) = readings.memory_available else {
        return Finding::unknown("memory", size(needed), "/proc/meminfo can't be read");
    };
    let why = "if memory runs out, the kernel kills the largest process";
    let finding = Finding::new("memory", size(found), size(needed));
    finding.failing_if_not(found >= needed, Verdict::Stops, why, FIX)
}

pub(super) fn cgroup(wanted: &Wanted, readings: &Readings) -> Finding {
    let needed = idle_bytes(wanted);
    let Some(left) = readings.cgroup_left else {
        return Finding::new("control group memory", "no limit", size(needed));
    };
    let missing = size(needed.saturating_sub(left));
    Finding::new("control group memory", format!("{} left", size(left)), size(needed))
        .failing_if_not(
            left >= needed,
            Verdict::Stops,
            "sockets count towards the group's memory; at its limit, the kernel kills the server",
            format!("raise the group's limit (MemoryMax=, docker run --memory) by {missing}"),
        )
}

/// With `vm.overcommit_memory` = 2, reserved memory counts even if it is unused.
pub(super) fn commit(wanted: &Wanted, readings: &Readings) -> Finding {
    const NAME: &str = "vm.overcommit_memory";
    let needed = wanted.connections.saturating_mul(CONNECTION_BYTES_MAX as u64);
    let Some(left) = readings.commit_left else {
        return Finding::new(NAME, "not 2: there is no commit limit", "any");
    };
    Finding::new(NAME, format!("2, {} left", size(left)), size(needed)).failing_if_not(
        left >= needed,
        Verdict::Stops,
        "allocations fail at the commit limit, even if memory is free",
        command(NAME, "0"),
    )
}

/// Idle sockets use none of TCP's memory. A socket with data in transit uses whole pages.
pub(super) fn tcp(wanted: &Wanted, readings: &Readings) -> Finding {
    const NAME: &str = "net.ipv4.tcp_mem";
    let pages = wanted.connections;
    let counted =
        |pages: u64| format!("{pages} pages ({})", size(pages.saturating_mul(readings.page_bytes)));
    let needed = counted(pages);
    let limits = readings.settings.get(NAME).map(|text| text.split_whitespace());
    let Some(most) = limits.and_then(Iterator::last).and_then(|most| most.parse::<u64>().ok())
    else {
        return Finding::unknown(NAME, needed, "only visible in the network namespace of the host");
    };
    let key = Key::all(wanted.connections).into_iter().find(|key| key.name == NAME);
    let fallback = || {
        let (pressure, most) = (pages.saturating_mul(3) / 2, pages.saturating_mul(2));
        command(NAME, &format!("{pages} {pressure} {most}"))
    };
    let enough = key.filter(|key| key.value.last().is_some_and(|&value| value >= pages));
    Finding::new(NAME, counted(most), needed).failing_if_not(
        most >= pages,
        Verdict::Note,
        "a message to all clients needs a page per client; at this limit, sends are delayed",
        enough.map_or_else(fallback, |key| key.command()),
    )
}

/// Formats bytes as in 4.1G. Units are powers of 1024, as in systemd and Docker.
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
