//! `connect`: opens connections, holds them, and closes them. How long does a handshake take, and
//! how many fail?

use super::{Stretch, Used};
use crate::cli::{ConnectArgs, Subject};
use crate::error::Error;
use crate::failure::Failures;
use crate::fleet::{Ended, Fleet};
use crate::latency::Summary;
use crate::page::Section;
use crate::process::Usage;
use crate::report::{self, OwnUsage, Report, Row};
use crate::verdict::Verdict;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct ConnectReport {
    scenario: &'static str,
    profile: String,
    url: String,
    connections: usize,
    established: u64,
    /// Connections that ended while they were held.
    ended_early: u64,
    failures: Failures,
    /// Seconds from the first connection to the last one.
    seconds: f64,
    connections_per_second: f64,
    handshake: Summary,
    /// Usage while connecting.
    server: Option<Usage>,
    server_cpu_us_per_connection: Option<f64>,
    generator: OwnUsage,
    ended: &'static str,
    passed: bool,
    #[serde(skip)]
    quantiles: Vec<(f64, f64)>,
}

/// Runs the scenario and prints its report.
pub(crate) fn run(args: &ConnectArgs) -> Result<Verdict, Error> {
    let connections = args.common.connections;
    let Subject { plan, watched, url, .. } = args.common.subject(connections, 1)?;
    let mut fleet = Fleet::start(plan)?;
    let stretch = Stretch::begin(&fleet, watched.as_ref());
    let mut ended = fleet.ramp(connections);
    let Used { server, generator, .. } = stretch.end(&fleet, watched.as_ref());
    let seconds = fleet.ramp_seconds();
    let established = fleet.totals().established;
    if ended == Ended::Done {
        ended = fleet.rest(args.hold);
    }
    let ended_early = fleet.totals().lost;
    let outcome = fleet.stop()?;
    let verdict = Verdict::of(ended, outcome.failures.count() == 0);
    let report = ConnectReport {
        scenario: "connect",
        profile: args.common.server_name(),
        url,
        connections,
        established,
        ended_early,
        failures: outcome.failures,
        seconds,
        connections_per_second: if seconds > 0.0 { established as f64 / seconds } else { 0.0 },
        handshake: outcome.handshakes.summary(),
        server,
        server_cpu_us_per_connection: server
            .map(|usage| usage.cpu_seconds * 1e6 / established.max(1) as f64),
        generator,
        ended: ended.label(),
        passed: verdict == Verdict::Passed,
        quantiles: outcome.handshakes.quantiles(),
    };
    report::print(&report, &args.common, verdict)?;
    Ok(verdict)
}

impl Report for ConnectReport {
    fn title(&self) -> String {
        format!("{} connections to {}", self.connections, self.profile)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            ("server", format!("{} at {}", self.profile, self.url)),
            ("connections", format!("{} of {}", self.established, self.connections)),
            ("ramp", format!("{:.2} s, {:.0}/s", self.seconds, self.connections_per_second)),
            ("handshake", self.handshake.text()),
            ("failures", report::failures_text(&self.failures)),
            ("ended early", self.ended_early.to_string()),
            ("generator", self.generator.text()),
        ];
        if let (Some(server), Some(us)) = (self.server, self.server_cpu_us_per_connection) {
            rows.push(("server", report::usage_text(server)));
            rows.push(("server CPU", format!("{us:.1} µs per connection")));
        }
        rows.push(("run", self.ended.to_owned()));
        rows
    }

    fn charts(&self) -> Vec<Section> {
        let line = (self.profile.clone(), self.quantiles.clone());
        vec![report::latency_chart("Handshakes", vec![line])]
    }

    fn warnings(&self) -> Vec<String> {
        self.generator.warning().into_iter().collect()
    }
}
