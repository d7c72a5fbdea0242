//! `fanout`: one channel, many subscribers, a closed loop of publications. What does a delivery
//! cost, how long does it take, and does every one arrive exactly once and in order?

use super::broadcast::{Broadcast, Until};
use super::{Stretch, Verdict};
use crate::cli::FanoutArgs;
use crate::error::Error;
use crate::failure::Failures;
use crate::fleet::{Ended, Fleet, Outcome};
use crate::latency::{Latencies, Summary};
use crate::process::Usage;
use crate::publish::{PublishError, Publisher};
use crate::report::{self, OwnUsage, Report, Row};
use crate::sys;
use serde::Serialize;
use std::time::{Duration, Instant};

#[derive(Debug, Serialize)]
struct FanoutReport {
    scenario: &'static str,
    url: String,
    connections: usize,
    established: u64,
    failures: Failures,
    payload_bytes: usize,
    outstanding: u32,
    /// Measured publications; those of the warm-up are not in any figure but the next three.
    publications: u32,
    lost: u64,
    duplicates: u64,
    reordered: u64,
    deliveries: u64,
    seconds: f64,
    publications_per_second: f64,
    deliveries_per_second: f64,
    /// From sending to each receipt.
    delivery: Summary,
    /// From sending to the last receipt.
    last_delivery: Summary,
    server: Option<Usage>,
    server_cpu_us_per_delivery: Option<f64>,
    server_thread_cpu_us_per_delivery: Option<f64>,
    generator: Option<OwnUsage>,
    ended: &'static str,
    publish_error: Option<String>,
    passed: bool,
}

/// What was measured between warm-up and end.
#[derive(Default)]
struct Measured {
    publications: u32,
    deliveries: u64,
    seconds: f64,
    last: Latencies,
    server: Option<Usage>,
    generator: Option<OwnUsage>,
    publish_error: Option<PublishError>,
}

/// Runs the scenario and prints what it found.
pub(crate) fn run(args: &FanoutArgs) -> Result<Verdict, Error> {
    args.check()?;
    let connections = args.common.connections;
    let mut plan = args.common.plan(connections)?;
    plan.warmup = args.warmup;
    let entrance = args.publish.entrance(&mut plan)?;
    let (target, timeout) = (plan.target.clone(), plan.timeout);
    let mut fleet = Fleet::start(plan)?;
    let mut ended = fleet.ramp(connections);
    if ended == Ended::Done {
        ended = fleet.rest(args.settle);
    }
    let (mut measured, mut published) = (Measured::default(), 0);
    let established = fleet.totals().established;
    if ended == Ended::Done && established > 0 {
        let publisher = Publisher::open(&entrance, &target, timeout)?;
        let mut broadcast = Broadcast::new(publisher, args.publish.bytes, args.outstanding);
        (ended, measured) = measure(args, &mut fleet, &mut broadcast);
        // What an interrupt left under way is not lost.
        published = match ended {
            Ended::Interrupted => broadcast.completed,
            Ended::Done | Ended::TimedOut | Ended::Broken => broadcast.published,
        };
    }
    let outcome = fleet.stop()?;
    let mut report = fanout_report(args, measured, &outcome);
    report.established = established;
    report.lost = outcome.tally.lost(established, published);
    report.ended = ended.label();
    let verdict = Verdict::of(ended, report.faultless());
    report.passed = verdict == Verdict::Passed;
    report::print(&report, args.common.json)?;
    Ok(verdict)
}

/// Warms up, publishes, and waits for repeats that come late.
fn measure(args: &FanoutArgs, fleet: &mut Fleet, broadcast: &mut Broadcast) -> (Ended, Measured) {
    let watched = args.common.watched();
    let mut measured = Measured::default();
    let mut ended = series(fleet, broadcast, Until::Count(args.warmup), &mut measured);
    if ended != Ended::Done {
        return (ended, measured);
    }
    broadcast.last = Latencies::default();
    let (published, received) = (broadcast.published, fleet.totals().received);
    let until = match args.messages {
        Some(count) => Until::Count(count),
        None => Until::Time(Instant::now() + Duration::from_secs(args.seconds)),
    };
    let stretch = Stretch::begin(fleet, watched.as_ref());
    ended = series(fleet, broadcast, until, &mut measured);
    measured.seconds = stretch.elapsed().as_secs_f64();
    measured.server = stretch.server_usage(watched.as_ref());
    measured.generator = Some(stretch.own_usage(fleet));
    measured.publications = broadcast.published - published;
    measured.deliveries = fleet.totals().received - received;
    measured.last = broadcast.last.clone();
    if ended == Ended::Done {
        ended = fleet.rest(args.settle);
    }
    (ended, measured)
}

