//! `idle`: the cost of one more idle, subscribed connection, as the growth of the server from N
//! connections to 2N. This excludes everything that the server allocates at its start.

use super::broadcast::{Broadcast, Course, Load, Until};
use super::{Stretch, sample};
use crate::cli::{IdleArgs, Subject};
use crate::error::Error;
use crate::failure::Failures;
use crate::fleet::{Ended, Fleet};
use crate::kernel::KernelMemory;
use crate::page::Section;
use crate::process::{Usage, Watched};
use crate::publish::Publisher;
use crate::report::{self, OwnUsage, Report, Row};
use crate::sequence::Tally;
use crate::verdict::Verdict;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct IdleReport {
    scenario: &'static str,
    profile: String,
    url: String,
    /// N: half of the connections that are open at the end.
    connections: usize,
    established: u64,
    failures: Failures,
    rss_bytes_at_start: Option<u64>,
    rss_bytes_at_n: Option<u64>,
    rss_bytes_at_2n: Option<u64>,
    bytes_per_connection: Option<f64>,
    /// Growth of kernel objects at the server's end, from N to 2N connections. `None` if the kernel
    /// does not report them, or the server is on another host.
    kernel_bytes_per_connection: Option<f64>,
    /// Usage while 2N connections were idle.
    server: Option<Usage>,
    generator: Option<OwnUsage>,
    published: Option<Published>,
    ended: &'static str,
    passed: bool,
}

/// The deliveries of the single publication.
#[derive(Clone, Debug, Default, Serialize)]
struct Published {
    received: u64,
    lost: u64,
    duplicates: u64,
    /// Milliseconds from sending to the last receipt.
    milliseconds: f64,
    error: Option<String>,
}

/// Runs the scenario and prints its report.
pub(crate) fn run(args: &IdleArgs) -> Result<Verdict, Error> {
    let connections = args.common.connections;
    let mut subject = args.common.subject(connections.saturating_mul(2), 1)?;
    let entrance = args.publish.entrance(&mut subject)?;
    let Subject { plan, watched, url, .. } = subject;
    let timeout = plan.timeout;
    let mut fleet = Fleet::start(plan)?;
    let mut report = IdleReport::new(args, url);
    let mut ended = grow(args, &mut fleet, watched.as_ref(), &mut report);
    report.established = fleet.totals().established;
    let mut published = None;
    if ended == Ended::Done && args.publish_once {
        let publisher = Publisher::open(&entrance, timeout)?;
        let mut broadcast = Broadcast::new(publisher, args.publish.bytes, 1);
        let (mut arrived, mut course) = (Published::default(), Course::default());
        let load = Load::Closed { outstanding: 1 };
        let series = broadcast.series(&mut fleet, load, Until::Count(1), &mut course);
        ended = series.unwrap_or_else(|error| {
            arrived.error = Some(error.to_string());
            Ended::Broken
        });
        if ended == Ended::Done {
            // Wait for repeated deliveries.
            ended = fleet.rest(args.settle);
        }
        arrived.milliseconds = course.last.summary().max_us / 1e3;
        published = Some((arrived, broadcast.published));
    }
    let outcome = fleet.stop()?;
    report.published = published.map(|(arrived, count)| {
        let Tally { received, duplicates, .. } = outcome.tally;
        let lost = (report.established * u64::from(count)).saturating_sub(received);
        Published { received, lost, duplicates, ..arrived }
    });
    report.failures = outcome.failures;
    report.ended = ended.label();
    let verdict = Verdict::of(ended, report.faultless());
    report.passed = verdict == Verdict::Passed;
    report::print(&report, &args.common, verdict)?;
    Ok(verdict)
}

