//! `compare`: several servers stay up and are loaded in turn, window by window, so that whatever
//! else the machine does meets all of them. The ratios of each pair of windows, not the figures
//! themselves, are what can be trusted on a shared machine.

use super::broadcast::{Broadcast, Load, Until};
use super::window::{Faults, Request, Window, measure};
use super::{Stretch, Verdict};
use crate::cli::{CompareArgs, CompareLoad, Contender, Subject};
use crate::error::Error;
use crate::failure::Failures;
use crate::fleet::{Ended, Fleet};
use crate::page::{Bar, BarSeries, Chart, Section, Table, Unit};
use crate::process::Watched;
use crate::publish::Publisher;
use crate::report::{self, Report, Row, linear};
use crate::stats::{Estimate, median};
use serde::Serialize;
use std::time::Duration;

/// Pause before and after each window.
const SETTLE: Duration = Duration::from_millis(300);

/// What is compared, in the order of the table: name, unit, and whether less is better.
const MEASURES: [(Measure, &str, &str, Better); 6] = [
    (Measure::Cpu, "cpu", "CPU µs per delivery", Better::Less),
    (Measure::CpuHandshake, "cpu-handshake", "CPU µs per handshake", Better::Less),
    (Measure::Rate, "rate", "per second", Better::More),
    (Measure::P50, "p50", "p50 µs", Better::Less),
    (Measure::P99, "p99", "p99 µs", Better::Less),
    (Measure::P999, "p99.9", "p99.9 µs", Better::Less),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Cpu,
    CpuHandshake,
    Rate,
    P50,
    P99,
    P999,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    Less,
    More,
}

#[derive(Debug, Serialize)]
struct CompareReport {
    scenario: &'static str,
    load: String,
    connections: usize,
    payload_bytes: usize,
    seconds_per_window: u64,
    servers: Vec<ServerReport>,
    ratios: Vec<Ratio>,
    /// Assertions that do not hold.
    broken_assertions: Vec<String>,
    ended: &'static str,
    passed: bool,
}

/// What one server did.
#[derive(Debug, Serialize)]
struct ServerReport {
    name: String,
    url: String,
    #[serde(flatten)]
    faults: Faults,
    failures: Failures,
    error: Option<String>,
    figures: Vec<Figures>,
}

/// One window.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Figures {
    cpu_us_per_delivery: Option<f64>,
    cpu_us_per_handshake: Option<f64>,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    generator_busiest_thread_share: f64,
}

/// The first server's measure divided by another's, over the pairs of windows.
#[derive(Clone, Debug, Serialize)]
struct Ratio {
    measure: &'static str,
    to: String,
    #[serde(flatten)]
    estimate: Estimate,
}

/// One server while it is compared.
struct Contestant {
    name: String,
    url: String,
    fleet: Fleet,
    broadcast: Option<Broadcast>,
    watched: Option<Watched>,
    request: Request,
    figures: Vec<Figures>,
    due: u64,
    error: Option<String>,
}

/// Runs the scenario and prints what it found.
pub(crate) fn run(args: &CompareArgs) -> Result<Verdict, Error> {
    let load = match args.load {
        CompareLoad::Saturate | CompareLoad::Connect => {
            Load::Closed { outstanding: args.outstanding }
        }
        CompareLoad::Fanout | CompareLoad::Channels => Load::Open { rate: args.rate },
    };
    let request = Request {
        load: load.check()?,
        until: Until::Time(Duration::from_secs(args.seconds.max(1))),
        warmup: args.warmup,
        settle: SETTLE,
    };
    let assertions = args.assert.iter().map(|text| Assertion::parse(text));
    let assertions = assertions.collect::<Result<Vec<_>, _>>()?;
    let mut contestants = Vec::with_capacity(args.servers.len());
    for server in &args.servers {
        contestants.push(Contestant::enter(args, Contender::parse(server)?, request)?);
    }
    let ended = race(args, &mut contestants);
    let mut servers = Vec::with_capacity(contestants.len());
    for contestant in contestants {
        servers.push(contestant.leave(ended)?);
    }
    let ratios = ratios(&servers);
    let broken = assertions.iter().filter(|assertion| !assertion.holds(&ratios));
    let broken_assertions = broken.map(|assertion| assertion.text.clone()).collect::<Vec<_>>();
    let faultless = servers.iter().all(|server| {
        server.error.is_none() && server.faults.count() + server.failures.count() == 0
    });
    let verdict = Verdict::of(ended, faultless && broken_assertions.is_empty());
    let report = CompareReport {
        scenario: "compare",
        load: args.describe(),
        connections: args.common.connections,
        payload_bytes: args.publish.bytes,
        seconds_per_window: args.seconds,
        servers,
        ratios,
        broken_assertions,
        ended: ended.label(),
        passed: verdict == Verdict::Passed,
    };
    report::print(&report, &args.common, verdict)?;
    Ok(verdict)
}

