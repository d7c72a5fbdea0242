//! `storm`: all clients lose their connections at once, publishing continues, and all
//! clients return to recover the missed publications. How long does it take until all have
//! recovered, and how does that affect clients that kept their connections?

use super::broadcast::{Broadcast, Course, Load, Until};
use super::window::{Faults, verdict};
use super::{Stretch, Used};
use crate::cli::{StormArgs, Subject};
use crate::error::{Error, PublishError};
use crate::failure::Failures;
use crate::fleet::{Ended, Ending, Fleet};
use crate::latency::{Latencies, Summary};
use crate::page::Section;
use crate::process::{Usage, Watched};
use crate::publish::{Entrance, Publisher};
use crate::report::{self, OwnUsage, Report, Row};
use crate::sys;
use crate::verdict::Verdict;
use serde::Serialize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Publications before the storm, so that each client knows its position.
const BEFORE: u32 = 3;
/// Time for the server to notice that all clients have disconnected.
const GONE: Duration = Duration::from_millis(500);

/// The phases in which bystanders are measured.
const CALM: u32 = 0;
const STORM: u32 = 1;
const AFTER: u32 = 2;
const OVER: u32 = 3;
const PHASES: usize = OVER as usize;

#[derive(Debug, Serialize)]
struct StormReport {
    scenario: &'static str,
    profile: String,
    url: String,
    connections: usize,
    established: u64,
    missed: u32,
    /// Seconds from the first attempt to the last connection.
    seconds_to_reconnect: f64,
    /// Seconds from the first attempt to the last missed publication.
    seconds_to_recover: f64,
    handshake: Summary,
    #[serde(flatten)]
    faults: Faults,
    failures: Failures,
    server: Option<Usage>,
    generator: OwnUsage,
    bystanders: Bystanders,
    ended: &'static str,
    error: Option<String>,
    passed: bool,
}

/// The results of clients that kept their connections.
#[derive(Clone, Debug, Default, Serialize)]
struct Bystanders {
    connections: usize,
    before: Option<Summary>,
    during: Option<Summary>,
    after: Option<Summary>,
    faults: Faults,
    failures: Failures,
    error: Option<String>,
    #[serde(skip)]
    quantiles: Vec<(String, Vec<(f64, f64)>)>,
}

/// The measurements of the storm.
#[derive(Default)]
struct Storm {
    watched: Option<Watched>,
    seconds_to_reconnect: f64,
    seconds_to_recover: f64,
    handshakes: Latencies,
    used: Used,
    due: u64,
}

/// Runs the scenario and prints its report.
pub(crate) fn run(args: &StormArgs) -> Result<Verdict, Error> {
    let connections = args.common.connections;
    let mut subject = args.common.subject(connections, 1)?;
    if subject.profile.recover.is_none() {
        return Err(Error::Usage(format!(
            "profile {} does not say how to recover",
            args.common.profile
        )));
    }
    let entrance = args.publish.entrance(&mut subject)?;
    subject.plan.ending = Ending::Abort;
    let phase = AtomicU32::new(CALM);
    let (report, bystanders) = thread::scope(|scope| {
        let calm = (args.bystanders > 0).then(|| scope.spawn(|| calm(args, &phase)));
        let report = storm(args, subject, &entrance, &phase);
        phase.store(OVER, Ordering::Release);
        let bystanders = calm.map_or(Ok(Ok(Bystanders::default())), |thread| thread.join());
        (report, bystanders)
    });
    let mut report = report?;
    report.bystanders = bystanders.map_err(|_| Error::ThreadPanicked)??;
    let others = &report.bystanders;
    let well = others.error.is_none() && others.faults.count() + others.failures.count() == 0;
    report.passed &= well;
    let verdict = match report.passed {
        true => Verdict::Passed,
        false if sys::interrupted() => Verdict::Interrupted,
        false => Verdict::Failed,
    };
    report::print(&report, &args.common, verdict)?;
    Ok(verdict)
}

/// Runs the clients that the storm affects.
fn storm(
    args: &StormArgs,
    subject: Subject,
    entrance: &Entrance,
    phase: &AtomicU32,
) -> Result<StormReport, Error> {
    let Subject { plan, watched, url, .. } = subject;
    let timeout = plan.timeout;
    let mut fleet = Fleet::start(plan)?;
    let mut ended = fleet.ramp(args.common.connections);
    let mut storm = Storm::default();
    let mut error = None;
    if ended == Ended::Done && fleet.totals().failed == 0 {
        let publisher = Publisher::open(entrance, timeout)?;
        let mut broadcast = Broadcast::new(publisher, args.publish.bytes, 1);
        storm.watched = watched;
        let blown = blow(args, &mut fleet, &mut broadcast, phase, &mut storm);
        ended = blown.unwrap_or_else(|failed| {
            error = Some(failed.to_string());
            Ended::Broken
        });
    }
    let established = fleet.totals().established;
    let outcome = fleet.stop()?;
    let faults = Faults::new(&outcome, storm.due);
    let passed = verdict(ended, faults, outcome.failures.count(), error.is_some());
    Ok(StormReport {
        scenario: "storm",
        profile: args.common.server_name(),
        url,
        connections: args.common.connections,
        established,
        missed: args.missed,
        seconds_to_reconnect: storm.seconds_to_reconnect,
        seconds_to_recover: storm.seconds_to_recover,
        handshake: storm.handshakes.summary(),
        faults,
        failures: outcome.failures,
        server: storm.used.server,
        generator: storm.used.generator,
        bystanders: Bystanders::default(),
        ended: ended.label(),
        error,
        passed: passed == Verdict::Passed,
    })
}

