//! What the bridge counts.

use std::fmt;

use super::families::{Families, labelled, unlabelled};
use crate::metrics::BridgeCounters;

/// Writes the families that there are only where there is a bus.
pub(super) fn encode(counters: &BridgeCounters, families: &mut Families<'_>) -> fmt::Result {
    let family = ("corecast_bus_up", "1 while Redis takes what is published and it is read back.");
    families.gauge(family, unlabelled(counters.up.value()))?;
    let family = ("corecast_bus_publications", "Publications by what became of them on the bus.");
    let results = [
        ("ok", counters.appended.value()),
        ("unavailable", counters.unavailable.value()),
        ("unknown", counters.unknown.value()),
        ("full", counters.full.value()),
    ];
    families.counter(family, labelled("result", results))?;
    let family = ("corecast_bus_pending_bytes", "Bytes of publications that wait for Redis.");
    families.gauge(family, unlabelled(counters.pending_bytes.value()))?;
    let family = ("corecast_ingest_active", "Ingest streams that this node reads.");
    families.gauge(family, unlabelled(counters.ingest_active.value()))?;
    let family = ("corecast_ingest_entries", "Entries of ingest streams by what became of them.");
    let results = [
        ("published", counters.ingest_published.value()),
        ("repeated", counters.ingest_repeated.value()),
        ("parked", counters.ingest_parked.value()),
        ("deleted", counters.ingest_deleted.value()),
    ];
    families.counter(family, labelled("result", results))?;
    let family = ("corecast_bus_entries", "Batches that were read.");
    families.counter(family, unlabelled(counters.entries.value()))?;
    let family = ("corecast_bus_malformed", "Batches that no node can have written.");
    families.counter(family, unlabelled(counters.malformed.value()))?;
    let family = ("corecast_bus_gaps", "Times that a stream was found to miss something.");
    families.counter(family, unlabelled(counters.holes.value()))?;
    let family = ("corecast_bus_epoch_changes", "Times that a stream began a new epoch.");
    families.counter(family, unlabelled(counters.epoch_changes.value()))?;
    let family = ("corecast_bus_dropped", "Publications without room on their way to a shard.");
    families.counter(family, unlabelled(counters.dropped.value()))?;
    let family = ("corecast_events", "Events for the application by what became of them.");
    let results = [
        ("written", counters.events_written.value()),
        ("dropped", counters.events_dropped.value()),
    ];
    families.counter(family, labelled("result", results))?;
    let family = ("corecast_bus_connects", "Connections to Redis that were made.");
    families.counter(family, unlabelled(counters.connects.value()))?;
    let family =
        ("corecast_bus_reconnects", "Times that all connections to Redis were made anew at once.");
    let reasons = [("apart", counters.renewals.value()), ("sentinel", counters.switches.value())];
    families.counter(family, labelled("reason", reasons))?;
    let family = (
        "corecast_bus_lag_seconds",
        "Time from the last batch's append to its reading, or since one is known that is not read.",
    );
    families.gauge(family, unlabelled(counters.lag_millis.value() as f64 / 1e3))?;
    let family = ("corecast_bridge_cpu_seconds", "Processor time of the thread for Redis.");
    families.counter(family, unlabelled(counters.cpu_nanos.value() as f64 / 1e9))?;
    let family = ("corecast_bus_history_reads", "Calls that read durable histories.");
    families.counter(family, unlabelled(counters.history_reads.value()))?;
    let family =
        ("corecast_history_window_seconds", "How far back the stream reaches that reaches least.");
    families.gauge(family, unlabelled(counters.window_seconds.value()))
}
