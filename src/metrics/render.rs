//! Renders the page of metrics. Each scrape sums the counters of all shards.
//!
//! Labels have values from fixed sets, never channels, users or addresses. Otherwise a client could
//! make the page longer.

mod bridge;
mod families;
mod format;

pub use format::Format;

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;

use super::{
    ApiCounters, BridgeCounters, Counter, DeliveryWindows, Descriptors, Percentiles, Process,
    ShardCounters, WINDOWS,
};
use crate::ids::Moment;
use crate::limits::{BUSY_WINDOW_NANOS, METRICS_BYTES_MAX, METRICS_INTERVAL};
use crate::protocol::Protocol;
use crate::reason::{CloseReason, DropReason, Eviction, Refusal};
use families::{Families, by_shard, labelled, unlabelled};

/// A limit of the node that the page shows.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// The name of the metric.
    pub name: &'static str,
    /// What the limit is for.
    pub help: &'static str,
    /// The limit.
    pub value: u64,
}

/// Everything that the page shows.
#[derive(Debug)]
pub struct Sources {
    /// The counters of the shards.
    pub shards: Vec<Arc<ShardCounters>>,
    /// The counters of the bridge, if there is one.
    pub bridge: Option<Arc<BridgeCounters>>,
    /// The counters of the API.
    pub api: Arc<ApiCounters>,
    /// The delivery times of all shards.
    pub delivery: Arc<DeliveryWindows>,
    /// The limits of the node.
    pub bounds: Vec<Bound>,
    /// The descriptor tables of the process.
    pub descriptors: Descriptors,
    /// The clock.
    pub now: fn() -> Moment,
}

/// The page would be longer than [`METRICS_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the page of metrics would be longer than {METRICS_BYTES_MAX} bytes")]
pub struct PageTooLong;

/// All metrics of the node.
#[derive(Debug)]
pub struct Metrics {
    sources: Sources,
    busy: Mutex<BusySamples>,
    /// The last page in each format, and when it was rendered.
    last: Mutex<[Option<(Moment, Bytes)>; 2]>,
}

impl Metrics {
    /// Creates metrics from these sources.
    pub fn new(sources: Sources) -> Metrics {
        Metrics { sources, busy: Mutex::default(), last: Mutex::default() }
    }

    /// Returns the page, rendered at most [`METRICS_INTERVAL`] ago.
    ///
    /// # Errors
    /// See [`PageTooLong`].
    pub fn page(&self, format: Format) -> Result<Bytes, PageTooLong> {
        let now = (self.sources.now)();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut last[format as usize];
        if let Some((at, page)) = slot.as_ref()
            && now.since(*at) < METRICS_INTERVAL
        {
            return Ok(page.clone());
        }
        let page = Bytes::from(self.render(format)?);
        *slot = Some((now, page.clone()));
        Ok(page)
    }

    /// Renders the page.
    ///
    /// # Errors
    /// See [`PageTooLong`].
    pub fn render(&self, format: Format) -> Result<String, PageTooLong> {
        let mut families = Families::new(format);
        self.clients(&mut families);
        self.messages(&mut families);
        self.delivery(&mut families);
        self.memory(&mut families);
        self.shards(&mut families);
        self.bounds(&mut families);
        if let Some(counters) = &self.sources.bridge {
            bridge::encode(counters, &mut families);
        }
        self.process(&mut families);
        let page = families.finish();
        if page.len() > METRICS_BYTES_MAX { Err(PageTooLong) } else { Ok(page) }
    }
}

impl Metrics {
    /// Sums one counter over all shards.
    fn sum(&self, counter: fn(&ShardCounters) -> &Counter) -> u64 {
        self.sources.shards.iter().map(|counters| counter(counters).value()).sum()
    }

    /// Returns one counter of every shard, with the index of the shard.
    fn each(&self, counter: fn(&ShardCounters) -> &Counter) -> impl Iterator<Item = (u64, u64)> {
        let numbered = self.sources.shards.iter().enumerate();
        numbered.map(move |(index, counters)| (index as u64, counter(counters).value()))
    }
}

