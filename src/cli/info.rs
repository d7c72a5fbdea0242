//! `corecast info`: the nodes, their version, numbers, load and delivery times.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::api::{API_HELP, ApiArgs, Call};
use super::failure::Failure;
use super::print::print_line;
use super::table::{Column, table, visible};

/// Arguments of `info`.
#[derive(Debug, Args)]
#[command(after_help = API_HELP)]
pub(super) struct InfoArgs {
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Serialize)]
struct NoParams {}

#[derive(Debug, Deserialize)]
struct Info {
    nodes: Vec<Node>,
}

/// One node, in the words of the API.
#[derive(Debug, Deserialize)]
struct Node {
    name: String,
    version: String,
    num_clients: u64,
    num_channels: u64,
    num_subs: u64,
    uptime: u64,
    process: Process,
    /// Delivery times by window. Older nodes have none.
    #[serde(default)]
    delivery: BTreeMap<String, Delivery>,
}

/// Delivery times in seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Delivery {
    count: u64,
    p50: f64,
    p99: f64,
}

/// The window whose delivery times are shown.
const WINDOW: &str = "1m";

#[derive(Debug, Deserialize)]
struct Process {
    cpu: f64,
    rss: u64,
}

const COLUMNS: [Column; 9] = [
    Column::text("node"),
    Column::number("clients"),
    Column::number("channels"),
    Column::number("subscriptions"),
    Column::number("uptime"),
    Column::number("cpu"),
    Column::number("memory"),
    Column::number("p50"),
    Column::number("p99"),
];

/// Prints a row for each node. The first node is the one that responded.
pub(super) fn run(args: &InfoArgs) -> Result<(), Failure> {
    let purpose = "ask for the nodes".to_owned();
    let result = args.api.call(&Call { method: "info", params: &NoParams {}, purpose })?;
    if args.api.json {
        return print_line(&result);
    }
    let info: Info = args.api.read(&result)?;
    print_line(&nodes_table(&info.nodes))
}

fn nodes_table(nodes: &[Node]) -> String {
    let mut rows: Vec<[String; 9]> = nodes.iter().map(row).collect();
    if nodes.len() > 1 {
        let sum = |of: fn(&Node) -> u64| nodes.iter().map(of).sum::<u64>().to_string();
        // Channels have subscribers on several nodes, so their numbers do not add up.
        rows.push([
            format!("{} nodes", nodes.len()),
            sum(|node| node.num_clients),
            String::new(),
            sum(|node| node.num_subs),
            String::new(),
            String::new(),
            memory(nodes.iter().map(|node| node.process.rss).sum()),
            String::new(),
            String::new(),
        ]);
    }
    let versions: BTreeSet<String> = nodes.iter().map(|node| visible(&node.version)).collect();
    let versions: Vec<String> = versions.into_iter().collect();
    format!(
        "{}\n\nversion {}; p50 and p99 are delivery times of the last minute",
        table(COLUMNS, &rows),
        versions.join(", ")
    )
}

fn row(node: &Node) -> [String; 9] {
    let delivery = node.delivery.get(WINDOW).filter(|found| found.count > 0);
    let time =
        |of: fn(&Delivery) -> f64| delivery.map_or("-".to_owned(), |found| millis(of(found)));
    [
        visible(&node.name),
        node.num_clients.to_string(),
        node.num_channels.to_string(),
        node.num_subs.to_string(),
        uptime(node.uptime),
        format!("{:.0} %", node.process.cpu),
        memory(node.process.rss),
        time(|found| found.p50),
        time(|found| found.p99),
    ]
}

fn millis(seconds: f64) -> String {
    let millis = seconds * 1000.0;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

/// A time in its two largest units.
fn uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        86_400.. => format!("{days}d {}h", hours % 24),
    }
}

fn memory(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_row_and_several_have_a_sum() {
        let node = |name: &str, num_clients| Node {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            num_clients,
            num_channels: 2,
            num_subs: 3,
            uptime: 93_784,
            process: Process { cpu: 12.4, rss: 48 << 20 },
            delivery: BTreeMap::from([
                ("10s".to_owned(), Delivery { count: 1, p50: 9.0, p99: 9.0 }),
                ("1m".to_owned(), Delivery { count: num_clients, p50: 0.00123, p99: 0.0456 }),
            ]),
        };
        let one = nodes_table(&[node("a", 7)]);
        assert_eq!(
            one,
            "node  clients  channels  subscriptions  uptime   cpu  memory     p50    p99\n\
             a           7         2              3   1d 2h  12 %  48 MiB  1.2 ms  46 ms\n\n\
             version 0.1.0; p50 and p99 are delivery times of the last minute"
        );
        let quiet = nodes_table(&[node("a", 0)]);
        assert!(quiet.contains("48 MiB    -    -"), "{quiet}");
        let text = nodes_table(&[node("a", 7), node("\u{1b}b", 5)]);
        let last = text.lines().nth(3).expect("a sum");
        assert!(
            last.starts_with("2 nodes") && last.contains("12") && !last.contains('4'),
            "{text}"
        );
        assert!(text.contains("\\u{1b}b") && text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn a_time_has_two_units() {
        for (seconds, text) in [(5, "5s"), (65, "1m 5s"), (3660, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(uptime(seconds), text);
        }
    }
}
