//! Renders the page of metrics. Each scrape sums the counters of all shards.
//!
//! Labels have values from fixed sets, never channels, users or addresses. Otherwise a client could
//! make the page longer.

mod bridge;
mod families;

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{BridgeCounters, Counter, Process, ShardCounters};
use crate::ids::Moment;
use crate::limits::{BUSY_WINDOW_NANOS, METRICS_BYTES_MAX};
use crate::protocol::Protocol;
use crate::reason::{CloseReason, DropReason, Eviction};
use families::{Families, by_shard, labelled, unlabelled};

/// The text formats that a scraper may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Returns the format for a request with this `Accept` header.
    pub fn from_accept(accept: &str) -> Format {
        if accept.contains("application/openmetrics-text") {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }

    /// Returns the value of the `Content-Type` header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics of the node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Creates metrics from the counters of the shards and, if there is one, of the bridge. `now`
    /// is the clock.
    pub fn new(
        shards: Vec<Arc<ShardCounters>>,
        bridge: Option<Arc<BridgeCounters>>,
        now: fn() -> Moment,
    ) -> Metrics {
        let busy = Mutex::new(BusySamples::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Shards { shards, bridge, now, busy }));
        Metrics { registry }
    }

    /// Renders the page.
    ///
    /// # Errors
    /// The page would be longer than [`METRICS_BYTES_MAX`].
    pub fn render(&self, format: Format) -> Result<String, fmt::Error> {
        let mut page = Page { text: String::with_capacity(16 * 1024) };
        text::encode(&mut page, &self.registry)?;
        Ok(match format {
            Format::OpenMetrics => page.text,
            Format::Prometheus => to_prometheus(&page.text),
        })
    }
}

/// A text of bounded length.
struct Page {
    text: String,
}

impl Write for Page {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.text.len() + piece.len() > METRICS_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.text.push_str(piece);
        Ok(())
    }
}

