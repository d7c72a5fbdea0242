//! Writes families of metrics.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::metrics::DurationCounters;

/// A writer of families, each with its name and help.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

/// The name of a family, without the suffix of its type, and its help.
pub(super) type Family = (&'static str, &'static str);

impl Families<'_> {
    pub(super) fn counter<
        const LABELS: usize,
        N: prometheus_client::encoding::EncodeCounterValue,
    >(
        &mut self,
        (name, help): Family,
        rows: impl IntoIterator<Item = ([(&'static str, String); LABELS], N)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            if LABELS == 0 {
                // `encode_family` would write empty braces for a metric without labels.
                family.encode_counter::<NoLabelSet, N, u64>(&value, None)?;
            } else {
                let mut one = family.encode_family(&labels)?;
                one.encode_counter::<NoLabelSet, N, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    pub(super) fn gauge<const LABELS: usize, N: EncodeGaugeValue>(
        &mut self,
        (name, help): Family,
        rows: impl IntoIterator<Item = ([(&'static str, String); LABELS], N)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            if LABELS == 0 {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// Writes the sum of `parts` as one histogram.
    pub(super) fn histogram<'c>(
        &mut self,
        (name, help): Family,
        parts: impl Iterator<Item = &'c DurationCounters>,
    ) -> fmt::Result {
        let mut counts = [0; DurationCounters::BOUNDS_MICROS.len() + 1];
        let mut seconds = 0.0;
        for part in parts {
            let (part_counts, part_seconds) = part.snapshot();
            counts.iter_mut().zip(part_counts).for_each(|(sum, count)| *sum += count);
            seconds += part_seconds;
        }
        let bounds = DurationCounters::BOUNDS_MICROS.iter().map(|&micros| micros as f64 / 1e6);
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        family.encode_histogram::<NoLabelSet>(seconds, counts.iter().sum(), &buckets, None)
    }
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
