//! A strict parser of both formats, which refuses everything that Prometheus would refuse.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::metrics::DurationCounters;

fn now() -> Moment {
    Moment::from_nanos(10_000_000_000)
}

/// Returns the counters of two shards, with small values everywhere.
fn metrics() -> (Vec<Arc<ShardCounters>>, Metrics) {
    let shards: Vec<Arc<ShardCounters>> = (0..2).map(|_| Arc::default()).collect();
    for (index, counters) in shards.iter().enumerate() {
        counters.connections[0].add(3 + index as u64);
        counters.handshakes_ok.add(7);
        (0..3).for_each(|_| counters.refuse(Refusal::ForeignOrigin));
        counters.closes[CloseReason::Slow as usize].add(2);
        counters.publications_api.add(5);
        counters.deliveries.add(100);
        counters.delivery.record(std::time::Duration::from_micros(80), 99);
        counters.delivery.record(std::time::Duration::from_secs(60), 1);
        counters.busy_nanos.set(2_500_000_000);
    }
    let metrics = Metrics::new(sources(shards.clone()));
    (shards, metrics)
}

fn sources(shards: Vec<Arc<ShardCounters>>) -> Sources {
    let api = ApiCounters::new(["publish"]);
    api.count("publish", 401);
    Sources {
        shards,
        bridge: None,
        api: Arc::new(api),
        delivery: Arc::default(),
        bounds: vec![Bound { name: "corecast_connections_max", help: "A limit.", value: 1000 }],
        descriptors: Descriptors { private_tables: 0, table_max: 1024 },
        now,
    }
}

/// Parses a page in the format of Prometheus, more strictly than Prometheus does. Every family has
/// help and type before its samples, which are not separated. Names, labels and values are well
/// formed, and no sample appears twice. Returns the samples by name and labels.
fn read_strictly(page: &str) -> HashMap<String, f64> {
    assert!(page.ends_with('\n'), "the last line ends");
    let mut samples = HashMap::new();
    let (mut families, mut family, mut kind, mut help) = (HashSet::new(), "", "", "");
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').expect("help has a text").0;
            assert!(families.insert(help), "{help} begins twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            (family, kind) = rest.split_once(' ').expect("a type has a name");
            assert_eq!(family, help, "help comes first");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{family} {kind}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').expect("labels end")),
                None => (series, ""),
            };
            let base = match kind {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .expect("a histogram's sample has a suffix"),
                _ => name,
            };
            assert_eq!(base, family, "samples follow the help of their family");
            read_labels(labels);
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
            assert_ne!(value, "inf", "infinity has another form here");
            let value: f64 = value.parse().expect("a number");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
    }
    samples
}

fn read_labels(labels: &str) {
    let mut names = HashSet::new();
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=').expect("a label has a value");
        assert!(names.insert(name), "{name} twice");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        assert!(!value.expect("in quotes").contains(['"', '\\', '\n']));
    }
}

