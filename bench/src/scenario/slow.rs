//! `slow`: some subscribers read slowly. How does that affect the others? Windows in which all are
//! prompt alternate with windows in which some are slow, so that other load affects both kinds.

use super::broadcast::{Broadcast, Load};
use super::window::{Faults, Measured, Request, Window, measure, verdict};
use crate::cli::{SlowArgs, Subject};
use crate::error::Error;
use crate::failure::Failures;
use crate::fleet::{Ended, Fleet, Frames, Plan};
use crate::page::{Section, Table};
use crate::publish::Publisher;
use crate::report::{self, Report, Row};
use crate::stats::Estimate;
use crate::verdict::Verdict;
use serde::Serialize;
use std::time::Duration;

/// SO_RCVBUF of slow subscribers: the default of Linux (`net.core.rmem_default`, and usually
/// `net.ipv4.tcp_rmem`). With a few KB, the window of a client that reads 2 KB/s may stay smaller
/// than the server's next segment for half a minute. Then the server's kernel ends the connection
/// by TCP_USER_TIMEOUT, which counts from the last time at which the window held a whole segment.
const SLOW_RECEIVE_BYTES: i32 = 128 * 1024;
/// Time for slow subscribers to catch up.
const CATCH_UP: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct SlowReport {
    scenario: &'static str,
    profile: String,
    url: String,
    connections: usize,
    established: u64,
    slow: usize,
    slow_bytes_per_second: usize,
    /// Slow subscribers that the server closed.
    slow_ended: u64,
    rate: f64,
    failures: Failures,
    #[serde(flatten)]
    faults: Faults,
    prompt_windows: Vec<Window>,
    slow_windows: Vec<Window>,
    /// Ratio of the prompt subscribers' p99: windows with slow subscribers to windows without.
    p99_ratio: Option<Estimate>,
    ended: &'static str,
    error: Option<String>,
    passed: bool,
}

/// Runs the scenario and prints its report.
pub(crate) fn run(args: &SlowArgs) -> Result<Verdict, Error> {
    let common = &args.common;
    let request = Request::new(Load::Open { rate: args.rate }, &args.window)?;
    let mut subject = common.subject(common.connections, 1)?;
    let entrance = args.publish.entrance(&mut subject)?;
    let slow = slow_plan(args)?;
    let Subject { plan, watched, url, .. } = subject;
    let timeout = plan.timeout;
    let mut fleet = Fleet::start(plan)?;
    let mut slow = Fleet::start(slow)?;
    let mut ended = fleet.ramp(common.connections);
    if ended == Ended::Done {
        ended = slow.ramp(args.slow);
    }
    let established = fleet.totals().established;
    let (mut turns, mut due) = (Turns::default(), 0);
    if ended == Ended::Done && established > 0 {
        let publisher = Publisher::open(&entrance, timeout)?;
        let mut broadcast = Broadcast::new(publisher, args.publish.bytes, 1);
        let mut window = |dawdles| {
            if slow.totals().established < args.slow as u64 {
                // Reconnect the subscribers that the server has closed, so that the next window has
                // all of them.
                slow.ramp(0);
                slow.ramp(args.slow);
            }
            slow.set_dawdling(dawdles);
            let found = measure(&mut fleet, &mut broadcast, watched.as_ref(), request);
            slow.set_dawdling(false);
            let caught_up = found.ended == Ended::Done;
            let ended = if caught_up { fleet.rest(CATCH_UP) } else { found.ended };
            Measured { ended, ..found }
        };
        for _ in 0..args.pairs {
            ended = turns.take(&mut window);
            if ended != Ended::Done {
                break;
            }
        }
        due = broadcast.due(ended);
    }
    let slow_ended = slow.totals().lost;
    let (outcome, slow_outcome) = (fleet.stop()?, slow.stop()?);
    let mut failures = outcome.failures.clone();
    if !args.may_close {
        failures.merge(slow_outcome.failures);
    }
    let faults = Faults::new(&outcome, due);
    let verdict = verdict(ended, faults, failures.count(), turns.error.is_some());
    let report = SlowReport {
        scenario: "slow",
        profile: common.server_name(),
        url,
        connections: common.connections,
        established,
        slow: args.slow,
        slow_bytes_per_second: args.slow_bytes,
        slow_ended,
        rate: args.rate,
        failures,
        faults,
        p99_ratio: p99_ratio(&turns.prompt, &turns.slow),
        prompt_windows: turns.prompt,
        slow_windows: turns.slow,
        ended: ended.label(),
        error: turns.error,
        passed: verdict == Verdict::Passed,
    };
    report::print(&report, common, verdict)?;
    Ok(verdict)
}

