//! Latencies in a histogram, and the figures that reports show.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Maximum latency: five minutes. Longer ones are recorded as this.
const NANOSECONDS_MAX: u64 = 300_000_000_000;
/// Number of significant decimal digits.
const DIGITS: u8 = 3;

/// Quantiles that a chart shows.
const QUANTILES: [f64; 14] =
    [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

/// Recorded latencies, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    #[expect(clippy::expect_used, reason = "bounds and digits are constants within the limits")]
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, NANOSECONDS_MAX, DIGITS);
        Self { histogram: histogram.expect("constant bounds") }
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
    }

    #[expect(clippy::expect_used, reason = "all histograms here have the same bounds")]
    pub(crate) fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("equal bounds");
    }

    /// Returns quantiles for a chart, in microseconds. They are closer together towards the end.
    pub(crate) fn quantiles(&self) -> Vec<(f64, f64)> {
        if self.histogram.is_empty() {
            return Vec::new();
        }
        let at = |quantile| (quantile, self.histogram.value_at_quantile(quantile) as f64 / 1e3);
        QUANTILES.map(at).to_vec()
    }

    pub(crate) fn summary(&self) -> Summary {
        let micros = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let quantile = |quantile| micros(self.histogram.value_at_quantile(quantile));
        Summary {
            count: self.histogram.len(),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: micros(self.histogram.max()),
        }
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Summary {
    /// Formats the summary as one line.
    pub(crate) fn text(&self) -> String {
        if self.count == 0 {
            return "none".to_owned();
        }
        let Self { p50_us, p90_us, p99_us, p999_us, max_us, .. } = self;
        let [p50, p90, p99, p999, max] =
            [p50_us, p90_us, p99_us, p999_us, max_us].map(|us| time_text(*us));
        format!("p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}")
    }
}

/// Formats microseconds with a suitable unit.
fn time_text(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_merged_parts_are_those_of_all() {
        let (mut low, mut high) = (Latencies::default(), Latencies::default());
        for step in 1..=500_u64 {
            low.record(step * 1000);
            high.record((step + 500) * 1000);
        }
        low.merge(&high);
        let summary = low.summary();
        assert_eq!(summary.count, 1000);
        for (value, expected) in
            [(summary.p50_us, 500.0), (summary.p99_us, 990.0), (summary.max_us, 1000.0)]
        {
            assert!((value - expected).abs() < expected / 500.0, "{value} for {expected}");
        }
    }

    #[test]
    fn times_are_told_with_a_unit_that_suits_them() {
        assert_eq!(time_text(12.4), "12 µs");
        assert_eq!(time_text(1234.0), "1.2 ms");
        assert_eq!(time_text(2_500_000.0), "2.50 s");
        assert_eq!(Latencies::default().summary().text(), "none");
    }

    #[test]
    fn what_is_beyond_the_bounds_counts_as_the_bound() {
        let mut latencies = Latencies::default();
        latencies.record(0);
        latencies.record(u64::MAX);
        assert_eq!(latencies.summary().count, 2);
    }
}