/// Loads all in turn, every other time in reverse.
fn race(args: &CompareArgs, contestants: &mut [Contestant]) -> Ended {
    for pair in 0..args.pairs {
        let mut order = (0..contestants.len()).collect::<Vec<_>>();
        if pair % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let contestant = &mut contestants[index];
            contestant.fleet.set_resting(false);
            let ended = match args.load {
                CompareLoad::Connect => contestant.handshakes(args.common.connections),
                _ => contestant.window(),
            };
            contestant.fleet.set_resting(true);
            if ended != Ended::Done {
                eprintln!("WARNING: {} in pair {}: {}", contestant.name, pair + 1, ended.label());
                return ended;
            }
            contestant.tell(pair + 1);
        }
    }
    Ended::Done
}

impl Contestant {
    /// Connects to a server, unless handshakes are what is measured.
    fn enter(
        args: &CompareArgs,
        contender: Contender,
        mut request: Request,
    ) -> Result<Self, Error> {
        if let (Load::Closed { .. }, Some(outstanding)) = (request.load, contender.outstanding) {
            request.load = Load::Closed { outstanding }.check()?;
        }
        let (mut common, publish) = (args.common.clone(), contender.publish(&args.publish));
        contender.apply(&mut common);
        let channels = if args.load == CompareLoad::Channels { args.channels } else { 1 };
        let mut subject = common.subject(common.connections, channels)?;
        let entrance = publish.entrance(&mut subject)?;
        let Subject { plan, watched, url, .. } = subject;
        let timeout = plan.timeout;
        let mut fleet = Fleet::start(plan)?;
        fleet.set_resting(true);
        let mut broadcast = None;
        if args.load != CompareLoad::Connect {
            let ended = fleet.ramp(common.connections);
            let established = fleet.totals().established;
            if ended != Ended::Done || established != common.connections as u64 {
                let failures = report::failures_text(&fleet.stop()?.failures);
                return Err(Error::Usage(format!(
                    "{}: {established} of {} connections: {failures}",
                    contender.name, common.connections
                )));
            }
            let publisher = Publisher::open(&entrance, timeout)?;
            broadcast = Some(Broadcast::new(publisher, publish.bytes, channels));
        }
        let name = contender.name;
        let figures = Vec::new();
        Ok(Self { name, url, fleet, broadcast, watched, request, figures, due: 0, error: None })
    }

    /// One window of publications.
    fn window(&mut self) -> Ended {
        let Some(broadcast) = &mut self.broadcast else { return Ended::Broken };
        let before = broadcast.published;
        let found = measure(&mut self.fleet, broadcast, self.watched.as_ref(), self.request);
        let published = match found.ended {
            Ended::Interrupted => broadcast.completed.max(before),
            _ => broadcast.published,
        };
        self.due += broadcast.deliveries_due(&self.fleet, before, published);
        self.error = found.publish_error;
        self.figures.extend(found.window.as_ref().map(Figures::of_window));
        found.ended
    }