/// Converts OpenMetrics to the text format of Prometheus. In OpenMetrics the name of a family lacks
/// the suffix of its samples, and there are additional types.
fn to_prometheus(open: &str) -> String {
    let mut out = String::with_capacity(open.len() + 1024);
    let mut help = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take() {
                out.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Collects all counters at each scrape.
#[derive(Debug)]
struct Shards {
    shards: Vec<Arc<ShardCounters>>,
    bridge: Option<Arc<BridgeCounters>>,
    now: fn() -> Moment,
    busy: Mutex<BusySamples>,
}

impl Shards {
    /// Sums one counter over all shards.
    fn sum(&self, counter: fn(&ShardCounters) -> &Counter) -> u64 {
        self.shards.iter().map(|counters| counter(counters).value()).sum()
    }

    /// Returns one counter of every shard, with the index of the shard.
    fn each(&self, counter: fn(&ShardCounters) -> &Counter) -> impl Iterator<Item = (u64, u64)> {
        let numbered = self.shards.iter().enumerate();
        numbered.map(move |(index, counters)| (index as u64, counter(counters).value()))
    }
}

impl Collector for Shards {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.encode_clients(&mut families)?;
        self.encode_messages(&mut families)?;
        self.encode_shards(&mut families)?;
        if let Some(counters) = &self.bridge {
            bridge::encode(counters, &mut families)?;
        }
        self.encode_process(&mut families)
    }
}

impl Shards {
    fn encode_clients(&self, families: &mut Families<'_>) -> fmt::Result {
        let family = ("corecast_connections", "Open connections.");
        let mut rows = Vec::new();
        for (index, counters) in self.shards.iter().enumerate() {
            for (protocol, counter) in Protocol::ALL.iter().zip(&counters.connections) {
                let labels = [("shard", index.to_string()), ("protocol", protocol.label().into())];
                rows.push((labels, counter.value()));
            }
        }
        families.gauge(family, rows)?;
        let family = ("corecast_handshaking", "Sockets whose request is not answered yet.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.handshaking)))?;
        let family = ("corecast_handshakes", "Requests to open a connection, by result.");
        let results = [
            ("ok", self.sum(|counters| &counters.handshakes_ok)),
            ("refused", self.sum(|counters| &counters.handshakes_refused)),
            ("timeout", self.sum(|counters| &counters.handshakes_timeout)),
            ("full", self.sum(|counters| &counters.handshakes_full)),
            ("unavailable", self.sum(|counters| &counters.handshakes_unavailable)),
            ("busy", self.sum(|counters| &counters.handshakes_busy)),
            ("gone", self.sum(|counters| &counters.handshakes_gone)),
        ];
        families.counter(family, labelled("result", results))?;
        let family = ("corecast_closes", "Closed connections, by reason.");
        let closes = CloseReason::ALL.iter().enumerate().map(|(at, reason)| {
            let count: u64 = self.shards.iter().map(|counters| counters.closes[at].value()).sum();
            (reason.row().label, count)
        });
        families.counter(family, labelled("reason", closes))?;
        let family =
            ("corecast_accept_errors", "Accepts that failed for lack of descriptors or memory.");
        families.counter(family, unlabelled(self.sum(|counters| &counters.accept_errors)))?;
        let family = ("corecast_inbound_bytes", "Bytes of unfinished messages and requests.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.inbound_bytes)))
    }

    fn encode_messages(&self, families: &mut Families<'_>) -> fmt::Result {
        let of_bridge = |counter: fn(&BridgeCounters) -> &Counter| {
            self.bridge.as_ref().map_or(0, |counters| counter(counters).value())
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
        families.counter(family, labelled("source", sources))?;
        let family = ("corecast_deliveries", "Publications delivered to subscribers.");
        families.counter(family, by_shard(self.each(|counters| &counters.deliveries)))?;
        let family = ("corecast_delivered_bytes", "Bytes written to sockets.");
        families.counter(family, by_shard(self.each(|counters| &counters.delivered_bytes)))?;
        let family = (
            "corecast_delivery_seconds",
            "Time from accepting a publication to writing it to a socket.",
        );
        families.histogram(family, self.shards.iter().map(|counters| &counters.delivery))?;
        let family = ("corecast_outbox_bytes", "Bytes that wait in outboxes of clients.");
        families.gauge(family, by_shard(self.each(|counters| &counters.outbox_bytes)))?;
        let family = ("corecast_drops", "Messages that were not delivered, by reason.");
        let drops = DropReason::ALL.iter().enumerate().map(|(at, reason)| {
            let count: u64 = self.shards.iter().map(|counters| counters.drops[at].value()).sum();
            (reason.row().label, count)
        });
        families.counter(family, labelled("reason", drops))?;
        let family =
            ("corecast_recoveries", "Subscriptions that asked for missed publications, by result.");
        let results = [
            ("ok", self.sum(|counters| &counters.recoveries_ok)),
            ("failed", self.sum(|counters| &counters.recoveries_failed)),
        ];
        families.counter(family, labelled("result", results))?;
        let family = ("corecast_history_bytes", "Bytes of all histories in memory.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.history_bytes)))?;
        let family =
            ("corecast_history_evictions", "Entries that histories dropped early, by reason.");
        let evictions = Eviction::ALL.iter().enumerate().map(|(at, reason)| {
            let count: u64 =
                self.shards.iter().map(|counters| counters.evictions[at].value()).sum();
            (reason.row().label, count)
        });
        families.counter(family, labelled("reason", evictions))?;
        let family = ("corecast_idempotency_bytes", "Bytes of kept idempotency keys.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.idempotency_bytes)))?;
        let family = ("corecast_channels", "Channels with subscribers or history.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.channels_home)))?;
        let family = ("corecast_channels_in_use", "Channels with subscribers.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.channels_in_use)))?;
        let family = ("corecast_channels_created", "Channels created by clients.");
        families.counter(family, unlabelled(self.sum(|counters| &counters.channels_created)))?;
        let family = (
            "corecast_channels_refused",
            "New channels refused because of their total number or rate.",
        );
        families.counter(family, unlabelled(self.sum(|counters| &counters.channels_refused)))?;
        let family = ("corecast_subscriptions", "Subscriptions of all connections.");
        families.gauge(family, unlabelled(self.sum(|counters| &counters.subscriptions)))
    }

    fn encode_shards(&self, families: &mut Families<'_>) -> fmt::Result {
        let family = ("corecast_loop_stalls", "Turns of a shard that took longer than 10 ms.");
        families.counter(family, by_shard(self.each(|counters| &counters.loop_stalls)))?;
        let family = (
            "corecast_shard_busy_ratio",
            "Fraction of time that a shard was busy, since the scrape before last.",
        );
        let busy = self.each(|counters| &counters.busy_nanos).map(|(_, nanos)| nanos).collect();
        let ratios = {
            let mut samples = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            samples.ratios((self.now)().nanos(), busy)
        };
        let rows = ratios.into_iter().enumerate();
        families
            .gauge(family, rows.map(|(index, ratio)| ([("shard", index.to_string())], ratio)))?;
        let family = ("corecast_audit_errors", "Inconsistencies found by audits. Each is a bug.");
        families.counter(family, unlabelled(self.sum(|counters| &counters.audit_errors)))?;
        let family = ("corecast_panics", "Panics that closed one connection. Each is a bug.");
        families.counter(family, unlabelled(self.sum(|counters| &counters.panics)))
    }

    fn encode_process(&self, families: &mut Families<'_>) -> fmt::Result {
        let process = Process::read();
        let family = ("corecast_process_resident_bytes", "Resident memory of the process.");
        families.gauge(family, unlabelled(process.resident_bytes))?;
        let family =
            ("corecast_process_cpu_seconds", "CPU time of the process in user and kernel mode.");
        families.counter(family, unlabelled(process.cpu_seconds))?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        let help = "Version of the server.";
        families
            .0
            .encode_descriptor("corecast_build", help, None, MetricType::Info)?
            .encode_info(&labels)
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