/// The parts of the page.
impl Metrics {
    fn clients(&self, families: &mut Families) {
        let family = ("corecast_connections", "Open connections.");
        let mut rows = Vec::new();
        for (index, counters) in self.sources.shards.iter().enumerate() {
            for (protocol, counter) in Protocol::ALL.iter().zip(&counters.connections) {
                let labels = [("shard", index.to_string()), ("protocol", protocol.label().into())];
                rows.push((labels, counter.value()));
            }
        }
        families.gauge(family, rows);
        let family = ("corecast_handshaking", "Sockets whose request has no response yet.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.handshaking)));
        let family =
            ("corecast_handshakes", "Requests to open a connection, by result and reason.");
        let refusals = Refusal::ALL.iter().enumerate().map(|(at, refusal)| {
            let counts = self.sources.shards.iter().map(|counters| counters.refusals[at].value());
            (refusal.result(), refusal.details().label, counts.sum::<u64>())
        });
        let ok = ("ok", "none", self.sum(|counters| &counters.handshakes_ok));
        let rows = std::iter::once(ok).chain(refusals);
        families.counter(
            family,
            rows.map(|(result, reason, count)| {
                ([("result", result.to_owned()), ("reason", reason.to_owned())], count)
            }),
        );
        let family = ("corecast_closes", "Closed connections, by reason.");
        let closes = CloseReason::ALL.iter().enumerate().map(|(at, reason)| {
            let count: u64 =
                self.sources.shards.iter().map(|counters| counters.closes[at].value()).sum();
            (reason.details().label, count)
        });
        families.counter(family, labelled("reason", closes));
        let family =
            ("corecast_accept_errors", "Accepts that failed for lack of descriptors or memory.");
        families.counter(family, unlabelled(self.sum(|counters| &counters.accept_errors)));
        let family = ("corecast_inbound_bytes", "Bytes of unfinished messages and requests.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.inbound_bytes)));
        let family = ("corecast_api_requests", "Requests to the API, by method and HTTP status.");
        families.counter(family, self.sources.api.rows());
    }

    fn messages(&self, families: &mut Families) {
        let of_bridge = |counter: fn(&BridgeCounters) -> &Counter| {
            self.sources.bridge.as_ref().map_or(0, |counters| counter(counters).value())
        };
        let family = ("corecast_publications", "Accepted publications, by source.");
        let sources = [
            (
                "api",
                self.sum(|counters| &counters.publications_api)
                    + of_bridge(|c| &c.publications_api),
            ),
            ("client", self.sum(|counters| &counters.publications_client)),
            ("ingest", of_bridge(|counters| &counters.publications_ingest)),
        ];
        families.counter(family, labelled("source", sources));
    }

    fn delivery(&self, families: &mut Families) {
        let family = ("corecast_deliveries", "Publications delivered to subscribers.");
        families.counter(family, by_shard(self.each(|counters| &counters.deliveries)));
        let family = ("corecast_delivered_bytes", "Bytes written to sockets.");
        families.counter(family, by_shard(self.each(|counters| &counters.delivered_bytes)));
        let family = (
            "corecast_delivery_seconds",
            "Time from accepting a publication to writing it to a socket.",
        );
        families.histogram(family, self.sources.shards.iter().map(|counters| &counters.delivery));
        self.delivery_percentiles(families);
        let family = ("corecast_outbox_bytes", "Bytes that wait in outboxes of clients.");
        families.gauge(family, by_shard(self.each(|counters| &counters.outbox_bytes)));
        let family = ("corecast_drops", "Messages that were not delivered, by reason.");
        let drops = DropReason::ALL.iter().enumerate().map(|(at, reason)| {
            let count: u64 =
                self.sources.shards.iter().map(|counters| counters.drops[at].value()).sum();
            (reason.details().label, count)
        });
        families.counter(family, labelled("reason", drops));
        let family =
            ("corecast_recoveries", "Subscriptions that asked for missed publications, by result.");
        let results = [
            ("ok", self.sum(|counters| &counters.recoveries_ok)),
            ("failed", self.sum(|counters| &counters.recoveries_failed)),
        ];
        families.counter(family, labelled("result", results));
    }

    /// Percentiles of recent delivery times. They are for people: those of several nodes can't be
    /// combined, unlike histograms.
    fn delivery_percentiles(&self, families: &mut Families) {
        let family = (
            "corecast_delivery_recent_seconds",
            "Percentiles of the time from accepting a publication to writing it, over the last \
             complete windows. NaN if nothing was delivered.",
        );
        let windows = self.sources.delivery.percentiles((self.sources.now)());
        let rows = WINDOWS.iter().zip(windows).flat_map(|(window, found)| {
            let Percentiles { count, p50, p90, p99, p999 } = found;
            [("50", p50), ("90", p90), ("99", p99), ("99.9", p999)].map(|(percentile, time)| {
                let labels =
                    [("window", window.name.to_owned()), ("percentile", percentile.to_owned())];
                (labels, if count == 0 { f64::NAN } else { time.as_secs_f64() })
            })
        });
        families.gauge(family, rows);
    }

    fn memory(&self, families: &mut Families) {
        let family = ("corecast_history_bytes", "Bytes of all histories in memory.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.history_bytes)));
        let family =
            ("corecast_history_evictions", "Entries that histories dropped early, by reason.");
        let evictions = Eviction::ALL.iter().enumerate().map(|(at, reason)| {
            let count: u64 =
                self.sources.shards.iter().map(|counters| counters.evictions[at].value()).sum();
            (reason.details().label, count)
        });
        families.counter(family, labelled("reason", evictions));
        let family = ("corecast_idempotency_bytes", "Bytes of kept idempotency keys.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.idempotency_bytes)));
        let family = ("corecast_channels", "Channels with subscribers or history.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.channels_home)));
        let family = ("corecast_channels_in_use", "Channels with subscribers.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.channels_in_use)));
        let family = ("corecast_channels_created", "Channels created by clients.");
        families.counter(family, unlabelled(self.sum(|counters| &counters.channels_created)));
        let family = (
            "corecast_channels_refused",
            "New channels refused because of their total number or rate.",
        );
        families.counter(family, unlabelled(self.sum(|counters| &counters.channels_refused)));
        let family = ("corecast_subscriptions", "Subscriptions of all connections.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.subscriptions)));
    }

    fn shards(&self, families: &mut Families) {
        let family = ("corecast_loop_stalls", "Turns of a shard that took longer than 10 ms.");
        families.counter(family, by_shard(self.each(|counters| &counters.loop_stalls)));
        let family = (
            "corecast_shard_busy_ratio",
            "Fraction of time that a shard was busy, since the scrape before last.",
        );
        let busy = self.each(|counters| &counters.busy_nanos).map(|(_, nanos)| nanos).collect();
        let ratios = {
            let mut samples = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            samples.ratios((self.sources.now)().nanos(), busy)
        };
        let rows = ratios.into_iter().enumerate();
        families.gauge(family, rows.map(|(index, ratio)| ([("shard", index.to_string())], ratio)));
        let family = ("corecast_audit_errors", "Inconsistencies found by audits. Each is a bug.");
        families.counter(family, unlabelled(self.sum(|counters| &counters.audit_errors)));
        let family = ("corecast_panics", "Panics that closed one connection. Each is a bug.");
        families.counter(family, unlabelled(self.sum(|counters| &counters.panics)));
    }

    fn bounds(&self, families: &mut Families) {
        for bound in &self.sources.bounds {
            families.gauge((bound.name, bound.help), unlabelled(bound.value));
        }
    }

    fn process(&self, families: &mut Families) {
        let process = Process::read();
        let family = ("process_cpu_seconds", "CPU time of the process in user and kernel mode.");
        families.counter(family, unlabelled(process.cpu_seconds));
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Resident memory of the process.",
                process.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory of the process.",
                process.virtual_bytes,
            ),
            (
                "process_open_fds",
                "Open descriptors in all tables of the process.",
                self.sources.descriptors.open(),
            ),
            (
                "process_max_fds",
                "Maximum number of open descriptors in all tables of the process.",
                self.sources.descriptors.total_max() as u64,
            ),
            ("process_threads", "Threads of the process.", process.threads),
        ];
        for (name, help, value) in gauges {
            families.gauge((name, help), unlabelled(value));
        }
        let family =
            ("process_start_time_seconds", "Time of the start of the process, since 1970.");
        families.gauge(family, unlabelled(process.start_seconds));
        let family = ("corecast_build", "Version of the server.");
        families.info(family, [("version", env!("CARGO_PKG_VERSION").to_owned())]);
    }
}

/// Two earlier readings of the shards' busy time.
#[derive(Debug, Default)]
struct BusySamples {
    /// The reading that ratios refer to.
    older: BusySample,
    /// The last reading that is at least a window newer than `older`.
    newer: BusySample,
}

/// Busy nanoseconds of each shard at a moment. Empty at the start.
#[derive(Clone, Debug, Default)]
struct BusySample {
    at_nanos: u64,
    busy_nanos: Vec<u64>,
}

impl BusySamples {
    /// Returns the share of busy time of each shard since the older reading, from 0 to 1.
    fn ratios(&mut self, at_nanos: u64, busy_nanos: Vec<u64>) -> Vec<f64> {
        let now = BusySample { at_nanos, busy_nanos };
        if at_nanos >= self.newer.at_nanos + BUSY_WINDOW_NANOS {
            self.older = std::mem::replace(&mut self.newer, now.clone());
        }
        let passed = at_nanos.saturating_sub(self.older.at_nanos).max(1) as f64;
        let before = |index: usize| self.older.busy_nanos.get(index).copied().unwrap_or(0);
        let share = |(index, &busy): (usize, &u64)| {
            (busy.saturating_sub(before(index)) as f64 / passed).min(1.0)
        };
        now.busy_nanos.iter().enumerate().map(share).collect()
    }
}

#[cfg(test)]
mod tests;
