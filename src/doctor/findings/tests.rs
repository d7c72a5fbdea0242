//! Findings from made-up hosts.

use super::*;
use crate::doctor::{Kernel, Ring, SettingsAccess};

/// Returns a host that can hold a million connections on 16 shards as it is.
fn host() -> Readings {
    let settings = Key::all(1_000_000).into_iter().map(|key| (key.name.to_owned(), key.text()));
    let more = [("net.ipv4.tcp_ehash_entries", "1048576"), ("net.ipv4.ip_local_port_range", "1 5")];
    let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Readings {
        kernel: Some(Kernel { major: 6, minor: 12 }),
        cores: 16,
        descriptors_max: 65_536,
        private_tables: true,
        ring: Ring::Works,
        locked_max: Some(65_536),
        seccomp: Some(false),
        privileged: false,
        files_open: Some(2_000),
        page_bytes: 4096,
        memory_available: Some(16 << 30),
        cgroup_left: None,
        commit_left: None,
        tracked: None,
        settings_access: SettingsAccess::Here,
        settings: settings.chain(more).collect(),
    }
}

fn wanted() -> Wanted {
    Wanted { connections: 1_000_000, shards: 16, connections_max: 1_000_000, ring_required: false }
}

fn set(readings: &mut Readings, name: &str, value: &str) {
    readings.settings.insert(name.to_owned(), value.to_owned());
}

/// Returns the findings that are not fine, as `check verdict`.
fn wrong(wanted: &Wanted, readings: &Readings) -> Vec<(String, Verdict)> {
    let all = findings(wanted, readings).into_iter();
    all.filter(|one| one.verdict != Verdict::Fine).map(|one| (one.check, one.verdict)).collect()
}

/// Returns the finding named `check` after `change` of a host without problems.
fn after(check: &str, change: impl FnOnce(&mut Readings, &mut Wanted)) -> Finding {
    let (mut readings, mut wanted) = (host(), wanted());
    change(&mut readings, &mut wanted);
    let mut all = findings(&wanted, &readings);
    let at = all.iter().position(|one| one.check == check).expect("the check exists");
    all.swap_remove(at)
}

#[test]
fn a_command_works_where_it_is_shown() {
    for (access, start) in [
        (SettingsAccess::Here, "sysctl -w"),
        (SettingsAccess::Root, "sudo sysctl -w"),
        (SettingsAccess::OnHost, "on the host of this container: sysctl -w"),
    ] {
        let low = after("net.core.somaxconn", |readings, _| {
            readings.settings_access = access;
            set(readings, "net.core.somaxconn", "128");
        });
        assert!(low.fix.starts_with(start), "{}", low.fix);
    }
    // A server has at most 4096 shards, so more can't be the fix.
    let few = after("descriptor limit", |readings, _| readings.descriptors_max = 270);
    assert!(few.fix.starts_with("ulimit"), "{}", few.fix);
}

#[test]
fn a_tuned_host_has_nothing_to_mend() {
    assert_eq!(wrong(&wanted(), &host()), []);
    for finding in findings(&wanted(), &host()) {
        assert!(finding.fix.is_empty() && finding.why.is_empty(), "{finding:?}");
    }
}

#[test]
fn each_limit_below_the_need_stops_and_one_at_the_need_does_not() {
    type Change = fn(&mut Readings, &mut Wanted, u64);
    let table: [(&str, u64, Change); 7] = [
        ("server.max_connections", 1_000_000, |_, wanted, value| wanted.connections_max = value),
        ("descriptor limit", 62_756, |readings, _, value| readings.descriptors_max = value),
        ("fs.file-max", 1_006_096, |readings, _, value| {
            set(readings, "fs.file-max", &value.to_string());
        }),
        ("memory", 4_352_000_000, |readings, _, value| readings.memory_available = Some(value)),
        ("control group memory", 4_352_000_000, |readings, _, value| {
            readings.cgroup_left = Some(value);
        }),
        ("vm.overcommit_memory", 256_000_000, |readings, _, value| {
            readings.commit_left = Some(value);
        }),
        ("net.netfilter.nf_conntrack_max", 1_000_001, |readings, _, value| {
            readings.tracked = Some(1);
            set(readings, "net.netfilter.nf_conntrack_max", &value.to_string());
        }),
    ];
    for (check, enough, change) in table {
        let at = |value| after(check, |readings, wanted| change(readings, wanted, value));
        assert_eq!(at(enough).verdict, Verdict::Fine, "{check}");
        let finding = at(enough - 1);
        assert_eq!(finding.verdict, Verdict::Stops, "{check}");
        assert!(!finding.fix.is_empty() && !finding.why.is_empty(), "{finding:?}");
    }
}

#[test]
fn the_descriptor_limit_counts_for_each_shard_with_a_table_of_its_own() {
    let private = after("descriptor limit", |readings, wanted| {
        (readings.descriptors_max, wanted.shards) = (20_000, 2);
    });
    assert_eq!((&*private.found, &*private.needed), ("20000 for a shard", "500256"));
    assert!(private.fix.starts_with("corecast serve --shards 51, or ulimit -n 500256"));
    let shared = after("descriptor limit", |readings, _| readings.private_tables = false);
    assert_eq!((&*shared.found, &*shared.needed), ("65536 for the process", "1000256"));
    assert!(!shared.fix.contains("--shards"), "{}", shared.fix);
}

