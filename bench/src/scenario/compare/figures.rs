//! The figures of a window of a comparison, the ratios of pairs of windows, and assertions on these
//! ratios.

use crate::error::Error;
use crate::failure::Failures;
use crate::report::Better;
use crate::scenario::window::{Faults, Window};
use crate::stats::Estimate;
use serde::Serialize;

/// The compared measures, in the order of the table: name, unit, and whether less is better.
pub(super) const MEASURES: [(Measure, &str, &str, Better); 6] = [
    (Measure::Cpu, "cpu", "CPU µs per delivery", Better::Less),
    (Measure::CpuHandshake, "cpu-handshake", "CPU µs per handshake", Better::Less),
    (Measure::Rate, "rate", "per second", Better::More),
    (Measure::P50, "p50", "p50 µs", Better::Less),
    (Measure::P99, "p99", "p99 µs", Better::Less),
    (Measure::P999, "p99.9", "p99.9 µs", Better::Less),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Cpu,
    CpuHandshake,
    Rate,
    P50,
    P99,
    P999,
}

/// The figures of one window.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) cpu_us_per_delivery: Option<f64>,
    pub(super) cpu_us_per_handshake: Option<f64>,
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) generator_busiest_thread_share: f64,
}

/// The results of one server.
#[derive(Debug, Serialize)]
pub(super) struct ServerReport {
    pub(super) name: String,
    pub(super) url: String,
    #[serde(flatten)]
    pub(super) faults: Faults,
    pub(super) failures: Failures,
    pub(super) error: Option<String>,
    pub(super) figures: Vec<Figures>,
}

/// The first server's measure divided by that of another server, over the pairs of windows.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ratio {
    pub(super) measure: &'static str,
    pub(super) to: String,
    #[serde(flatten)]
    pub(super) estimate: Estimate,
}

impl Figures {
    pub(super) fn of_window(window: &Window) -> Self {
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

    pub(super) fn get(&self, measure: Measure) -> Option<f64> {
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

/// Returns all ratios of the first server to each of the others.
pub(super) fn ratios(servers: &[ServerReport]) -> Vec<Ratio> {
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
pub(super) struct Assertion {
    pub(super) text: String,
    /// The other server, or `None` for all of them.
    pub(super) to: Option<String>,
    pub(super) measure: &'static str,
    better: Better,
    bound: f64,
}

impl Assertion {
    /// Parses `cpu=1.05` or `bun:cpu=0.87`.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let names = MEASURES.map(|(_, name, ..)| name).join(", ");
            Error::Usage(format!("--assert {text:?}: use MEASURE=BOUND, such as cpu=1.05; {names}"))
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

    /// Whether the assertion holds for each of its servers. It does not hold if the ratio is
    /// missing.
    pub(super) fn holds(&self, ratios: &[Ratio], others: &[&str]) -> bool {
        let within = |ratio: &Ratio| match self.better {
            Better::Less => ratio.estimate.high <= self.bound,
            Better::More => ratio.estimate.low >= self.bound,
        };
        let found = |to: &str| {
            let mut ratios = ratios.iter();
            ratios.find(|ratio| ratio.measure == self.measure && ratio.to == to)
        };
        match self.to.as_deref() {
            Some(to) => found(to).is_some_and(within),
            None => !others.is_empty() && others.iter().all(|to| found(to).is_some_and(within)),
        }
    }
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
            assert_eq!(
                Assertion::parse(text).unwrap().holds(&ratios, &["theirs"]),
                holds,
                "{text}"
            );
        }
        let all = Assertion::parse("cpu=0.6").unwrap();
        assert!(!all.holds(&ratios, &["theirs", "a third"]), "one was not measured");
        for text in ["cpu", "cpu=x", "latency=1"] {
            assert!(Assertion::parse(text).is_err(), "{text}");
        }
    }
}