fn series(
    fleet: &mut Fleet,
    broadcast: &mut Broadcast,
    until: Until,
    measured: &mut Measured,
) -> Ended {
    broadcast.series(fleet, until).unwrap_or_else(|error| {
        measured.publish_error = Some(error);
        if sys::interrupted() { Ended::Interrupted } else { Ended::Broken }
    })
}

fn fanout_report(args: &FanoutArgs, measured: Measured, outcome: &Outcome) -> FanoutReport {
    let Measured { publications, deliveries, seconds, server, generator, .. } = measured;
    let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    let per_delivery = |seconds: f64| seconds * 1e6 / deliveries.max(1) as f64;
    FanoutReport {
        scenario: "fanout",
        url: args.common.url().to_owned(),
        connections: args.common.connections,
        established: 0,
        failures: outcome.failures.clone(),
        payload_bytes: args.publish.bytes,
        outstanding: args.outstanding,
        publications,
        lost: 0,
        duplicates: outcome.tally.duplicates,
        reordered: outcome.tally.reordered,
        deliveries,
        seconds,
        publications_per_second: per_second(f64::from(publications)),
        deliveries_per_second: per_second(deliveries as f64),
        delivery: outcome.deliveries.summary(),
        last_delivery: measured.last.summary(),
        server,
        server_cpu_us_per_delivery: server.map(|usage| per_delivery(usage.cpu_seconds)),
        server_thread_cpu_us_per_delivery: server
            .and_then(|usage| usage.thread_cpu_seconds)
            .map(per_delivery),
        generator,
        ended: "",
        publish_error: measured.publish_error.map(|error| error.to_string()),
        passed: false,
    }
}

impl FanoutReport {
    fn faultless(&self) -> bool {
        let wrong = self.lost + self.duplicates + self.reordered + self.failures.count();
        wrong == 0 && self.publish_error.is_none() && self.publications > 0
    }
}

impl Report for FanoutReport {
    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            ("url", self.url.clone()),
            ("connections", format!("{} of {}", self.established, self.connections)),
            ("failures", report::failures_text(&self.failures)),
            (
                "publications",
                format!(
                    "{} of {} B, {} outstanding, {:.1}/s",
                    self.publications,
                    self.payload_bytes,
                    self.outstanding,
                    self.publications_per_second
                ),
            ),
            (
                "deliveries",
                format!(
                    "{} in {:.2} s, {:.0}/s",
                    self.deliveries, self.seconds, self.deliveries_per_second
                ),
            ),
            (
                "faults",
                format!(
                    "{} lost, {} duplicate, {} out of order",
                    self.lost, self.duplicates, self.reordered
                ),
            ),
            ("delivery", self.delivery.text()),
            ("to the last", self.last_delivery.text()),
        ];
        rows.extend(self.generator.map(|own| ("generator", own.text())));
        rows.extend(self.server.map(|server| ("server", report::usage_text(server))));
        let threads = self.server_thread_cpu_us_per_delivery;
        let threads = threads.map(|us| format!(", named threads {us:.3} µs")).unwrap_or_default();
        let whole = self.server_cpu_us_per_delivery;
        rows.extend(whole.map(|us| ("server CPU", format!("{us:.3} µs per delivery{threads}"))));
        rows.extend(self.publish_error.clone().map(|error| ("publishing", error)));
        rows.push(("run", self.ended.to_owned()));
        rows
    }

    fn warnings(&self) -> Vec<String> {
        self.generator.and_then(OwnUsage::warning).into_iter().collect()
    }
}