/// Returns the plan for subscribers that read slowly.
fn slow_plan(args: &SlowArgs) -> Result<Plan, Error> {
    let mut plan = args.common.subject(args.slow, 1)?.plan;
    plan.frames = Frames::Ignored;
    plan.dawdle_bytes = args.slow_bytes;
    plan.receive_bytes = plan.receive_bytes.max(SLOW_RECEIVE_BYTES);
    plan.sources_from = super::SECOND_FLEET_SOURCES;
    Ok(plan)
}

/// The windows so far.
#[derive(Default)]
struct Turns {
    prompt: Vec<Window>,
    slow: Vec<Window>,
    error: Option<String>,
}

impl Turns {
    /// Measures one window of each kind.
    fn take(&mut self, window: &mut impl FnMut(bool) -> Measured) -> Ended {
        for (dawdles, windows) in [(false, &mut self.prompt), (true, &mut self.slow)] {
            let found = window(dawdles);
            windows.extend(found.window);
            self.error = found.publish_error;
            if found.ended != Ended::Done {
                return found.ended;
            }
        }
        Ended::Done
    }
}

fn p99_ratio(prompt: &[Window], slow: &[Window]) -> Option<Estimate> {
    let pairs = prompt.iter().zip(slow);
    let ratios = pairs.map(|(prompt, slow)| slow.delivery.p99_us / prompt.delivery.p99_us);
    Estimate::of(&ratios.collect::<Vec<_>>())
}

impl Report for SlowReport {
    fn title(&self) -> String {
        format!("{} of {} slow at {}", self.slow, self.connections + self.slow, self.profile)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            ("server", format!("{} at {}", self.profile, self.url)),
            ("connections", format!("{} of {}", self.established, self.connections)),
            (
                "slow ones",
                format!(
                    "{} more, {} B/s each; {} ended by the server",
                    self.slow, self.slow_bytes_per_second, self.slow_ended
                ),
            ),
            ("failures", report::failures_text(&self.failures)),
            ("faults", self.faults.text()),
        ];
        rows.extend(self.p99_ratio.map(|ratio| {
            let Estimate { median, low, high, .. } = ratio;
            ("p99, slow/prompt", format!("{median:.3} ({low:.3} to {high:.3})"))
        }));
        rows.extend(self.error.clone().map(|error| ("publishing", error)));
        rows.push(("run", self.ended.to_owned()));
        rows
    }

    fn tables(&self) -> Vec<Table> {
        let head = ["the others' deliveries", "p50 µs", "p99 µs", "p99.9 µs", "max µs"];
        let row = |name: String, window: &Window| {
            let latency = window.delivery;
            let figures = [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us];
            let figures = figures.map(|us| format!("{us:.0}"));
            std::iter::once(name).chain(figures).collect::<Vec<_>>()
        };
        let pairs = self.prompt_windows.iter().zip(&self.slow_windows).enumerate();
        let rows = pairs.flat_map(|(index, (prompt, slow))| {
            [
                row(format!("{}: all prompt", index + 1), prompt),
                row(format!("{}: some slow", index + 1), slow),
            ]
        });
        vec![Table { head: head.map(str::to_owned).to_vec(), rows: rows.collect() }]
    }

    fn charts(&self) -> Vec<Section> {
        let line = |name: &str, windows: &[Window]| {
            windows.last().map(|window| (name.to_owned(), window.quantiles.clone()))
        };
        let prompt = line("all prompt", &self.prompt_windows);
        let slow = line("some slow", &self.slow_windows);
        let title = "Latency of the others' deliveries, last windows";
        vec![report::latency_chart(title, prompt.into_iter().chain(slow).collect())]
    }

    fn warnings(&self) -> Vec<String> {
        Window::warnings_of_all(self.prompt_windows.iter().chain(&self.slow_windows))
    }
}