/// Opens N connections and N more, reads the server's memory after each step, and holds them.
fn grow(
    args: &IdleArgs,
    fleet: &mut Fleet,
    watched: Option<&Watched>,
    report: &mut IdleReport,
) -> Ended {
    let rss_bytes = || sample(watched).map(|sample| sample.rss_bytes);
    let mut kernel_before = None;
    let connections = args.common.connections;
    report.rss_bytes_at_start = rss_bytes();
    for (total, rss_bytes_then) in
        [(connections, &mut report.rss_bytes_at_n), (connections * 2, &mut report.rss_bytes_at_2n)]
    {
        let mut ended = fleet.ramp(total);
        if ended == Ended::Done {
            ended = fleet.rest(args.settle);
        }
        if ended != Ended::Done {
            return ended;
        }
        *rss_bytes_then = rss_bytes();
        let kernel = watched.and_then(|_| KernelMemory::read());
        report.kernel_bytes_per_connection = kernel
            .zip(kernel_before)
            .map(|(now, before): (KernelMemory, _)| now.growth(before) / connections as f64);
        kernel_before = kernel;
    }
    report.bytes_per_connection = report
        .rss_bytes_at_n
        .zip(report.rss_bytes_at_2n)
        .map(|(n, two_n)| (two_n as f64 - n as f64) / connections as f64);
    let stretch = Stretch::begin(fleet, watched);
    let ended = fleet.rest(args.hold);
    let used = stretch.end(fleet, watched);
    (report.server, report.generator) = (used.server, Some(used.generator));
    ended
}

impl IdleReport {
    fn new(args: &IdleArgs, url: String) -> Self {
        Self {
            scenario: "idle",
            profile: args.common.server_name(),
            url,
            connections: args.common.connections,
            established: 0,
            failures: Failures::default(),
            rss_bytes_at_start: None,
            rss_bytes_at_n: None,
            rss_bytes_at_2n: None,
            bytes_per_connection: None,
            kernel_bytes_per_connection: None,
            server: None,
            generator: None,
            published: None,
            ended: "",
            passed: false,
        }
    }

    fn faultless(&self) -> bool {
        let arrived = self.published.as_ref();
        let wrong = arrived.map_or(0, |published| published.lost + published.duplicates);
        wrong + self.failures.count() == 0 && arrived.is_none_or(|one| one.error.is_none())
    }
}

impl Report for IdleReport {
    fn title(&self) -> String {
        format!("{} idle connections to {}", self.established, self.profile)
    }

    fn rows(&self) -> Vec<Row> {
        let all = self.connections * 2;
        let mut rows = vec![
            ("server", format!("{} at {}", self.profile, self.url)),
            ("connections", format!("{} of {all}", self.established)),
            ("failures", report::failures_text(&self.failures)),
        ];
        let memory = [
            ("RSS at start", self.rss_bytes_at_start),
            ("RSS at N", self.rss_bytes_at_n),
            ("RSS at 2N", self.rss_bytes_at_2n),
        ];
        let memory = memory
            .iter()
            .filter_map(|(name, bytes)| bytes.map(|bytes| (*name, report::bytes_text(bytes))));
        rows.extend(memory);
        let each = self.bytes_per_connection;
        rows.extend(each.map(|bytes| ("per connection", format!("{bytes:.1} B of RSS"))));
        let kernel = self.kernel_bytes_per_connection;
        rows.extend(kernel.map(|bytes| ("kernel", format!("{bytes:.0} B per connection"))));
        rows.extend(self.server.map(|server| ("server, idle", report::usage_text(server))));
        rows.extend(self.generator.map(|own| ("generator, idle", own.text())));
        rows.extend(self.published.as_ref().map(|one| ("publication", one.text())));
        rows.push(("run", self.ended.to_owned()));
        rows
    }

    fn charts(&self) -> Vec<Section> {
        Vec::new()
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Published {
    fn text(&self) -> String {
        let Self { received, lost, duplicates, milliseconds, .. } = self;
        match &self.error {
            Some(error) => error.clone(),
            None => format!(
                "{received} received, {lost} lost, {duplicates} duplicate, {milliseconds:.1} ms"
            ),
        }
    }
}