#[test]
fn the_limit_on_limits_matters_only_where_a_limit_must_be_raised() {
    let low = |descriptors_max| {
        after("fs.nr_open", move |readings, _| {
            set(readings, "fs.nr_open", "1024");
            readings.descriptors_max = descriptors_max;
        })
    };
    assert_eq!(low(65_536).verdict, Verdict::Fine);
    assert_eq!(low(1_024).verdict, Verdict::Stops);
    assert_eq!(low(1_024).fix, "sysctl -w fs.nr_open=62756");
}

#[test]
fn root_passes_the_limit_on_files_but_others_do_not() {
    let finding = after("fs.file-max", |readings, _| {
        set(readings, "fs.file-max", "5000");
        readings.privileged = true;
    });
    assert_eq!(finding.verdict, Verdict::Note);
    assert_eq!(finding.fix, "sysctl -w fs.file-max=1006096");
}

#[test]
fn a_refused_ring_stops_only_who_insists_on_it_and_its_cause_is_named() {
    let refused = |seccomp, disabled, required| {
        after("io_uring", move |readings, wanted| {
            readings.ring = Ring::Refused("io_uring_setup: not permitted".to_owned());
            readings.seccomp = Some(seccomp);
            set(readings, "kernel.io_uring_disabled", disabled);
            wanted.ring_required = required;
        })
    };
    assert_eq!(refused(false, "2", true).verdict, Verdict::Stops);
    let finding = refused(true, "2", false);
    assert_eq!(finding.verdict, Verdict::Note);
    assert_eq!(finding.fix, "sysctl -w kernel.io_uring_disabled=0");
    assert!(refused(true, "0", false).fix.contains("seccomp"));
    assert!(refused(false, "0", false).fix.contains("kernel of 6.1"));
    let untried = after("io_uring", |readings, _| readings.ring = Ring::Untried);
    assert_eq!(untried.verdict, Verdict::Fine);
}

#[test]
fn an_old_kernel_is_a_note() {
    let old = after("kernel", |readings, _| {
        readings.kernel = Some(Kernel { major: 5, minor: 15 });
    });
    assert_eq!((&*old.found, old.verdict), ("5.15", Verdict::Note));
}

#[test]
fn locked_memory_matters_only_to_old_kernels() {
    let locked = |minor, limit| {
        after("locked memory", move |readings, _| {
            readings.kernel = Some(Kernel { major: 5, minor });
            readings.locked_max = limit;
        })
    };
    assert_eq!(locked(12, Some(0)).verdict, Verdict::Fine);
    assert_eq!(locked(11, None).verdict, Verdict::Fine);
    assert_eq!(locked(11, Some(65_536)).verdict, Verdict::Note);
}

#[test]
fn netfilter_that_tracks_nothing_yet_is_a_note() {
    let finding = after("net.netfilter.nf_conntrack_max", |readings, _| {
        readings.tracked = Some(0);
        set(readings, "net.netfilter.nf_conntrack_max", "65536");
    });
    assert_eq!(finding.verdict, Verdict::Note);
    assert!(finding.fix.starts_with("sysctl -w net.netfilter.nf_conntrack_max=2097152"));
}

#[test]
fn hash_buckets_are_counted_whoever_owns_them() {
    let buckets = |value: &str| {
        after("net.ipv4.tcp_ehash_entries", |readings, _| {
            set(readings, "net.ipv4.tcp_ehash_entries", value);
        })
    };
    assert_eq!(buckets("-1048576").verdict, Verdict::Fine);
    assert_eq!(buckets("524288").verdict, Verdict::Note);
    assert_eq!(buckets("-524288").fix, "boot with thash_entries=1048576");
}

#[test]
fn tcp_memory_has_a_page_for_everybody_beyond_the_table_too() {
    let tight = after("net.ipv4.tcp_mem", |readings, _| {
        set(readings, "net.ipv4.tcp_mem", "287898\t383867\t575796");
    });
    assert_eq!(tight.verdict, Verdict::Note);
    assert_eq!(tight.found, "575796 pages (2.2G)");
    assert_eq!(tight.fix, "sysctl -w net.ipv4.tcp_mem=\"1048576 1572864 2097152\"");
    let beyond = after("net.ipv4.tcp_mem", |_, wanted| wanted.connections = 40_000_000);
    assert_eq!(beyond.fix, "sysctl -w net.ipv4.tcp_mem=\"40000000 60000000 80000000\"");
}

#[test]
fn tcp_memory_is_shown_in_pages_of_the_kernel() {
    let large = after("net.ipv4.tcp_mem", |readings, _| {
        readings.page_bytes = 65_536;
        set(readings, "net.ipv4.tcp_mem", "287898\t383867\t575796");
    });
    assert_eq!(large.found, "575796 pages (35.2G)");
}

#[test]
fn other_rows_of_the_table_are_notes_with_their_command() {
    let low = after("net.core.somaxconn", |readings, _| {
        set(readings, "net.core.somaxconn", "128");
    });
    assert_eq!(low.verdict, Verdict::Note);
    assert_eq!(low.fix, "sysctl -w net.core.somaxconn=65535");
}

#[test]
fn what_can_not_be_read_is_unknown_and_nothing_else() {
    let mut readings = host();
    readings.settings.clear();
    (readings.kernel, readings.memory_available, readings.files_open) = (None, None, None);
    let wrong = wrong(&wanted(), &readings);
    assert!(wrong.len() > 10, "{wrong:?}");
    assert!(wrong.iter().all(|(_, verdict)| *verdict == Verdict::Unknown), "{wrong:?}");
}

#[test]
fn no_number_of_connections_is_too_large_to_count() {
    let wanted = Wanted { connections: u64::MAX, connections_max: 1, ..wanted() };
    assert!(wrong(&wanted, &host()).iter().any(|(_, verdict)| *verdict == Verdict::Stops));
}
