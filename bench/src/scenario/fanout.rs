//! `fanout`, `saturate` and `channels`: publish to many subscribers at a fixed rate, as fast as
//! possible, or to many channels in turn. What does a delivery cost, how long does it take, and
//! does each arrive exactly once and in order?

use super::broadcast::{Broadcast, Load};
use super::window::{Faults, Measured, Request, Window, measure, verdict};
use crate::cli::{ChannelsArgs, CommonArgs, FanoutArgs, PublishArgs, SaturateArgs, Subject};
use crate::error::Error;
use crate::failure::Failures;
use crate::fleet::{Ended, Fleet};
use crate::page::Section;
use crate::publish::Publisher;
use crate::report::{self, Report, Row};
use crate::verdict::Verdict;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct FanoutReport {
    scenario: &'static str,
    profile: String,
    url: String,
    connections: usize,
    channels: u32,
    established: u64,
    failures: Failures,
    payload_bytes: usize,
    /// Only in a closed loop.
    outstanding: Option<u32>,
    /// Only in an open loop: requested publications per second.
    rate: Option<f64>,
    /// Faults in the whole run, including the warm-up.
    #[serde(flatten)]
    faults: Faults,
    #[serde(flatten)]
    window: Option<Window>,
    ended: &'static str,
    publish_error: Option<String>,
    passed: bool,
}

/// Runs `fanout` and prints its report.
pub(crate) fn run_fanout(args: &FanoutArgs) -> Result<Verdict, Error> {
    let request = Request::new(Load::Open { rate: args.rate }, &args.window)?;
    run("fanout", &args.common, &args.publish, 1, request)
}

/// Runs `saturate` and prints its report.
pub(crate) fn run_saturate(args: &SaturateArgs) -> Result<Verdict, Error> {
    let request = Request::new(Load::Closed { outstanding: args.outstanding }, &args.window)?;
    run("saturate", &args.common, &args.publish, 1, request)
}

/// Runs `channels` and prints its report.
pub(crate) fn run_channels(args: &ChannelsArgs) -> Result<Verdict, Error> {
    let request = Request::new(Load::Open { rate: args.rate }, &args.window)?;
    run("channels", &args.common, &args.publish, args.channels, request)
}

fn run(
    scenario: &'static str,
    common: &CommonArgs,
    publish: &PublishArgs,
    channels: u32,
    request: Request,
) -> Result<Verdict, Error> {
    let connections = common.connections;
    let mut subject = common.subject(connections, channels)?;
    let entrance = publish.entrance(&mut subject)?;
    let Subject { plan, watched, url, .. } = subject;
    let timeout = plan.timeout;
    let mut fleet = Fleet::start(plan)?;
    let mut ended = fleet.ramp(connections);
    if ended == Ended::Done {
        ended = fleet.rest(request.settle);
    }
    let established = fleet.totals().established;
    let complete = established == connections as u64 || (channels == 1 && established > 0);
    let (mut measured, mut due) = (None, 0);
    if ended == Ended::Done && complete {
        let publisher = Publisher::open(&entrance, timeout)?;
        let mut broadcast = Broadcast::new(publisher, publish.bytes, channels);
        let found = measure(&mut fleet, &mut broadcast, watched.as_ref(), request);
        ended = found.ended;
        due = broadcast.due(ended);
        measured = Some(found);
    }
    let outcome = fleet.stop()?;
    let faults = Faults::new(&outcome, due);
    let Measured { window, publish_error, .. } =
        measured.unwrap_or(Measured { ended, window: None, publish_error: None });
    let verdict = verdict(ended, faults, outcome.failures.count(), publish_error.is_some());
    let report = FanoutReport {
        scenario,
        profile: common.server_name(),
        url,
        connections,
        channels,
        established,
        failures: outcome.failures,
        payload_bytes: publish.bytes,
        outstanding: match request.load {
            Load::Closed { outstanding } => Some(outstanding),
            Load::Open { .. } => None,
        },
        rate: match request.load {
            Load::Open { rate } => Some(rate),
            Load::Closed { .. } => None,
        },
        faults,
        window,
        ended: ended.label(),
        publish_error,
        passed: verdict == Verdict::Passed,
    };
    report::print(&report, common, verdict)?;
    Ok(verdict)
}

impl Report for FanoutReport {
    fn title(&self) -> String {
        format!("{}: {} connections to {}", self.scenario, self.connections, self.profile)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            ("server", format!("{} at {}", self.profile, self.url)),
            ("connections", format!("{} of {}", self.established, self.connections)),
        ];
        if self.channels > 1 {
            rows.push(("channels", self.channels.to_string()));
        }
        rows.push(("failures", report::failures_text(&self.failures)));
        let load = match (self.outstanding, self.rate) {
            (Some(outstanding), _) => format!("{outstanding} outstanding"),
            (None, Some(rate)) => format!("{rate}/s asked for"),
            (None, None) => String::new(),
        };
        rows.push(("load", format!("{} B, {load}", self.payload_bytes)));
        rows.push(("faults", self.faults.text()));
        rows.extend(self.window.iter().flat_map(Window::rows));
        rows.extend(self.publish_error.clone().map(|error| ("publishing", error)));
        rows.push(("run", self.ended.to_owned()));
        rows
    }

    fn charts(&self) -> Vec<Section> {
        self.window.iter().flat_map(|window| window.charts(&self.profile)).collect()
    }

    fn warnings(&self) -> Vec<String> {
        self.window.iter().flat_map(Window::warnings).collect()
    }
}
