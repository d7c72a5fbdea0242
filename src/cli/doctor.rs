//! `corecast doctor`: checks whether this host can hold a number of connections. `serve` logs the
//! first problem of the same check as one line.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::flags::{ServeArgs, environment};
use super::print::print_line;
use crate::config::load;
use crate::doctor::{self, Finding, Verdict, Wanted};
use crate::limits::DOCTOR_CONNECTIONS_MAX;
use crate::server::StartupReport;
use crate::settings::{Driver, Settings};
use crate::units::parse_count;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 if this host can hold the connections, 1 if it can't.\n\n\
    Limits differ between users, units and containers: run this command as the same user and in \
    the same\nunit or container as the server.")]
pub(super) struct DoctorArgs {
    /// Number of connections, such as 50000, 100k or 1M [default: server.max_connections].
    #[arg(long, value_name = "N", value_parser = parse_connections)]
    connections: Option<u64>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Places of the script that sets all kernel settings: in the source, and where packages put it.
const SCRIPTS: [&str; 2] = ["kernel-tuning/apply", "/usr/share/corecast/kernel-tuning/apply"];

/// The report as JSON.
#[derive(Serialize)]
struct Report<'a> {
    connections: u64,
    shards: u64,
    verdict: Verdict,
    findings: &'a [Finding],
}

/// Parses a number of connections.
fn parse_connections(text: &str) -> Result<u64, String> {
    let connections = parse_count(text)?;
    if (1..=DOCTOR_CONNECTIONS_MAX).contains(&connections) {
        return Ok(connections);
    }
    Err(format!("expected a number from 1 to {DOCTOR_CONNECTIONS_MAX}, such as 50000, 100k or 1M"))
}

/// Checks this host and prints the findings.
pub(super) fn run(args: DoctorArgs) -> Result<(), Failure> {
    let settings = load(&args.serve.into_flags(), environment())?.settings;
    let server = &settings.server;
    let readings = doctor::read(server);
    let shards = if server.shards == 0 { readings.cores } else { server.shards as u64 };
    let connections = args.connections.unwrap_or(server.max_connections as u64);
    let findings = doctor::findings(&wanted(&settings, connections, shards), &readings);
    let stops = findings.iter().filter(|one| one.verdict == Verdict::Stops).count();
    if args.json {
        let verdict = if stops > 0 { Verdict::Stops } else { Verdict::Fine };
        let report = Report { connections, shards, verdict, findings: &findings };
        let text = serde_json::to_string_pretty(&report);
        print_line(&text.map_err(|error| Failure::Words(error.to_string()))?)?;
    } else {
        print_line(&table(&findings))?;
        let script = SCRIPTS.iter().find(|path| std::path::Path::new(path).exists());
        if let Some(script) = script
            && findings.iter().any(|one| one.fix.contains("sysctl "))
        {
            let command = format!("{script} --connections {connections}");
            print_line(&format!("\nTo set all kernel settings at once: {command}"))?;
        }
    }
    match stops {
        0 if args.json => Ok(()),
        0 => print_line(&format!("\nthis host can hold {connections} connections")),
        1 => Err(Failure::Words(format!("1 limit is too low for {connections} connections"))),
        _ => {
            Err(Failure::Words(format!("{stops} limits are too low for {connections} connections")))
        }
    }
}

fn wanted(settings: &Settings, connections: u64, shards: u64) -> Wanted {
    Wanted {
        connections,
        shards,
        connections_max: settings.server.max_connections as u64,
        ring_required: settings.server.driver == Driver::IoUring,
    }
}

/// The warning that `serve` logs if this host is too small for the server's own limit, in one line.
/// It does not probe descriptors and rings: the server already has them, and `report` includes
/// them.
pub(super) fn warning(settings: &Settings, report: &StartupReport) -> Option<String> {
    let connections = report.connections_max as u64;
    let wanted = wanted(settings, connections, report.shards as u64);
    let readings = doctor::read_without_probes(report.private_tables);
    let findings = doctor::findings(&wanted, &readings);
    let mut stops = findings.iter().filter(|one| one.verdict == Verdict::Stops);
    let Finding { check, found, needed, fix, .. } = stops.next()?;
    let more = match stops.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!(
        "this host can't hold {connections} connections: {check} is {found}, but {needed} is \
         needed{more}. To fix it: {fix}; or lower server.max_connections. Full report: corecast \
         doctor --connections {connections}"
    ))
}

/// The findings as a table. The reason and the fix are below each finding that is not fine.
fn table(findings: &[Finding]) -> String {
    let width = |column: fn(&Finding) -> &String, head: &str| {
        findings.iter().map(|one| column(one).chars().count()).fold(head.len(), usize::max)
    };
    let check = width(|one| &one.check, "check");
    let found = width(|one| &one.found, "found");
    let needed = width(|one| &one.needed, "needed");
    let mut out = format!("{:check$}  {:found$}  {:needed$}  verdict", "check", "found", "needed");
    for one in findings {
        let verdict = word(one.verdict);
        let row = format!(
            "\n{:check$}  {:found$}  {:needed$}  {verdict}",
            one.check, one.found, one.needed
        );
        out.push_str(&row);
        for (label, text) in [("why", &one.why), ("fix", &one.fix)] {
            if !text.is_empty() {
                // Writing to a String can't fail.
                write!(out, "\n    {label:<5}{text}").ok();
            }
        }
    }
    out
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "fine",
        Verdict::Note => "note",
        Verdict::Unknown => "unknown",
        Verdict::Stops => "STOPS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use crate::settings::ListenAddress;

    #[test]
    fn connections_are_written_as_people_say_them() {
        for (text, connections) in
            [("1", 1), ("50000", 50_000), ("100k", 100_000), ("1M", 1_000_000), ("1_000", 1_000)]
        {
            assert_eq!(parse_connections(text), Ok(connections), "{text}");
        }
        for wrong in ["", "0", "k", "-1", "1G", "1.5M", "2000000000", "20000000000000000000M"] {
            assert!(parse_connections(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_row_that_is_not_fine_says_why_and_what_mends_it() {
        let fine = Finding {
            check: "a".to_owned(),
            found: "1".to_owned(),
            needed: "1".to_owned(),
            verdict: Verdict::Fine,
            why: String::new(),
            fix: String::new(),
        };
        let stops = Finding {
            verdict: Verdict::Stops,
            why: "it ends".to_owned(),
            fix: "fix it".to_owned(),
            ..fine.clone()
        };
        assert_eq!(
            table(&[fine, stops]),
            "check  found  needed  verdict\n\
             a      1      1       fine\n\
             a      1      1       STOPS\n    \
             why  it ends\n    \
             fix  fix it"
        );
    }

    #[test]
    fn serve_warns_of_what_would_stop_it_in_one_line() {
        let settings = load(&Flags::default(), []).expect("valid").settings;
        let report = |connections_max| StartupReport {
            driver: "epoll",
            shards: 2,
            descriptors_max: usize::MAX,
            private_tables: true,
            connections_max,
            api_listen: ListenAddress::parse("127.0.0.1:9000").expect("an address"),
            listen: Vec::new(),
        };
        assert_eq!(warning(&settings, &report(1)), None);
        let text = warning(&settings, &report(900_000_000_000)).expect("no host has enough memory");
        assert!(!text.contains('\n'), "{text}");
        for part in ["server.max_connections is 1000000", "more)", "corecast doctor"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