#[test]
fn a_page_can_be_read_strictly_and_sums_the_shards() {
    let (_, metrics) = metrics();
    let page = metrics.render(Format::Prometheus).expect("short enough");
    let samples = read_strictly(&page);
    let table = [
        (r#"corecast_connections{shard="0",protocol="centrifugo"}"#, 3.0),
        (r#"corecast_connections{shard="1",protocol="centrifugo"}"#, 4.0),
        (r#"corecast_connections{shard="1",protocol="plain"}"#, 0.0),
        (r#"corecast_handshakes_total{result="ok",reason="none"}"#, 14.0),
        (r#"corecast_handshakes_total{result="refused",reason="foreign_origin"}"#, 6.0),
        (r#"corecast_handshakes_total{result="full",reason="full"}"#, 0.0),
        (r#"corecast_api_requests_total{method="publish",status="401"}"#, 1.0),
        (r#"corecast_connections_max"#, 1000.0),
        ("process_max_fds", 1024.0),
        (r#"corecast_closes_total{reason="slow"}"#, 4.0),
        (r#"corecast_publications_total{source="api"}"#, 10.0),
        (r#"corecast_deliveries_total{shard="0"}"#, 100.0),
        (r#"corecast_delivery_seconds_bucket{le="0.00005"}"#, 0.0),
        (r#"corecast_delivery_seconds_bucket{le="0.0001"}"#, 198.0),
        (r#"corecast_delivery_seconds_bucket{le="5.0"}"#, 198.0),
        (r#"corecast_delivery_seconds_bucket{le="+Inf"}"#, 200.0),
        ("corecast_delivery_seconds_count", 200.0),
        (r#"corecast_shard_busy_ratio{shard="0"}"#, 0.25),
        (r#"corecast_recoveries_total{result="failed"}"#, 0.0),
        (r#"corecast_drops_total{reason="slow_skip"}"#, 0.0),
        ("corecast_audit_errors_total", 0.0),
        ("corecast_panics_total", 0.0),
        ("corecast_accept_errors_total", 0.0),
        ("corecast_history_bytes", 0.0),
        ("corecast_inbound_bytes", 0.0),
        ("corecast_channels", 0.0),
        ("corecast_channels_in_use", 0.0),
        ("corecast_channels_created_total", 0.0),
        ("corecast_channels_refused_total", 0.0),
        ("corecast_idempotency_bytes", 0.0),
        (r#"corecast_history_evictions_total{reason="bytes"}"#, 0.0),
        ("corecast_subscriptions", 0.0),
        (concat!("corecast_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ];
    for (series, value) in table {
        assert_eq!(samples.get(series), Some(&value), "{series} in\n{page}");
    }
    for series in ["corecast_outbox_bytes", "corecast_loop_stalls_total"] {
        assert!(samples.contains_key(&format!("{series}{{shard=\"1\"}}")), "{series}");
    }
    let seconds = samples["corecast_delivery_seconds_sum"];
    assert!((seconds - 2.0 * (99.0 * 80e-6 + 60.0)).abs() < 1e-6);
    for series in [
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_threads",
        "process_start_time_seconds",
    ] {
        assert!(samples[series] > 0.0, "{series}");
    }
    assert!(samples.contains_key("process_cpu_seconds_total"));
    let recent = r#"corecast_delivery_recent_seconds{window="10s",percentile="99.9"}"#;
    assert!(samples[recent].is_nan(), "nothing was delivered in the last 10 s");
}

/// Renders a page with one family of each type.
fn one_of_each(format: Format) -> String {
    let mut families = Families::new(format);
    families.counter(("a_requests", "Requests."), labelled("code", [("ok", 3_u64), ("no", 0)]));
    families.counter(("a_cpu_seconds", "Time."), unlabelled(1.5));
    families.gauge(("a_used_bytes", "Bytes of \\ and\nlines."), by_shard([(0, 7)].into_iter()));
    families.gauge(("a_share_ratio", "A share."), unlabelled(f64::NAN));
    let times = DurationCounters::default();
    times.record(std::time::Duration::from_millis(43), 2);
    times.record(std::time::Duration::from_secs(60), 1);
    families.histogram(("a_seconds", "Durations."), [&times].into_iter());
    families.info(("a_build", "Version."), [("version", "1 \"a\"".to_owned())]);
    families.finish()
}

/// Removes the buckets that have the same count as the one before, to keep the pages short.
fn without_equal_buckets(page: &str) -> String {
    let (mut last, mut kept) = ("0".to_owned(), String::new());
    for line in page.lines() {
        let (series, count) = line.rsplit_once(' ').unwrap_or((line, ""));
        if !series.contains("_bucket{") {
            "0".clone_into(&mut last);
        } else if last == count {
            continue;
        } else {
            count.clone_into(&mut last);
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

#[test]
fn the_pages_are_those_of_the_two_formats() {
    for (format, golden) in [
        (Format::Prometheus, include_str!("golden/prometheus.txt")),
        (Format::OpenMetrics, include_str!("golden/openmetrics.txt")),
    ] {
        assert_eq!(without_equal_buckets(&one_of_each(format)), golden, "{format:?}");
    }
}

#[test]
fn percentiles_from_the_buckets_are_half_as_large_again_at_most() {
    for pair in DurationCounters::BOUNDS_MICROS.windows(2) {
        assert!(pair[0] < pair[1] && 2 * pair[1] <= 3 * pair[0], "{pair:?}");
    }
}

#[test]
fn a_page_is_rendered_ten_times_a_second_at_most() {
    static NOW: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let clock = || Moment::from_nanos(NOW.load(std::sync::atomic::Ordering::Relaxed));
    let shards = vec![Arc::<ShardCounters>::default()];
    let metrics = Metrics::new(Sources { now: clock, ..sources(shards.clone()) });
    let deliveries = |format| {
        let page = metrics.page(format).expect("short enough");
        let page = String::from_utf8(page.to_vec()).expect("UTF-8");
        let line = page.lines().find(|line| line.starts_with("corecast_deliveries_total{"));
        line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value.to_owned())
    };
    let mut rendered = 0;
    let mut last = None;
    for millis in 0..1000 {
        NOW.store(millis * 1_000_000, std::sync::atomic::Ordering::Relaxed);
        shards[0].deliveries.add(1);
        let found = deliveries(Format::Prometheus);
        rendered += usize::from(last != found);
        last = found;
    }
    assert_eq!(rendered, 10);
    assert_eq!(deliveries(Format::OpenMetrics).as_deref(), Some("1000"), "it is another page");
}

#[test]
fn both_formats_hold_the_same_samples() {
    let (_, metrics) = metrics();
    let page = |format| metrics.render(format).expect("short enough");
    let (open, own) = (page(Format::OpenMetrics), page(Format::Prometheus));
    assert!(open.ends_with("# EOF\n"), "OpenMetrics ends with a mark");
    let samples = |page: &str| -> Vec<String> {
        let series = |line: &str| line.rsplit_once(' ').map(|(series, _)| series.to_owned());
        page.lines().filter(|line| !line.starts_with('#')).filter_map(series).collect()
    };
    assert_eq!(samples(&open), samples(&own));
    let table = [
        ("", Format::Prometheus),
        ("*/*", Format::Prometheus),
        ("text/plain;version=0.0.4", Format::Prometheus),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Format::OpenMetrics),
    ];
    for (accept, format) in table {
        assert_eq!(Format::from_accept(accept), format, "{accept}");
    }
}

#[test]
fn a_busy_share_is_taken_over_a_second_at_least() {
    const SECOND: u64 = 1_000_000_000;
    let mut samples = BusySamples::default();
    assert_eq!(samples.ratios(10 * SECOND, vec![SECOND]), [0.1], "since the start");
    assert_eq!(samples.ratios(20 * SECOND, vec![6 * SECOND]), [0.5], "since the first");
    let again = samples.ratios(20 * SECOND + 1, vec![6 * SECOND + 1]);
    assert!((again[0] - 0.5).abs() < 1e-6, "a second scraper does not shorten the time");
    assert_eq!(samples.ratios(30 * SECOND, vec![16 * SECOND]), [1.0], "since the scrape before");
}

#[test]
fn a_page_has_an_end() {
    let shards = (0..8 * crate::ids::ShardId::COUNT_MAX).map(|_| Arc::default()).collect();
    let page = Metrics::new(sources(shards)).render(Format::Prometheus);
    assert!(page.is_err(), "{} B", page.map_or(0, |page| page.len()));
}

#[test]
fn the_largest_node_fits_a_page() {
    let shards = (0..crate::ids::ShardId::COUNT_MAX).map(|_| Arc::default()).collect();
    let page = Metrics::new(sources(shards)).render(Format::Prometheus).expect("it fits");
    assert!(page.len() > 1 << 20);
}
