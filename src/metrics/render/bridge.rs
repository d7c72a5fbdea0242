//! The metrics of the bridge.

use super::families::{Families, labelled, unlabelled};
use crate::metrics::BridgeCounters;

/// Writes the families that exist only with a bus.
pub(super) fn encode(counters: &BridgeCounters, families: &mut Families) {
    let family =
        ("corecast_bus_up", "1 while Redis accepts publications and this node reads them.");
    families.gauge(family, unlabelled(counters.up.value()));
    let family = ("corecast_bus_publications", "Publications to the bus, by result.");
    let results = [
        ("ok", counters.appended.value()),
        ("unavailable", counters.unavailable.value()),
        ("unknown", counters.unknown.value()),
        ("full", counters.full.value()),
    ];
    families.counter(family, labelled("result", results));
    let family = ("corecast_bus_pending_bytes", "Bytes of publications that wait for Redis.");
    families.gauge(family, unlabelled(counters.pending_bytes.value()));
    let family = ("corecast_ingest_active", "Ingest streams that this node reads.");
    families.gauge(family, unlabelled(counters.ingest_active.value()));
    let family = ("corecast_ingest_entries", "Entries of ingest streams, by result.");
    let results = [
        ("published", counters.ingest_published.value()),
        ("repeated", counters.ingest_repeated.value()),
        ("parked", counters.ingest_parked.value()),
        ("deleted", counters.ingest_deleted.value()),
    ];
    families.counter(family, labelled("result", results));
    let family = ("corecast_bus_entries", "Batches read from streams of the bus.");
    families.counter(family, unlabelled(counters.entries.value()));
    let family = ("corecast_bus_malformed", "Batches in a form that no node writes.");
    families.counter(family, unlabelled(counters.malformed.value()));
    let family = ("corecast_bus_gaps", "Number of gaps found in streams.");
    families.counter(family, unlabelled(counters.holes.value()));
    let family = ("corecast_bus_epoch_changes", "Number of new epochs of streams.");
    families.counter(family, unlabelled(counters.epoch_changes.value()));
    let family =
        ("corecast_bus_dropped", "Publications dropped because the queue to a shard was full.");
    families.counter(family, unlabelled(counters.dropped.value()));
    let family = ("corecast_events", "Events for the application, by result.");
    let results = [
        ("written", counters.events_written.value()),
        ("dropped", counters.events_dropped.value()),
    ];
    families.counter(family, labelled("result", results));
    let family = ("corecast_bus_connects", "Connections made to Redis.");
    families.counter(family, unlabelled(counters.connects.value()));
    let family = (
        "corecast_bus_reconnects",
        "Number of times that all connections to Redis were renewed, by reason.",
    );
    let reasons = [("apart", counters.renewals.value()), ("sentinel", counters.switches.value())];
    families.counter(family, labelled("reason", reasons));
    let family = (
        "corecast_bus_lag_seconds",
        "Time from the append of the last batch until it was read, or age of an unread batch.",
    );
    families.gauge(family, unlabelled(counters.lag_millis.value() as f64 / 1e3));
    let family = ("corecast_bridge_cpu_seconds", "CPU time of the thread for Redis.");
    families.counter(family, unlabelled(counters.cpu_nanos.value() as f64 / 1e9));
    let family = ("corecast_bus_history_reads", "Calls that read durable histories from Redis.");
    families.counter(family, unlabelled(counters.history_reads.value()));
    let family = (
        "corecast_history_window_seconds",
        "Time that the stream with the shortest window covers.",
    );
    families.gauge(family, unlabelled(counters.window_seconds.value()));
}