    /// One window of handshakes: everyone comes, and goes again.
    fn handshakes(&mut self, connections: usize) -> Ended {
        self.fleet.cut();
        let stretch = Stretch::begin(&self.fleet, self.watched.as_ref());
        let ended = self.fleet.ramp(connections);
        let used = stretch.end(&self.fleet, self.watched.as_ref());
        let established = self.fleet.totals().established;
        let handshakes = self.fleet.cut().handshakes.summary();
        let gone = self.fleet.ramp(0);
        self.figures.push(Figures {
            cpu_us_per_delivery: None,
            cpu_us_per_handshake: used
                .server
                .map(|usage| usage.cpu_seconds * 1e6 / established.max(1) as f64),
            per_second: established as f64 / used.seconds,
            p50_us: handshakes.p50_us,
            p99_us: handshakes.p99_us,
            p999_us: handshakes.p999_us,
            generator_busiest_thread_share: used.generator.busiest_thread_share,
        });
        if ended != Ended::Done || gone != Ended::Done {
            return if ended == Ended::Done { gone } else { ended };
        }
        self.fleet.rest(SETTLE)
    }

    /// Tells how the last window went, while others are still to come.
    fn tell(&self, pair: u32) {
        if let Some(figures) = self.figures.last() {
            let cpu = figures.cpu_us_per_delivery.or(figures.cpu_us_per_handshake);
            let cpu = cpu.map(|us| format!("{us:.3} µs CPU, ")).unwrap_or_default();
            eprintln!(
                "pair {pair:2}  {:<14} {cpu}{:.0}/s, p50 {:.0} µs, p99 {:.0} µs",
                self.name, figures.per_second, figures.p50_us, figures.p99_us
            );
        }
    }

    fn leave(self, ended: Ended) -> Result<ServerReport, Error> {
        let outcome = self.fleet.stop()?;
        let faults = match ended {
            // What was under way when it was interrupted is not lost.
            Ended::Interrupted => Faults::new(&outcome, 0),
            _ => Faults::new(&outcome, self.due),
        };
        Ok(ServerReport {
            name: self.name,
            url: self.url,
            faults,
            failures: outcome.failures,
            error: self.error,
            figures: self.figures,
        })
    }
}

impl Figures {
    fn of_window(window: &Window) -> Self {
        Self {
            cpu_us_per_delivery: window
                .server_thread_cpu_us_per_delivery
                .or(window.server_cpu_us_per_delivery),
            cpu_us_per_handshake: None,
            per_second: window.deliveries_per_second,
            p50_us: window.delivery.p50_us,
            p99_us: window.delivery.p99_us,
            p999_us: window.delivery.p999_us,
            generator_busiest_thread_share: window.generator.busiest_thread_share,
        }
    }

    fn get(&self, measure: Measure) -> Option<f64> {
        match measure {
            Measure::Cpu => self.cpu_us_per_delivery,
            Measure::CpuHandshake => self.cpu_us_per_handshake,
            Measure::Rate => Some(self.per_second),
            Measure::P50 => Some(self.p50_us),
            Measure::P99 => Some(self.p99_us),
            Measure::P999 => Some(self.p999_us),
        }
    }
}

/// All ratios of the first server to each of the others.
fn ratios(servers: &[ServerReport]) -> Vec<Ratio> {
    let Some((first, others)) = servers.split_first() else { return Vec::new() };
    let mut ratios = Vec::new();
    for other in others {
        for (measure, name, ..) in MEASURES {
            let pairs = first.figures.iter().zip(&other.figures);
            let quotients =
                pairs.filter_map(|(ours, theirs)| Some(ours.get(measure)? / theirs.get(measure)?));
            let estimate = Estimate::of(&quotients.collect::<Vec<_>>());
            ratios.extend(estimate.map(|estimate| Ratio {
                measure: name,
                to: other.name.clone(),
                estimate,
            }));
        }
    }
    ratios
}

/// A bound on the worse end of a ratio's interval.
struct Assertion {
    text: String,
    /// The other server; all of them unless named.
    to: Option<String>,
    measure: &'static str,
    better: Better,
    bound: f64,
}

