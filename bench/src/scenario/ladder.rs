//! `ladder`: increases the number of connections to one server in rungs. Each rung measures the
//! cost of idle connections and of publications to all of them.

use super::broadcast::{Broadcast, Load, Until};
use super::window::{Faults, Request, Window, measure, verdict};
use super::{Stretch, sample};
use crate::cli::{LadderArgs, Subject};
use crate::error::Error;
use crate::failure::Failures;
use crate::fleet::{Ended, Fleet};
use crate::kernel::KernelMemory;
use crate::page::{Section, Series, Table, Unit};
use crate::process::{Usage, Watched};
use crate::publish::Publisher;
use crate::report::{self, Better, Report, Row, bytes_text, linear, logarithmic};
use crate::verdict::Verdict;
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Serialize)]
struct LadderReport {
    scenario: &'static str,
    profile: String,
    url: String,
    established: u64,
    rungs: Vec<Rung>,
    failures: Failures,
    #[serde(flatten)]
    faults: Faults,
    ended: &'static str,
    publish_error: Option<String>,
    passed: bool,
}

/// The measurements of one rung.
#[derive(Debug, Serialize)]
struct Rung {
    connections: u64,
    /// Seconds from the previous rung to this one.
    seconds_to_connect: f64,
    connections_per_second: f64,
    rss_bytes: Option<u64>,
    /// Growth since the start of the ladder.
    user_bytes_per_connection: Option<f64>,
    kernel_bytes_per_connection: Option<f64>,
    /// Usage while nothing was published.
    idle: Option<Usage>,
    window: Option<Window>,
}

/// Runs the scenario and prints its report.
pub(crate) fn run(args: &LadderArgs) -> Result<Verdict, Error> {
    let most = args.rungs.iter().copied().max().unwrap_or(0);
    if args.rungs.is_empty() || !args.rungs.is_sorted_by(|low, high| low < high) {
        return Err(Error::Usage("--rungs must rise, such as 10000,100000".to_owned()));
    }
    let load = Load::Open { rate: args.rate }.check()?;
    let mut subject = args.common.subject(most, 1)?;
    let entrance = args.publish.entrance(&mut subject)?;
    let Subject { plan, watched, url, .. } = subject;
    let timeout = plan.timeout;
    let mut fleet = Fleet::start(plan)?;
    let publisher = Publisher::open(&entrance, timeout)?;
    let mut broadcast = Broadcast::new(publisher, args.publish.bytes, 1);
    let mut ladder = Ladder::new(watched);
    let (mut ended, mut publish_error) = (Ended::Done, None);
    for connections in &args.rungs {
        let is_last = *connections == most;
        let seconds = args.last_seconds.filter(|_| is_last).unwrap_or(args.seconds);
        ended = ladder.climb(args, &mut fleet, *connections);
        if ended != Ended::Done {
            // What was measured of this rung before the end counts as well.
            ladder.rungs.extend(ladder.rung.take());
            break;
        }
        let request = Request {
            load,
            until: Until::Time(Duration::from_secs(seconds)),
            warmup: 1,
            settle: args.settle,
        };
        let found = measure(&mut fleet, &mut broadcast, ladder.watched.as_ref(), request);
        publish_error = found.publish_error;
        ended = found.ended;
        ladder.rungs.extend(ladder.rung.take().map(|rung| Rung { window: found.window, ..rung }));
        if ended != Ended::Done {
            break;
        }
    }
    let established = fleet.totals().established;
    let outcome = fleet.stop()?;
    let faults = Faults::new(&outcome, broadcast.due(ended));
    let verdict = verdict(ended, faults, outcome.failures.count(), publish_error.is_some());
    let report = LadderReport {
        scenario: "ladder",
        profile: args.common.server_name(),
        url,
        established,
        rungs: ladder.rungs,
        failures: outcome.failures,
        faults,
        ended: ended.label(),
        publish_error,
        passed: verdict == Verdict::Passed,
    };
    report::print(&report, &args.common, verdict)?;
    Ok(verdict)
}

/// The rungs so far, and the server's memory at the start.
struct Ladder {
    watched: Option<Watched>,
    rss_bytes: Option<u64>,
    kernel: Option<KernelMemory>,
    /// The current rung, which is not completely measured yet.
    rung: Option<Rung>,
    rungs: Vec<Rung>,
}

impl Ladder {
    fn new(watched: Option<Watched>) -> Self {
        let rss_bytes = sample(watched.as_ref()).map(|sample| sample.rss_bytes);
        let kernel = watched.as_ref().and_then(|_| KernelMemory::read());
        Self { watched, rss_bytes, kernel, rung: None, rungs: Vec::new() }
    }