/// Resets all connections, publishes, and reconnects all clients.
fn blow(
    args: &StormArgs,
    fleet: &mut Fleet,
    broadcast: &mut Broadcast,
    phase: &AtomicU32,
    storm: &mut Storm,
) -> Result<Ended, PublishError> {
    let load = Load::Closed { outstanding: 1 };
    let ended = broadcast.series(fleet, load, Until::Count(BEFORE), &mut Course::default())?;
    if ended != Ended::Done {
        return Ok(ended);
    }
    let ended = fleet.rest(args.calm);
    if ended != Ended::Done {
        return Ok(ended);
    }
    phase.store(STORM, Ordering::Release);
    let receivers = fleet.totals().established;
    fleet.ramp(0);
    fleet.rest(GONE);
    for _ in 0..args.missed {
        broadcast.one(fleet, sys::now_ns(), receivers)?;
    }
    broadcast.settle()?;
    fleet.cut();
    let measured = Stretch::begin(fleet, storm.watched.as_ref());
    let began = Instant::now();
    let mut ended = fleet.ramp(args.common.connections);
    storm.seconds_to_reconnect = fleet.ramp_seconds();
    let ramped = Instant::now();
    while ended == Ended::Done && broadcast.completed < broadcast.published {
        broadcast.reap(fleet, &mut Latencies::default());
        if broadcast.completed == broadcast.published {
            break;
        }
        if ramped.elapsed() > fleet.timeout() {
            ended = Ended::TimedOut;
        }
        thread::park_timeout(Duration::from_millis(1));
        ended = fleet.ended_early().unwrap_or(ended);
    }
    storm.seconds_to_recover = began.elapsed().as_secs_f64();
    storm.used = measured.end(fleet, storm.watched.as_ref());
    phase.store(AFTER, Ordering::Release);
    if ended == Ended::Done {
        ended = fleet.rest(args.calm);
    }
    storm.handshakes = fleet.cut().handshakes;
    storm.due = broadcast.due(ended);
    Ok(ended)
}

/// Runs the clients that stay connected, with publications at a steady rate until the storm is
/// over.
fn calm(args: &StormArgs, phase: &AtomicU32) -> Result<Bystanders, Error> {
    let mut common = args.common.clone();
    common.channel = format!("{}-calm", common.channel);
    let mut subject = common.subject(args.bystanders, 1)?;
    let entrance = args.publish.entrance(&mut subject)?;
    subject.plan.sources_from = super::SECOND_FLEET_SOURCES;
    let timeout = subject.plan.timeout;
    let mut fleet = Fleet::start(subject.plan)?;
    fleet.progress.hide();
    let mut ended = fleet.ramp(args.bystanders);
    let publisher = Publisher::open(&entrance, timeout)?;
    let mut broadcast = Broadcast::new(publisher, args.publish.bytes, 1);
    let load = Load::Open { rate: args.bystander_rate }.check()?;
    let mut seen: [Latencies; PHASES] = Default::default();
    let (mut measured, mut cutting) = (CALM, false);
    let mut watch = |fleet: &mut Fleet| {
        let now = phase.load(Ordering::Acquire);
        if cutting && let Some(cut) = fleet.finish_cut() {
            seen[measured as usize].merge(&cut.deliveries);
            (measured, cutting) = (measured + 1, false);
        } else if !cutting && now > measured && measured < OVER {
            fleet.begin_cut();
            cutting = true;
        }
        measured < OVER
    };
    let mut error = None;
    if ended == Ended::Done {
        let mut course = Course::default();
        let series = broadcast.series_while(&mut fleet, load, &mut watch, &mut course);
        ended = series.unwrap_or_else(|failed| {
            error = Some(failed.to_string());
            Ended::Broken
        });
    }
    let due = broadcast.due(ended);
    let outcome = fleet.stop()?;
    let [before, during, after] = [0, 1, 2].map(|phase| Some(seen[phase].summary()));
    let named = ["before", "during", "after"].into_iter().zip(&seen);
    let quantiles = named.map(|(name, latencies)| (name.to_owned(), latencies.quantiles()));
    Ok(Bystanders {
        connections: args.bystanders,
        before,
        during,
        after,
        faults: Faults::new(&outcome, due),
        failures: outcome.failures,
        error,
        quantiles: quantiles.collect(),
    })
}

impl Report for StormReport {
    fn title(&self) -> String {
        format!("A storm of {} clients at {}", self.connections, self.profile)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            ("server", format!("{} at {}", self.profile, self.url)),
            ("connections", format!("{} of {} back", self.established, self.connections)),
            ("failures", report::failures_text(&self.failures)),
            ("missed", format!("{} publications each", self.missed)),
            ("all back", format!("{:.2} s", self.seconds_to_reconnect)),
            ("all complete", format!("{:.2} s", self.seconds_to_recover)),
            ("handshake", self.handshake.text()),
            ("faults", self.faults.text()),
            ("generator", self.generator.text()),
        ];
        rows.extend(self.server.map(|server| ("server", report::usage_text(server))));
        let others = &self.bystanders;
        rows.push(("bystanders", format!("{}, {}", others.connections, others.faults.text())));
        for (name, summary) in
            [("  before", others.before), ("  during", others.during), ("  after", others.after)]
        {
            rows.extend(summary.map(|summary| (name, summary.text())));
        }
        rows.extend(others.error.clone().map(|error| ("  error", error)));
        rows.extend(self.error.clone().map(|error| ("error", error)));
        rows.push(("run", self.ended.to_owned()));
        rows
    }

    fn charts(&self) -> Vec<Section> {
        vec![report::latency_chart("Latency of bystanders", self.bystanders.quantiles.clone())]
    }

    fn warnings(&self) -> Vec<String> {
        self.generator.warning().into_iter().collect()
    }
}
