//! Derives findings from the state of a host and the wanted number of connections.

mod finding;
mod kernel;
mod memory;

pub use finding::{Finding, Verdict};

use super::keys::{Key, command};
use super::readings::{Readings, SettingsAccess, Wanted};
use crate::ids::ShardId;
use crate::limits::DESCRIPTORS_RESERVED;

/// Returns all findings, in the order in which one would fix them: first the limits of the server
/// itself, then those of the host.
pub fn findings(wanted: &Wanted, readings: &Readings) -> Vec<Finding> {
    let mut findings = vec![
        connections_max(wanted),
        // Before the descriptor limit, which can't be raised beyond it.
        table_max(wanted, readings),
        descriptors(wanted, readings),
        files(wanted, readings),
        memory::available(wanted, readings),
        memory::cgroup(wanted, readings),
        memory::commit(wanted, readings),
        memory::tcp(wanted, readings),
        kernel::version(readings),
        kernel::ring(wanted, readings),
        kernel::locked(readings),
        kernel::conntrack(wanted, readings),
        kernel::hash(wanted, readings),
        cores(wanted, readings),
        ports(wanted, readings),
    ];
    for key in Key::all(wanted.connections) {
        if !findings.iter().any(|finding| finding.check == key.name) && !OWN.contains(&key.name) {
            findings.push(setting(&key, readings));
        }
    }
    for finding in &mut findings {
        if finding.fix.starts_with("sysctl ") {
            finding.fix.insert_str(0, before_sysctl(readings.settings_access));
        }
    }
    findings
}

/// The words that make a command work where it is shown.
fn before_sysctl(access: SettingsAccess) -> &'static str {
    match access {
        SettingsAccess::Here => "",
        SettingsAccess::Root => "sudo ",
        SettingsAccess::OnHost => "on the host of this container: ",
    }
}

/// Rows of the table that a finding with another name covers.
const OWN: [&str; 1] = ["kernel.io_uring_disabled"];

fn connections_max(wanted: &Wanted) -> Finding {
    let Wanted { connections, connections_max, .. } = *wanted;
    let (found, needed) = (connections_max.to_string(), connections.to_string());
    Finding::new("server.max_connections", found, needed).failing_if_not(
        connections_max >= connections,
        Verdict::Stops,
        "the server refuses further clients with status 503",
        format!("in the configuration: server.max_connections = {connections}"),
    )
}

/// Returns the number of descriptors that one table must hold.
fn descriptors_needed(wanted: &Wanted, readings: &Readings) -> u64 {
    let tables = if readings.private_tables { wanted.shards.max(1) } else { 1 };
    wanted.connections.div_ceil(tables).saturating_add(DESCRIPTORS_RESERVED as u64)
}

fn descriptors(wanted: &Wanted, readings: &Readings) -> Finding {
    let needed = descriptors_needed(wanted, readings);
    let found = readings.descriptors_max;
    let each = if readings.private_tables { "a shard" } else { "the process" };
    let mut fix =
        format!("ulimit -n {needed} (as root), or LimitNOFILE={needed} in the unit's [Service]");
    let per_shard = found.saturating_sub(DESCRIPTORS_RESERVED as u64);
    let shards = wanted.connections.div_ceil(per_shard.max(1));
    if readings.private_tables && per_shard > 0 && shards <= ShardId::COUNT_MAX as u64 {
        fix = format!("corecast serve --shards {shards}, or {fix}");
    }
    Finding::new("descriptor limit", format!("{found} for {each}"), needed.to_string())
        .failing_if_not(
            found >= needed,
            Verdict::Stops,
            "a full shard stops accepting; when all shards are full, no client can connect",
            fix,
        )
}

/// `fs.nr_open` is the maximum for the descriptor limit. It matters only if that must be raised.
fn table_max(wanted: &Wanted, readings: &Readings) -> Finding {
    let needed = descriptors_needed(wanted, readings);
    let Some(found) = readings.number("fs.nr_open") else {
        return Finding::unknown("fs.nr_open", needed.to_string(), "/proc/sys can't be read");
    };
    Finding::new("fs.nr_open", found.to_string(), needed.to_string()).failing_if_not(
        found >= needed || readings.descriptors_max >= needed,
        Verdict::Stops,
        "the descriptor limit can't be higher than this",
        command("fs.nr_open", &needed.to_string()),
    )
}

fn files(wanted: &Wanted, readings: &Readings) -> Finding {
    let reserved = wanted.shards.saturating_mul(DESCRIPTORS_RESERVED as u64);
    let needed = wanted.connections.saturating_add(reserved);
    let (Some(most), Some(open)) = (readings.number("fs.file-max"), readings.files_open) else {
        return Finding::unknown("fs.file-max", needed.to_string(), "/proc/sys can't be read");
    };
    let needed = needed.saturating_add(open);
    let finding =
        Finding::new("fs.file-max", most.to_string(), format!("{needed} ({open} are open)"));
    let verdict = if readings.privileged { Verdict::Note } else { Verdict::Stops };
    finding.failing_if_not(
        most >= needed,
        verdict,
        "accept fails with ENFILE, and other programs can't open files either, except as root",
        command("fs.file-max", &needed.to_string()),
    )
}

fn cores(wanted: &Wanted, readings: &Readings) -> Finding {
    let Readings { cores, .. } = *readings;
    let found = format!("{} on {cores} cores", wanted.shards);
    Finding::new("shards", found, format!("at most {cores}")).failing_if_not(
        wanted.shards <= cores,
        Verdict::Note,
        "more shards than cores raise the descriptor limit, but not the speed",
        format!("server.shards = {cores}, if the descriptor limit allows it"),
    )
}

/// The server itself needs one port. A proxy on this host needs a port for each connection.
fn ports(wanted: &Wanted, readings: &Readings) -> Finding {
    const NAME: &str = "net.ipv4.ip_local_port_range";
    let range = readings.settings.get(NAME).and_then(|text| {
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let Some((first, last)) = range else {
        return Finding::unknown(NAME, "none", "it matters only for a proxy on this host");
    };
    let ports = last.saturating_sub(first).saturating_add(1);
    let pairs = wanted.connections.div_ceil(ports.max(1));
    let needed = format!("none; {pairs} addresses for a proxy on this host");
    Finding::new(NAME, format!("{first} {last}"), needed)
}

/// Checks any other row of the table. Such a row is never fatal.
fn setting(key: &Key, readings: &Readings) -> Finding {
    let needed = match key.rule {
        super::Rule::Min => format!("at least {}", key.text()),
        super::Rule::Max => format!("at most {}", key.text()),
        super::Rule::Is => key.text(),
    };
    let Some(found) = readings.settings.get(key.name) else {
        let why = "not in this kernel or network namespace: check it on the host";
        return Finding::unknown(key.name, needed, why);
    };
    let found: Vec<&str> = found.split_whitespace().collect();
    let holds = key.holds(&found.join(" ")).unwrap_or(false);
    Finding::new(key.name, found.join(" "), needed).failing_if_not(
        holds,
        Verdict::Note,
        "see kernel-tuning/README.md",
        key.command(),
    )
}

#[cfg(test)]
mod tests;
