//! Checks that the resources of nodes and Redis stay constant in a long run. They are sampled all
//! the time, and the medians of two windows at the end are compared.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cluster::Cluster;
use crate::history::Usage;
use crate::process;
use crate::redis::Redis;

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(2);

/// Share of the run after which everything must have reached its final size. Histories, idempotency
/// keys and streams are full by then. The windows are the two halves of the rest.
const WARM_UP: f64 = 0.5;

/// Allowed growth of the second median: a share of the first one, and slack for allocators and for
/// new connections.
const GROWTH: f64 = 0.05;
const RESIDENT_SLACK_KIB: u64 = 2 * 1024;
const REDIS_SLACK_KIB: u64 = 1024;
const DESCRIPTORS_SLACK: u64 = 8;

/// Samples the resources of processes.
pub(crate) struct Sampler {
    /// Numbers of nodes, with their process ids. None of these processes may end.
    nodes: Vec<(u8, i32)>,
    redis: Vec<Redis>,
    samples: Samples,
}

/// Values by resource, each with its time since the start.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    rows: BTreeMap<(String, u64), Vec<(Duration, u64)>>,
}

impl Sampler {
    /// Creates a sampler for the processes that run now.
    ///
    /// # Errors
    /// If a node does not run.
    pub(crate) fn new(cluster: &Cluster) -> anyhow::Result<Sampler> {
        let mut nodes = Vec::new();
        for node in &cluster.nodes {
            nodes.push((node.number, node.process()?.pid()));
        }
        let redis = cluster.redis.iter().map(Redis::seen_from_outside).collect();
        Ok(Sampler { nodes, redis, samples: Samples::default() })
    }

    /// Samples for `length`. Returns the samples.
    pub(crate) async fn run(mut self, length: Duration) -> Samples {
        let (began, mut ticks) = (Instant::now(), interval(PERIOD));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while began.elapsed() < length {
            ticks.tick().await;
            let at = began.elapsed();
            for (node, pid) in &self.nodes {
                // A node that ended by itself is reported at the end of the run.
                let Ok((resident, sockets, descriptors)) = process::usage(*pid) else { continue };
                for (what, slack, value) in [
                    ("resident KiB", RESIDENT_SLACK_KIB, resident),
                    ("sockets", DESCRIPTORS_SLACK, sockets),
                    ("descriptors", DESCRIPTORS_SLACK, descriptors),
                ] {
                    self.samples.note((&format!("{what} of node {node}"), slack), at, value);
                }
            }
            for redis in &self.redis {
                // The server may have been killed.
                let Ok(bytes) = redis.info("memory", "used_memory").await else { continue };
                let what = format!("KiB of Redis at {}", redis.address);
                let kib = bytes.parse::<u64>().unwrap_or(0) / 1024;
                self.samples.note((&what, REDIS_SLACK_KIB), at, kib);
            }
        }
        self.samples
    }
}

impl Samples {
    fn note(&mut self, (what, slack): (&str, u64), at: Duration, value: u64) {
        self.rows.entry((what.to_owned(), slack)).or_default().push((at, value));
    }

    /// Returns the medians of the two windows of a run of `length`, and the limit of the second
    /// one.
    pub(crate) fn usages(&self, length: Duration) -> Vec<Usage> {
        let begin = length.mul_f64(WARM_UP);
        let middle = begin + (length - begin) / 2;
        let mut usages = Vec::new();
        for ((what, slack), samples) in &self.rows {
            let within = |from: Duration, to: Duration| {
                let inside = samples.iter().filter(move |(at, _)| from <= *at && *at < to);
                median(inside.map(|(_, value)| *value).collect())
            };
            let windows = within(begin, middle).zip(within(middle, Duration::MAX));
            let Some((before, after)) = windows else { continue };
            let growth = slack + (GROWTH * before as f64) as u64;
            let what = format!("{what}, by medians of the soak's last quarters,");
            usages.push(Usage { what, before, after, limit: before + growth });
        }
        usages
    }
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(value: impl Fn(u64) -> u64) -> Usage {
        let mut samples = Samples::default();
        for second in 0..1000 {
            samples.note(("KiB", 100), Duration::from_secs(second), value(second));
        }
        samples.usages(Duration::from_secs(1000)).pop().unwrap()
    }

    #[test]
    fn what_grows_in_the_beginning_only_is_flat() {
        let flat = usage(|second| 10_000 * second.min(400));
        assert!(flat.after <= flat.limit, "{flat:?}");
    }

    #[test]
    fn what_grows_all_the_time_is_not_flat() {
        let grown = usage(|second| 10_000 + 10 * second);
        assert!(grown.after > grown.limit, "{grown:?}");
    }

    #[test]
    fn peaks_are_not_growth() {
        let flat = usage(|second| if second % 7 == 0 { 90_000 } else { 10_000 });
        assert_eq!((flat.before, flat.after), (10_000, 10_000));
    }
}
