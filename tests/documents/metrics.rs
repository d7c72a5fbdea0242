//! The metrics, from the page for Prometheus.

use std::fmt::Write as _;
use std::sync::Arc;

use corecast::api::Api;
use corecast::ids::Moment;
use corecast::metrics::{
    ApiCounters, BridgeCounters, Descriptors, Format, Metrics, ShardCounters, Sources,
};
use corecast::settings::Settings;

use super::escaped;

/// Labels with numbers that differ between nodes.
const NUMBERED: [(&str, &str); 5] = [
    ("shard", "number of the shard"),
    ("le", "upper bound"),
    ("version", "version"),
    ("method", "method of the API, `batch`, `api`, `metrics`, `live`, `ready`, `page` or `other`"),
    ("status", "HTTP status, or `other`"),
];

/// A family of metrics.
#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    help: String,
    /// Each label with its values.
    labels: Vec<(String, Vec<String>)>,
}

/// Returns the generated part of `metrics.md`.
pub fn page() -> String {
    let alone = families(None);
    let all = families(Some(Arc::new(BridgeCounters::default())));
    let is_alone = |family: &&Family| alone.iter().any(|other| other.name == family.name);
    let (always, with_redis): (Vec<&Family>, Vec<&Family>) = all.iter().partition(is_alone);
    let mut page = String::from("## On every node\n\n");
    table(&mut page, &always);
    page.push_str("\n## With Redis\n\n");
    table(&mut page, &with_redis);
    page
}

fn table(page: &mut String, families: &[&Family]) {
    page.push_str("| metric | type | meaning | labels |\n|---|---|---|---|\n");
    for Family { name, kind, help, labels } in families {
        let labels: Vec<String> = labels.iter().map(describe).collect();
        let (help, labels) = (escaped(help), labels.join("; "));
        writeln!(page, "| `{name}` | {kind} | {help} | {labels} |").expect("a text");
    }
}

fn describe((label, values): &(String, Vec<String>)) -> String {
    match NUMBERED.iter().find(|(name, _)| name == label) {
        Some((_, meaning)) => format!("`{label}`: {meaning}"),
        None => {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{label}`: {}", values.join(", "))
        }
    }
}

fn families(bridge: Option<Arc<BridgeCounters>>) -> Vec<Family> {
    let shards = vec![Arc::new(ShardCounters::default())];
    let metrics = Metrics::new(Sources {
        shards,
        bridge,
        api: Arc::new(ApiCounters::new(["publish"])),
        delivery: Arc::default(),
        bounds: Api::bounds(&Settings::default(), None),
        descriptors: Descriptors::default(),
        now: Moment::default,
    });
    let page = metrics.render(Format::Prometheus).expect("one shard fits a page");
    let mut families: Vec<Family> = Vec::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            let (name, help) = (name.to_owned(), help.to_owned());
            families.push(Family { name, help, ..Family::default() });
            continue;
        }
        let family = families.last_mut().expect("help comes first");
        match line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            Some((_, kind)) => kind.clone_into(&mut family.kind),
            None => family.note_labels(line),
        }
    }
    families
}

impl Family {
    /// Records the labels of a sample.
    fn note_labels(&mut self, sample: &str) {
        let labels = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
        let Some((labels, _)) = labels else { return };
        for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
            let (label, value) = pair.split_once('=').expect("a label has a value");
            let value = value.trim_matches('"').to_owned();
            match self.labels.iter_mut().find(|(known, _)| known == label) {
                Some((_, values)) if values.contains(&value) => {}
                Some((_, values)) => values.push(value),
                None => self.labels.push((label.to_owned(), vec![value])),
            }
        }
    }
}
