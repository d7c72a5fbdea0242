//! The measurements of one stretch of publications, in any scenario.

use super::broadcast::{Broadcast, Course, Load, Moment, Until};
use super::{Stretch, Used};
use crate::cli::WindowArgs;
use crate::error::Error;
use crate::fleet::{Cut, Ended, Fleet, Outcome};
use crate::latency::Summary;
use crate::page::{Section, Series, Unit};
use crate::process::{Usage, Watched};
use crate::report::{self, Better, OwnUsage, Row, linear};
use crate::sys;
use crate::verdict::Verdict;
use serde::Serialize;
use std::time::Duration;

/// If the publisher lags by more than this, a warning is printed, because the rate is wrong.
const LAG_MAX_US: f64 = 5_000.0;

/// The parameters of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) load: Load,
    pub(super) until: Until,
    /// Publications before the window that are not measured.
    pub(super) warmup: u32,
    /// Pause before and after the window.
    pub(super) settle: Duration,
}

impl Request {
    pub(super) fn new(load: Load, args: &WindowArgs) -> Result<Self, Error> {
        if args.messages == Some(0) || (args.messages.is_none() && args.seconds == 0) {
            return Err(Error::Usage("--messages and --seconds must be above 0".to_owned()));
        }
        let time = Until::Time(Duration::from_secs(args.seconds));
        let until = args.messages.map_or(time, Until::Count);
        Ok(Self { load: load.check()?, until, warmup: args.warmup, settle: args.settle })
    }
}

/// The figures of one window, without the warm-up.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Window {
    pub(crate) publications: u32,
    pub(crate) deliveries: u64,
    pub(crate) seconds: f64,
    pub(crate) publications_per_second: f64,
    pub(crate) deliveries_per_second: f64,
    /// Times from the due time of a publication (closed loop: from sending) to each receipt.
    pub(crate) delivery: Summary,
    /// Times from the same moment to the last receipt.
    pub(crate) last_delivery: Summary,
    /// How late publications were sent, in an open loop.
    pub(crate) publish_lag: Option<Summary>,
    pub(crate) server: Option<Usage>,
    pub(crate) server_cpu_us_per_delivery: Option<f64>,
    pub(crate) server_thread_cpu_us_per_delivery: Option<f64>,
    pub(crate) generator: OwnUsage,
    /// The longest time that a thread of the generator took for one round of events.
    pub(crate) generator_longest_turn_us: f64,
    pub(crate) moments: Vec<Moment>,
    #[serde(skip)]
    pub(crate) quantiles: Vec<(f64, f64)>,
}

/// A window and the way in which it ended.
pub(super) struct Measured {
    pub(super) ended: Ended,
    pub(super) window: Option<Window>,
    pub(super) publish_error: Option<String>,
}

/// Warms up, publishes, and waits for late repeats.
pub(super) fn measure(
    fleet: &mut Fleet,
    broadcast: &mut Broadcast,
    watched: Option<&Watched>,
    request: Request,
) -> Measured {
    let mut failed = None;
    let mut series = |fleet: &mut Fleet, broadcast: &mut Broadcast, until, course: &mut Course| {
        broadcast.series(fleet, request.load, until, course).unwrap_or_else(|error| {
            failed = Some(error.to_string());
            if sys::interrupted() { Ended::Interrupted } else { Ended::Broken }
        })
    };
    let warmup = Until::Count(request.warmup);
    let mut ended = series(fleet, broadcast, warmup, &mut Course::default());
    if ended != Ended::Done {
        return Measured { ended, window: None, publish_error: failed };
    }
    fleet.cut();
    let received = fleet.totals().received;
    let mut course = Course::default();
    let stretch = Stretch::begin(fleet, watched);
    ended = series(fleet, broadcast, request.until, &mut course);
    let used = stretch.end(fleet, watched);
    let deliveries = fleet.totals().received - received;
    if ended == Ended::Done {
        ended = fleet.rest(request.settle);
    }
    let cut = fleet.cut();
    let window = Window::new(&course, &cut, deliveries, used);
    Measured { ended, window: Some(window), publish_error: failed }
}