impl Assertion {
    /// Reads `cpu=1.05` or `bun:cpu=0.87`.
    fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let names = MEASURES.map(|(_, name, ..)| name).join(", ");
            Error::Usage(format!("--assert {text:?} is not like cpu=1.05 or bun:rate=8; {names}"))
        };
        let (left, bound) = text.split_once('=').ok_or_else(wrong)?;
        let (to, name) = match left.split_once(':') {
            Some((to, name)) => (Some(to.to_owned()), name),
            None => (None, left),
        };
        let found = MEASURES.iter().find(|(_, known, ..)| *known == name);
        let (_, measure, _, better) = *found.ok_or_else(wrong)?;
        let bound = bound.parse().map_err(|_| wrong())?;
        Ok(Self { text: text.to_owned(), to, measure, better, bound })
    }

    /// Whether it holds for the ratios it is about, of which there is at least one.
    fn holds(&self, ratios: &[Ratio]) -> bool {
        let mut about = ratios.iter().filter(|ratio| {
            ratio.measure == self.measure && self.to.as_ref().is_none_or(|to| *to == ratio.to)
        });
        let within = |ratio: &Ratio| match self.better {
            Better::Less => ratio.estimate.high <= self.bound,
            Better::More => ratio.estimate.low >= self.bound,
        };
        about.clone().next().is_some() && about.all(within)
    }
}

impl Report for CompareReport {
    fn title(&self) -> String {
        let names = self.servers.iter().map(|server| server.name.as_str());
        names.collect::<Vec<_>>().join(" and ")
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            ("load", self.load.clone()),
            ("connections", format!("{} to each server", self.connections)),
        ];
        for server in &self.servers {
            let (name, url, faults) = (&server.name, &server.url, server.faults.text());
            rows.push(("server", format!("{name} at {url}: {faults}")));
            rows.extend(server.error.clone().map(|error| ("", error)));
        }
        for assertion in &self.broken_assertions {
            rows.push(("NOT MET", assertion.clone()));
        }
        rows.push(("run", self.ended.to_owned()));
        rows
    }

    fn tables(&self) -> Vec<Table> {
        let others = self
            .servers
            .iter()
            .skip(1)
            .map(|server| format!("{} / {}", self.servers[0].name, server.name));
        let names = self.servers.iter().map(|server| server.name.clone());
        let head = std::iter::once("median".to_owned()).chain(names).chain(others).collect();
        let rows = MEASURES.iter().filter_map(|(measure, name, title, _)| {
            let mut cells = vec![(*title).to_owned()];
            for server in &self.servers {
                let values = server.figures.iter().filter_map(|figures| figures.get(*measure));
                let mut values = values.collect::<Vec<_>>();
                if values.is_empty() {
                    return None;
                }
                cells.push(figure_text(median(&mut values)));
            }
            for other in self.servers.iter().skip(1) {
                let mut found = self.ratios.iter();
                let found = found.find(|ratio| ratio.measure == *name && ratio.to == other.name);
                cells.push(found.map_or_else(String::new, |ratio| {
                    let Estimate { median, low, high, .. } = ratio.estimate;
                    format!("{median:.3} ({low:.3}–{high:.3})")
                }));
            }
            Some(cells)
        });
        vec![Table { head, rows: rows.collect() }]
    }

    fn charts(&self) -> Vec<Section> {
        let mut sections = Vec::new();
        if let Some(first) = self.servers.first().filter(|_| !self.ratios.is_empty()) {
            let measures = MEASURES.iter().map(|(_, name, ..)| *name);
            let known =
                measures.filter(|name| self.ratios.iter().any(|ratio| ratio.measure == *name));
            let known = known.collect::<Vec<_>>();
            let bar = |measure: &str, to: &str| {
                let mut found = self.ratios.iter();
                let found = found.find(|ratio| ratio.measure == measure && ratio.to == to);
                found.map_or(Bar { value: f64::NAN, interval: None }, |ratio| {
                    let Estimate { median, low, high, .. } = ratio.estimate;
                    Bar { value: median, interval: Some((low, high)) }
                })
            };
            let others = self.servers.iter().skip(1).map(|other| BarSeries {
                name: format!("{} / {}", first.name, other.name),
                bars: known.iter().map(|measure| bar(measure, &other.name)).collect(),
            });
            sections.push(Section {
                title: format!("{} against the others", first.name),
                text: Some("Medians of the ratios of each pair, with 90 % intervals.".to_owned()),
                chart: Some(Chart::Bars {
                    y: linear("ratio", Unit::Ratio),
                    labels: known.iter().map(|name| (*name).to_owned()).collect(),
                    series: others.collect(),
                    reference: Some((1.0, "the same".to_owned())),
                }),
                ..Section::default()
            });
        }
        for (measure, _, title, _) in MEASURES {
            let values = |server: &ServerReport| {
                let values = server.figures.iter().filter_map(|figures| figures.get(measure));
                values.collect::<Vec<_>>()
            };
            let estimates = self
                .servers
                .iter()
                .filter_map(|server| Some((server.name.clone(), Estimate::of(&values(server))?)));
            let (labels, estimates): (Vec<_>, Vec<_>) = estimates.unzip();
            if estimates.is_empty() {
                continue;
            }
            let bars = estimates.iter().map(|estimate: &Estimate| Bar {
                value: estimate.median,
                interval: Some((estimate.low, estimate.high)),
            });
            let series = vec![BarSeries { name: title.to_owned(), bars: bars.collect() }];
            let unit = if measure == Measure::Rate { Unit::PerSecond } else { Unit::Microseconds };
            let y = linear(title, unit);
            sections.push(Section {
                title: title.to_owned(),
                chart: Some(Chart::Bars { y, labels, series, reference: None }),
                ..Section::default()
            });
        }
        sections
    }

    fn warnings(&self) -> Vec<String> {
        let busy = self.servers.iter().filter_map(|server| {
            let shares = server.figures.iter();
            let shares = shares.map(|figures| figures.generator_busiest_thread_share);
            let mut shares = shares.collect::<Vec<_>>();
            let share = if shares.is_empty() { 0.0 } else { median(&mut shares) };
            (share > report::BUSY_SHARE_MAX).then(|| {
                format!(
                    "{}: a thread of the generator was {:.0} % busy (median): rates and latencies \
                     are its own limit; CPU per delivery is not touched by that",
                    server.name,
                    share * 100.0
                )
            })
        });
        busy.collect()
    }
}

