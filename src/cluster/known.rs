//! The other nodes that this one knows: their ids, and their names for the log.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::leases::Leases;

/// Nodes by id.
#[derive(Default)]
pub(super) struct Known(BTreeMap<String, Node>);

struct Node {
    name: String,
    /// Whether its lease had expired at the last look.
    is_over: bool,
}

/// The end of a node, with its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The node has given up its lease.
    Stopped(String),
    /// The lease has expired, and a survivor reports the end.
    Lost(String),
}

impl Known {
    /// Returns the ids that are not known yet.
    pub(super) fn unknown<'a>(&self, uids: impl Iterator<Item = &'a str>) -> Vec<String> {
        uids.filter(|uid| !self.0.contains_key(*uid)).map(str::to_owned).collect()
    }

    /// Returns the ids of all known nodes.
    pub(super) fn uids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn add(&mut self, uid: String, name: String) {
        self.0.insert(uid, Node { name, is_over: false });
    }

    /// Compares the known nodes with all leases. Returns the nodes that have ended since the last
    /// look.
    pub(super) fn look(&mut self, leases: &Leases) -> Vec<End> {
        let mut ends = Vec::new();
        self.0.retain(|uid, node| {
            if leases.living_uids().any(|living| living == uid) {
                node.is_over = false;
                return true;
            }
            if leases.has_expired(uid) {
                node.is_over = true;
                return true;
            }
            let name = std::mem::take(&mut node.name);
            let lost = node.is_over || leases.has_any(uid);
            ends.push(if lost { End::Lost(name) } else { End::Stopped(name) });
            false
        });
        ends
    }
}

/// Returns the name in the description of a node.
pub(super) fn name(description: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let named: Named = serde_json::from_str(description).ok()?;
    Some(named.name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(living: &[&str], over: &[&str]) -> Leases {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Leases { living: owned(living), over: owned(over), new: false }
    }

    #[test]
    fn a_node_that_stopped_is_told_from_one_that_is_lost() {
        let mut known = Known::default();
        let alive = leases(&["a:1", "b:1"], &[]);
        for uid in known.unknown(alive.living_uids()) {
            known.add(uid.clone(), format!("name of {uid}"));
        }
        assert!(known.unknown(alive.living_uids()).is_empty());
        assert_eq!(known.look(&alive), []);
        assert_eq!(known.look(&leases(&["b:1"], &["a:1"])), [], "it may renew its lease");
        let lost = [End::Lost("name of a".to_owned())];
        assert_eq!(known.look(&leases(&["b:1", "lost:a:1"], &[])), lost);
        assert_eq!(known.look(&leases(&["b:1"], &[])), [], "it is told once");
        assert_eq!(known.look(&leases(&[], &[])), [End::Stopped("name of b".to_owned())]);
        known.add("c".to_owned(), "name of c".to_owned());
        known.look(&leases(&[], &["c:1"]));
        let lost = [End::Lost("name of c".to_owned())];
        assert_eq!(known.look(&leases(&[], &[])), lost, "another node was quick");
    }

    #[test]
    fn a_name_is_in_the_description() {
        assert_eq!(name(r#"{"uid":"a","name":"n1"}"#).as_deref(), Some("n1"));
        for without in [r#"{"uid":"a","name":""}"#, r#"{"uid":"a"}"#, "nonsense"] {
            assert_eq!(name(without), None);
        }
    }
}
