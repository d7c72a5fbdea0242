//! Writes families of metrics in both text formats. The lines come from
//! `metrics-exporter-prometheus`. Its recorder is not used, because it keeps each sample until the
//! next scrape.

use std::fmt::Display;

use indexmap::IndexMap;
use metrics::{Key, Label};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{
    write_help_line, write_metric_line, write_type_line,
};

use super::format::Format;
use crate::metrics::DurationCounters;

/// The name of a family, without the suffix of its type, and its help.
pub(super) type Family = (&'static str, &'static str);

/// Endings of names that are units. OpenMetrics names the unit of a family in a line of its own.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// The type of a family.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// A value of 1, whose labels are the information.
    Info,
}

impl Kind {
    /// Returns the suffix of the samples, which Prometheus also has in the name of the family.
    const fn suffix(self) -> Option<&'static str> {
        match self {
            Kind::Counter => Some("total"),
            Kind::Info => Some("info"),
            Kind::Gauge | Kind::Histogram => None,
        }
    }

    /// Returns the name of the type.
    const fn name(self, format: Format) -> &'static str {
        match (self, format) {
            (Kind::Counter, _) => "counter",
            (Kind::Histogram, _) => "histogram",
            (Kind::Info, Format::OpenMetrics) => "info",
            (Kind::Info, Format::Prometheus) | (Kind::Gauge, _) => "gauge",
        }
    }
}

/// A page of families, each with its name and help.
pub(super) struct Families {
    text: String,
    format: Format,
}

impl Families {
    /// Creates an empty page.
    pub(super) fn new(format: Format) -> Families {
        Families { text: String::with_capacity(32 * 1024), format }
    }

    /// Returns the finished page.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    pub(super) fn counter<const LABELS: usize, N: Display>(
        &mut self,
        family: Family,
        rows: impl IntoIterator<Item = ([(&'static str, String); LABELS], N)>,
    ) {
        self.begin(family, Kind::Counter);
        self.rows(family.0, Kind::Counter, rows);
    }

    pub(super) fn gauge<const LABELS: usize, N: Display>(
        &mut self,
        family: Family,
        rows: impl IntoIterator<Item = ([(&'static str, String); LABELS], N)>,
    ) {
        self.begin(family, Kind::Gauge);
        self.rows(family.0, Kind::Gauge, rows);
    }

    /// Writes a family with the value 1, whose labels are the information.
    pub(super) fn info<const LABELS: usize>(
        &mut self,
        family: Family,
        labels: [(&'static str, String); LABELS],
    ) {
        self.begin(family, Kind::Info);
        self.rows(family.0, Kind::Info, [(labels, 1)]);
    }

    /// Writes the sum of `parts` as one histogram.
    pub(super) fn histogram<'c>(
        &mut self,
        family: Family,
        parts: impl Iterator<Item = &'c DurationCounters>,
    ) {
        let mut counts = [0; DurationCounters::BOUNDS_MICROS.len() + 1];
        let mut seconds = 0.0;
        for part in parts {
            let (part_counts, part_seconds) = part.snapshot();
            counts.iter_mut().zip(part_counts).for_each(|(sum, count)| *sum += count);
            seconds += part_seconds;
        }
        self.begin(family, Kind::Histogram);
        let bounds = DurationCounters::BOUNDS_MICROS.iter().map(|&micros| bound(micros));
        let mut below = 0;
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            below += count;
            self.sample(family.0, "bucket", Some(("le", bound)), below);
        }
        self.sample(family.0, "sum", None, seconds);
        self.sample(family.0, "count", None, below);
    }

    /// Writes the lines about a family.
    fn begin(&mut self, (name, help): Family, kind: Kind) {
        let (text, type_name) = (&mut self.text, kind.name(self.format));
        match self.format {
            Format::Prometheus => {
                write_help_line(text, name, None, kind.suffix(), help);
                write_type_line(text, name, None, kind.suffix(), type_name);
            }
            Format::OpenMetrics => {
                write_type_line(text, name, None, None, type_name);
                let ends_with = |unit: &&&str| {
                    name.strip_suffix(**unit).is_some_and(|rest| rest.ends_with('_'))
                };
                if let Some(unit) = UNITS.iter().find(ends_with) {
                    text.push_str("# UNIT ");
                    text.push_str(name);
                    text.push(' ');
                    text.push_str(unit);
                    text.push('\n');
                }
                write_help_line(text, name, None, None, help);
            }
        }
    }

    fn rows<const LABELS: usize, N: Display>(
        &mut self,
        name: &str,
        kind: Kind,
        rows: impl IntoIterator<Item = ([(&'static str, String); LABELS], N)>,
    ) {
        for (labels, value) in rows {
            let labels = labels.into_iter().map(|(name, value)| Label::new(name, value));
            let labels = label_set(labels.collect());
            let no_more = None::<(&'static str, &str)>;
            write_metric_line(&mut self.text, name, kind.suffix(), &labels, no_more, value, None);
        }
    }

    /// Writes one sample of a histogram.
    fn sample(
        &mut self,
        name: &str,
        suffix: &'static str,
        label: Option<(&'static str, String)>,
        value: impl Display,
    ) {
        let none = label_set(Vec::new());
        write_metric_line(&mut self.text, name, Some(suffix), &none, label, value, None);
    }
}

fn label_set(labels: Vec<Label>) -> LabelSet {
    LabelSet::from_key_and_global(&Key::from_parts("", labels), &IndexMap::new())
}

/// Returns a bound in seconds. OpenMetrics requires a point in it.
fn bound(micros: u64) -> String {
    let seconds = micros as f64 / 1e6;
    if micros.is_multiple_of(1_000_000) { format!("{seconds:.1}") } else { seconds.to_string() }
}

/// Returns a metric without labels.
pub(super) fn unlabelled<N>(value: N) -> [([(&'static str, String); 0], N); 1] {
    [([], value)]
}

/// Returns one metric for each value of `label`.
pub(super) fn labelled<N>(
    label: &'static str,
    rows: impl IntoIterator<Item = (&'static str, N)>,
) -> impl Iterator<Item = ([(&'static str, String); 1], N)> {
    rows.into_iter().map(move |(text, value)| ([(label, text.to_owned())], value))
}

/// Returns one metric for each shard.
pub(super) fn by_shard<N>(
    rows: impl Iterator<Item = (u64, N)>,
) -> impl Iterator<Item = ([(&'static str, String); 1], N)> {
    rows.map(|(index, value)| ([("shard", index.to_string())], value))
}