/// A figure with as many digits as say something.
fn figure_text(value: f64) -> String {
    if value < 100.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, cpu: &[f64]) -> ServerReport {
        let figures = cpu.iter().map(|us| Figures {
            cpu_us_per_delivery: Some(*us),
            per_second: 1.0,
            ..Figures::default()
        });
        ServerReport {
            name: name.to_owned(),
            url: String::new(),
            faults: Faults::default(),
            failures: Failures::default(),
            error: None,
            figures: figures.collect(),
        }
    }

    #[test]
    fn ratios_are_of_pairs_and_assertions_judge_their_worse_end() {
        let ours = server("ours", &[2.0, 4.0, 6.0]);
        let theirs = server("theirs", &[4.0, 8.0, 10.0]);
        let ratios = ratios(&[ours, theirs]);
        let cpu = ratios.iter().find(|ratio| ratio.measure == "cpu").unwrap();
        assert!((cpu.estimate.median - 0.5).abs() < 1e-12);
        assert!((cpu.estimate.high - 0.6).abs() < 1e-12);
        for (text, holds) in [
            ("cpu=0.6", true),
            ("theirs:cpu=0.6", true),
            ("cpu=0.55", false),
            ("rate=1.0", true),
            ("rate=1.1", false),
            ("nobody:cpu=9", false),
            ("cpu-handshake=9", false),
        ] {
            assert_eq!(Assertion::parse(text).unwrap().holds(&ratios), holds, "{text}");
        }
        for text in ["cpu", "cpu=x", "latency=1"] {
            assert!(Assertion::parse(text).is_err(), "{text}");
        }
    }
}
