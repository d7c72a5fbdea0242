//! `churn`: holds connections while some of them are closed and reopened continuously. Do
//! handshakes stay quick, do any fail, and does the server release the memory of closed
//! connections?

use super::{Stretch, Used, sample};
use crate::cli::{ChurnArgs, Subject};
use crate::error::Error;
use crate::failure::Failures;
use crate::fleet::{Ended, Fleet};
use crate::latency::Summary;
use crate::page::Section;
use crate::process::Usage;
use crate::report::{self, OwnUsage, Report, Row};
use crate::verdict::Verdict;
use serde::Serialize;
use std::time::Duration;

/// Time for the last handshakes to complete, and for the server to release the last connections.
const SETTLE: Duration = Duration::from_secs(1);
/// Share of the requested rate below which a warning is printed.
const RATE_SHARE_MIN: f64 = 0.95;

#[derive(Debug, Serialize)]
struct ChurnReport {
    scenario: &'static str,
    profile: String,
    url: String,
    connections: usize,
    established: u64,
    failures: Failures,
    /// Requested connections per second.
    rate: u32,
    /// Connections that were closed and reopened.
    recycled: u64,
    seconds: f64,
    recycled_per_second: f64,
    handshake: Summary,
    rss_bytes_before: Option<u64>,
    rss_bytes_after: Option<u64>,
    server: Option<Usage>,
    server_cpu_us_per_connection: Option<f64>,
    generator: OwnUsage,
    ended: &'static str,
    passed: bool,
    #[serde(skip)]
    quantiles: Vec<(f64, f64)>,
}

/// Runs the scenario and prints its report.
pub(crate) fn run(args: &ChurnArgs) -> Result<Verdict, Error> {
    let connections = args.common.connections;
    let Subject { mut plan, watched, url, .. } = args.common.subject(connections, 1)?;
    if args.rate == 0 || args.seconds == 0 {
        return Err(Error::Usage("--rate and --seconds must be above 0".to_owned()));
    }
    plan.churn = args.rate;
    let mut fleet = Fleet::start(plan)?;
    let mut ended = fleet.ramp(connections);
    if ended == Ended::Done {
        ended = fleet.rest(SETTLE);
    }
    fleet.cut();
    let rss_bytes = || sample(watched.as_ref()).map(|sample| sample.rss_bytes);
    let rss_bytes_before = rss_bytes();
    let stretch = Stretch::begin(&fleet, watched.as_ref());
    if ended == Ended::Done {
        fleet.set_churning(true);
        ended = fleet.rest(Duration::from_secs(args.seconds));
        fleet.set_churning(false);
    }
    let Used { seconds, server, generator } = stretch.end(&fleet, watched.as_ref());
    let recycled = fleet.totals().recycled;
    if ended == Ended::Done {
        // Wait for connections that are still being reopened.
        ended = fleet.ramp(connections);
    }
    if ended == Ended::Done {
        ended = fleet.rest(SETTLE);
    }
    let (established, rss_bytes_after) = (fleet.totals().established, rss_bytes());
    let handshakes = fleet.cut().handshakes;
    let outcome = fleet.stop()?;
    let verdict = Verdict::of(ended, outcome.failures.count() == 0 && recycled > 0);
    let report = ChurnReport {
        scenario: "churn",
        profile: args.common.server_name(),
        url,
        connections,
        established,
        failures: outcome.failures,
        rate: args.rate,
        recycled,
        seconds,
        recycled_per_second: recycled as f64 / seconds,
        handshake: handshakes.summary(),
        rss_bytes_before,
        rss_bytes_after,
        server,
        server_cpu_us_per_connection: server
            .map(|usage| usage.cpu_seconds * 1e6 / recycled.max(1) as f64),
        generator,
        ended: ended.label(),
        passed: verdict == Verdict::Passed,
        quantiles: handshakes.quantiles(),
    };
    report::print(&report, &args.common, verdict)?;
    Ok(verdict)
}

impl Report for ChurnReport {
    fn title(&self) -> String {
        format!("Closing and reopening connections to {}", self.profile)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            ("server", format!("{} at {}", self.profile, self.url)),
            ("connections", format!("{} of {}", self.established, self.connections)),
            (
                "recycled",
                format!(
                    "{} in {:.2} s, {:.0}/s of {}/s asked for",
                    self.recycled, self.seconds, self.recycled_per_second, self.rate
                ),
            ),
            ("handshake", self.handshake.text()),
            ("failures", report::failures_text(&self.failures)),
            ("generator", self.generator.text()),
        ];
        if let (Some(before), Some(after)) = (self.rss_bytes_before, self.rss_bytes_after) {
            let [before, after] = [before, after].map(report::bytes_text);
            rows.push(("server RSS", format!("{before} before, {after} after")));
        }
        if let (Some(server), Some(us)) = (self.server, self.server_cpu_us_per_connection) {
            rows.push(("server", report::usage_text(server)));
            rows.push(("server CPU", format!("{us:.1} µs per connection closed and opened")));
        }
        rows.push(("run", self.ended.to_owned()));
        rows
    }

    fn charts(&self) -> Vec<Section> {
        let line = (self.profile.clone(), self.quantiles.clone());
        vec![report::latency_chart("Handshakes", vec![line])]
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.generator.warning().into_iter().collect::<Vec<_>>();
        if self.recycled_per_second < f64::from(self.rate) * RATE_SHARE_MIN {
            warnings.push(format!(
                "{:.0} connections per second were recycled, not {}",
                self.recycled_per_second, self.rate
            ));
        }
        warnings
    }
}