    /// Opens connections up to `total`, and measures them while idle.
    fn climb(&mut self, args: &LadderArgs, fleet: &mut Fleet, total: usize) -> Ended {
        let watched = self.watched.as_ref();
        let before = fleet.totals().established;
        let mut ended = fleet.ramp(total);
        let seconds_to_connect = fleet.ramp_seconds();
        if ended == Ended::Done {
            ended = fleet.rest(args.settle);
        }
        let connections = fleet.totals().established;
        let rss_bytes = sample(watched).map(|sample| sample.rss_bytes);
        let each = |growth: f64| growth / connections.max(1) as f64;
        let user = rss_bytes.zip(self.rss_bytes).map(|(now, then)| now as f64 - then as f64);
        let kernel = self.kernel.and_then(|then| Some(KernelMemory::read()?.growth(then)));
        let stretch = Stretch::begin(fleet, watched);
        if ended == Ended::Done {
            ended = fleet.rest(args.idle);
        }
        self.rung = Some(Rung {
            connections,
            seconds_to_connect,
            connections_per_second: connections.saturating_sub(before) as f64 / seconds_to_connect,
            rss_bytes,
            user_bytes_per_connection: user.map(each),
            kernel_bytes_per_connection: kernel.map(each),
            // Without the rest there is nothing to relate the usage to.
            idle: stretch.end(fleet, watched).server.filter(|_| ended == Ended::Done),
            window: None,
        });
        ended
    }
}

impl Report for LadderReport {
    fn title(&self) -> String {
        format!("Up to {} connections to {}", self.established, self.profile)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            ("server", format!("{} at {}", self.profile, self.url)),
            ("connections", self.established.to_string()),
            ("failures", report::failures_text(&self.failures)),
            ("faults", self.faults.text()),
        ];
        rows.extend(self.publish_error.clone().map(|error| ("publishing", error)));
        rows.push(("run", self.ended.to_owned()));
        rows
    }

    fn tables(&self) -> Vec<Table> {
        // Two tables, because one would be wider than a terminal.
        let idle = ["connections", "to connect", "per s", "RSS", "user B", "kernel B", "idle CPU"];
        let loaded = ["connections", "CPU", "deliveries/s", "p50 ms", "p99 ms", "last p50 ms"];
        let table = |head: &[&str], cells: fn(&Rung) -> Vec<String>| Table {
            head: head.iter().map(|&name| name.to_owned()).collect(),
            rows: self.rungs.iter().map(cells).collect(),
        };
        vec![table(&idle, Rung::idle_cells), table(&loaded, Rung::loaded_cells)]
    }

    fn charts(&self) -> Vec<Section> {
        let series = |name: &str, figure: fn(&Rung) -> Option<f64>| {
            let points = self.rungs.iter();
            let points = points.map(|rung| (rung.connections as f64, figure(rung)));
            let points = points.map(|(x, y)| (x, y.unwrap_or(f64::NAN)));
            Series { name: name.to_owned(), points: points.collect() }
        };
        vec![
            report::line_chart(
                "Memory",
                Better::Less,
                logarithmic("connections", Unit::Count),
                logarithmic("memory", Unit::Bytes),
                vec![
                    series("user", |rung| rung.of_all(rung.user_bytes_per_connection)),
                    series("kernel", |rung| rung.of_all(rung.kernel_bytes_per_connection)),
                ],
            ),
            report::line_chart(
                "Processor time of the server",
                Better::Less,
                logarithmic("connections", Unit::Count),
                linear("of one processor", Unit::Percent),
                vec![
                    series("idle", |rung| rung.idle.map(|usage| usage.cpu_share * 100.0)),
                    series("publishing", |rung| {
                        rung.window.as_ref()?.server.map(|usage| usage.cpu_share * 100.0)
                    }),
                ],
            ),
            report::latency_chart(
                "Latency of deliveries",
                self.rungs
                    .iter()
                    .filter_map(|rung| {
                        let quantiles = rung.window.as_ref()?.quantiles.clone();
                        Some((format!("{} connections", rung.connections), quantiles))
                    })
                    .collect(),
            ),
        ]
    }

    fn warnings(&self) -> Vec<String> {
        Window::warnings_of_all(self.rungs.iter().filter_map(|rung| rung.window.as_ref()))
    }
}

impl Rung {
    /// Multiplies a figure per connection by the number of connections.
    fn of_all(&self, each: Option<f64>) -> Option<f64> {
        each.map(|bytes| bytes * self.connections as f64)
    }

    /// Cells of the connections while nothing is published: memory is per connection.
    fn idle_cells(&self) -> Vec<String> {
        let bytes = |bytes: Option<f64>| bytes.map_or_else(unknown, |bytes| format!("{bytes:.0}"));
        vec![
            self.connections.to_string(),
            format!("{:.1} s", self.seconds_to_connect),
            format!("{:.0}", self.connections_per_second),
            self.rss_bytes.map_or_else(unknown, bytes_text),
            bytes(self.user_bytes_per_connection),
            bytes(self.kernel_bytes_per_connection),
            self.idle.map_or_else(unknown, percent),
        ]
    }

    /// Cells of the publications.
    fn loaded_cells(&self) -> Vec<String> {
        let window =
            |figure: fn(&Window) -> String| self.window.as_ref().map_or_else(unknown, figure);
        let loaded = self.window.as_ref().and_then(|window| window.server);
        vec![
            self.connections.to_string(),
            loaded.map_or_else(unknown, percent),
            window(|window| format!("{:.0}", window.deliveries_per_second)),
            window(|window| format!("{:.1}", window.delivery.p50_us / 1e3)),
            window(|window| format!("{:.1}", window.delivery.p99_us / 1e3)),
            window(|window| format!("{:.1}", window.last_delivery.p50_us / 1e3)),
        ]
    }
}

fn unknown() -> String {
    "-".to_owned()
}

fn percent(usage: Usage) -> String {
    format!("{:.1} %", usage.cpu_share * 100.0)
}
