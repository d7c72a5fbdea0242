//! Liveness: after the faults and the load, publishing works quickly on every node, every client
//! and every node has reached the top, and no resource has leaked.

use std::collections::HashMap;

use super::Violation;
use crate::history::{History, Micros, Place};

/// Maximum duration of a publication without faults.
const PROBE_MAX: Micros = 1_000_000;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found: Vec<Violation> =
        history.unhealed.iter().map(|text| Violation::whenever(text.clone())).collect();
    found.extend(probes(history));
    let tops = tops(history, &mut found);
    found.extend(clients(history, &tops));
    for usage in history.usages.iter().filter(|usage| usage.after > usage.limit) {
        found.push(Violation::whenever(format!(
            "{} went from {} to {}, where {} is allowed",
            usage.what, usage.before, usage.after, usage.limit
        )));
    }
    found
}

fn probes(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for probe in &history.probes {
        let wrong = match &probe.error {
            Some(error) => format!("failed: {error}"),
            None if probe.took > PROBE_MAX => format!("took {} ms", probe.took / 1000),
            None => continue,
        };
        let channel = history.channel(probe.channel);
        let text = format!("publishing to {channel} through node {} {wrong}", probe.node);
        found.push(Violation::whenever(text));
    }
    found
}

/// Returns each channel's top, and reports nodes that disagree.
fn tops(history: &History, found: &mut Vec<Violation>) -> HashMap<u16, Place> {
    let mut tops: HashMap<u16, (u8, Place)> = HashMap::new();
    for read in &history.finals {
        let (node, top) = *tops.entry(read.channel).or_insert((read.node, read.top));
        if top != read.top {
            found.push(Violation::whenever(format!(
                "the top is {} on node {node}, and {} on node {}",
                history.show(read.channel, top),
                history.show(read.channel, read.top),
                read.node
            )));
        }
    }
    tops.into_iter().map(|(channel, (_, top))| (channel, top)).collect()
}

fn clients(history: &History, tops: &HashMap<u16, Place>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (client, record) in history.clients.iter().enumerate() {
        for (channel, place) in &record.end {
            let name = history.channel(*channel);
            let text = match (place, tops.get(channel)) {
                (None, _) => format!("client {client} is not subscribed to {name}"),
                (Some(place), Some(top)) if place != top => format!(
                    "client {client} stands at {}, and the top is {}",
                    history.show(*channel, *place),
                    history.show(*channel, *top)
                ),
                _ => continue,
            };
            found.push(Violation::whenever(text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;

    #[test]
    fn a_client_that_is_behind_or_gone_is_noticed() {
        let mut history = sound();
        history.clients[0].end = vec![(0, Some(place(0, 3)))];
        assert!(only(check, &history).contains("stands at check:0 old:3"));
        history.clients[0].end = vec![(0, None)];
        assert!(only(check, &history).contains("is not subscribed"));
    }

    #[test]
    fn nodes_that_differ_are_noticed() {
        let mut history = sound();
        history.finals[1].top = place(0, 9);
        assert!(only(check, &history).contains("old:9 on node 1"));
    }

    #[test]
    fn a_slow_or_failed_publication_is_noticed() {
        let mut history = sound();
        history.probes[0].took = 2 * SECOND;
        assert!(only(check, &history).contains("took 2000 ms"));
        history.probes[0].error = Some("result unknown".into());
        assert!(only(check, &history).contains("result unknown"));
    }

    #[test]
    fn a_leak_and_a_node_that_stayed_away_are_noticed() {
        let mut history = sound();
        history.usages[0].after = 31;
        assert!(only(check, &history).contains("from 20 to 31"));
        history.usages.clear();
        history.unhealed.push("node 1 is not ready".into());
        assert!(only(check, &history).contains("node 1 is not ready"));
    }
}