impl Window {
    fn new(course: &Course, cut: &Cut, deliveries: u64, used: Used) -> Self {
        let Used { seconds, server, generator } = used;
        let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
        let per_delivery = |seconds: f64| seconds * 1e6 / deliveries.max(1) as f64;
        let lag = course.lag.summary();
        Self {
            publications: course.publications,
            deliveries,
            seconds,
            publications_per_second: per_second(f64::from(course.publications)),
            deliveries_per_second: per_second(deliveries as f64),
            delivery: cut.deliveries.summary(),
            last_delivery: course.last.summary(),
            publish_lag: (lag.count > 0).then_some(lag),
            server,
            server_cpu_us_per_delivery: server.map(|usage| per_delivery(usage.cpu_seconds)),
            server_thread_cpu_us_per_delivery: server
                .and_then(|usage| usage.thread_cpu_seconds)
                .map(per_delivery),
            generator,
            generator_longest_turn_us: cut.longest_turn_ns as f64 / 1e3,
            moments: course.moments.clone(),
            quantiles: cut.deliveries.quantiles(),
        }
    }

    /// Returns the table for people.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            (
                "publications",
                format!("{}, {:.1}/s", self.publications, self.publications_per_second),
            ),
            (
                "deliveries",
                format!(
                    "{} in {:.2} s, {:.0}/s",
                    self.deliveries, self.seconds, self.deliveries_per_second
                ),
            ),
            ("delivery", self.delivery.text()),
            ("to the last", self.last_delivery.text()),
        ];
        rows.extend(self.publish_lag.map(|lag| ("sent late by", lag.text())));
        let turn = self.generator_longest_turn_us / 1e3;
        let own = self.generator.text();
        rows.push(("generator", format!("{own}, longest turn {turn:.1} ms")));
        rows.extend(self.server.map(|server| ("server", report::usage_text(server))));
        let threads = self.server_thread_cpu_us_per_delivery;
        let threads = threads.map(|us| format!(", named threads {us:.3} µs")).unwrap_or_default();
        let whole = self.server_cpu_us_per_delivery;
        rows.extend(whole.map(|us| ("server CPU", format!("{us:.3} µs per delivery{threads}"))));
        rows
    }

    /// Returns charts of latencies by percentile, and of deliveries over time.
    pub(crate) fn charts(&self, name: &str) -> Vec<Section> {
        let line = (name.to_owned(), self.quantiles.clone());
        let moments = self.moments.iter();
        let points = moments.map(|moment| (moment.seconds, moment.deliveries_per_second));
        let series = Series { name: name.to_owned(), points: points.collect() };
        vec![
            report::latency_chart("Latency of deliveries", vec![line]),
            report::line_chart(
                "Deliveries over time",
                Better::More,
                linear("time", Unit::Seconds),
                linear("deliveries", Unit::PerSecond),
                vec![series],
            ),
        ]
    }

    /// Returns reasons to doubt the figures.
    pub(crate) fn warnings(&self) -> Vec<String> {
        Self::warnings_of_all(std::iter::once(self))
    }

    /// Returns reasons to doubt the figures of several windows, each with its worst case.
    pub(crate) fn warnings_of_all<'a>(windows: impl Iterator<Item = &'a Self>) -> Vec<String> {
        let (mut busiest, mut lag_us) = (OwnUsage::default(), 0.0_f64);
        for window in windows {
            if window.generator.busiest_thread_share > busiest.busiest_thread_share {
                busiest = window.generator;
            }
            lag_us = lag_us.max(window.publish_lag.map_or(0.0, |lag| lag.p99_us));
        }
        let mut warnings = busiest.warning().into_iter().collect::<Vec<_>>();
        if lag_us > LAG_MAX_US {
            warnings.push(format!(
                "1 % of publications were sent at least {:.1} ms late: the server or this machine \
                 held up the publisher. Latencies count from the due times.",
                lag_us / 1e3
            ));
        }
        warnings
    }
}

/// Numbers of faulty deliveries in a whole run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) reordered: u64,
}

impl Faults {
    /// Calculates faults from the outcome of all subscribers, when `due` deliveries were expected.
    pub(crate) fn new(outcome: &Outcome, due: u64) -> Self {
        Self {
            lost: due.saturating_sub(outcome.tally.received),
            duplicates: outcome.tally.duplicates,
            reordered: outcome.tally.reordered,
        }
    }

    pub(crate) fn count(self) -> u64 {
        self.lost + self.duplicates + self.reordered
    }

    pub(crate) fn text(self) -> String {
        let Self { lost, duplicates, reordered } = self;
        format!("{lost} lost, {duplicates} duplicate, {reordered} out of order")
    }
}

/// Returns the verdict on faults and failures together.
pub(super) fn verdict(ended: Ended, faults: Faults, failures: u64, refused: bool) -> Verdict {
    Verdict::of(ended, faults.count() + failures == 0 && !refused)
}
