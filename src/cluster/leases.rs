//! The leases of nodes, as Redis keeps them: a sorted set, by the time at which they end.

use std::collections::HashMap;

use crate::bus::{Keys, Reply};
use crate::limits::{NODE_LEASE, NODE_LOOKS};
use crate::redis::{Link, LinkError, not_an_answer};

/// Renews a lease, if one is named, and says who has one that holds and whose has run out, by the
/// clock of Redis.
const LEASE: &str = include_str!("scripts/lease.lua");

/// Takes over a lease that has run out.
const CLAIM: &str = include_str!("scripts/claim.lua");

/// The name of a lease begins so while another node reports the end of its own.
const CLAIMED: &str = "lost:";

/// Name of a lease: all that a survivor must know of a node that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The node.
    pub(crate) uid: String,
    /// When its process began, in milliseconds since 1970; 0 if the name does not say it.
    pub(crate) boot: u64,
    name: String,
}

impl Lease {
    /// Of the node `uid`, whose process began at `boot`.
    pub(crate) fn new(uid: &str, boot: u64) -> Lease {
        Lease { uid: uid.to_owned(), boot, name: format!("{uid}:{boot}") }
    }

    /// Reads a name, of a lease that is claimed or not.
    fn parse(name: &str) -> Lease {
        let name = name.strip_prefix(CLAIMED).unwrap_or(name);
        let (uid, boot) = name.split_once(':').unwrap_or((name, ""));
        let boot = boot.parse().unwrap_or_default();
        Lease { uid: uid.to_owned(), boot, name: name.to_owned() }
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it is called while another node reports the end of its own.
    pub(super) fn claimed(&self) -> String {
        format!("{CLAIMED}{}", self.name)
    }
}

/// Leases as they are, by their names.
pub(crate) struct Leases {
    /// Those that hold.
    living: Vec<String>,
    /// Those that have run out.
    pub(super) over: Vec<String>,
    /// The one that was renewed was not among them.
    pub(super) new: bool,
}

impl Leases {
    /// Whether the node lives that has this lease.
    pub(crate) fn has_living(&self, lease: &Lease) -> bool {
        self.living.contains(&lease.name)
    }

    /// Whether another node reports the end of the one that has this lease.
    pub(super) fn has_claimed(&self, lease: &Lease) -> bool {
        let claimed = lease.claimed();
        self.living.contains(&claimed) || self.over.contains(&claimed)
    }

    /// The nodes that live.
    pub(super) fn living_uids(&self) -> impl Iterator<Item = &str> {
        let nodes = self.living.iter().filter(|name| !name.starts_with(CLAIMED));
        nodes.map(|name| name.split_once(':').map_or(&name[..], |(uid, _)| uid))
    }
}

/// Renews the lease called `name` unless that is empty; returns all leases.
pub(super) async fn look(keys: &Keys, link: &Link, name: &str) -> Result<Leases, LinkError> {
    let key = nodes_key(keys);
    let time = NODE_LEASE.as_millis().to_string().into_bytes();
    let one = b"1".to_vec();
    let args = vec![LEASE.as_bytes().to_vec(), one, key.clone(), name.as_bytes().to_vec(), time];
    let reply = link.call("EVAL", &key, args).await?;
    let names = |list: &Reply| {
        let names = list.list()?.iter().filter_map(|name| name.text().map(str::to_owned));
        Some(names.collect::<Vec<_>>())
    };
    let leases = match reply.list() {
        Some([living, over, new]) => names(living).zip(names(over)).zip(new.number()),
        _ => None,
    };
    let ((living, over), new) = leases.ok_or_else(|| not_an_answer(&reply))?;
    Ok(Leases { living, over, new: new > 0 })
}

/// Claims the lease called `name`, which has run out; absent if another node was first, or its node
/// lives after all.
pub(super) async fn claim(
    keys: &Keys,
    link: &Link,
    name: &str,
) -> Result<Option<Lease>, LinkError> {
    let key = nodes_key(keys);
    let lease = Lease::parse(name);
    let time = NODE_LEASE.as_millis().to_string();
    let texts = [CLAIM, "1"].map(|text| text.as_bytes().to_vec());
    let args = [name, &lease.claimed(), &time].map(|text| text.as_bytes().to_vec());
    let args = texts.into_iter().chain([key.clone()]).chain(args).collect();
    let is_claimed = link.call("EVAL", &key, args).await?.number() == Some(1);
    Ok(is_claimed.then_some(lease))
}

/// Removes the lease called `name`.
pub(super) async fn remove(keys: &Keys, link: &Link, name: &str) -> Result<(), LinkError> {
    let key = nodes_key(keys);
    link.call("ZREM", &key, vec![key.clone(), name.as_bytes().to_vec()]).await.map(drop)
}

fn nodes_key(keys: &Keys) -> Vec<u8> {
    keys.other("nodes")
}

/// Leases that were over in each of the last looks, and in how many.
#[derive(Default)]
pub(super) struct Over(HashMap<String, u32>);

impl Over {
    /// Takes those that are over in one more look. Returns those that are too often: whoever lives
    /// renews its lease between two looks.
    pub(super) fn look(&mut self, over: Vec<String>) -> Vec<String> {
        let before = std::mem::take(&mut self.0);
        let looks = |lease: &String| before.get(lease).map_or(1, |looks| looks.saturating_add(1));
        self.0 = over.into_iter().map(|lease| (lease.clone(), looks(&lease))).collect();
        let gone = self.0.iter().filter(|(_, looks)| **looks >= NODE_LOOKS);
        gone.map(|(lease, _)| lease.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_over_in_several_looks_in_a_row_before_its_node_is_gone() {
        let lease = || vec!["a:1".to_owned()];
        let mut over = Over::default();
        for _ in 0..2 {
            for _ in 1..NODE_LOOKS {
                assert!(over.look(lease()).is_empty());
            }
            assert!(over.look(vec!["b:1".to_owned()]).is_empty(), "it was renewed");
        }
        for _ in 1..NODE_LOOKS {
            assert!(over.look(lease()).is_empty());
        }
        assert_eq!(over.look(lease()), lease());
        assert_eq!(over.look(lease()), lease(), "until it has been told");
    }

    #[test]
    fn a_lease_says_whose_it_is_also_while_it_is_claimed() {
        let lease = Lease::new("a", 7);
        for name in [lease.name().to_owned(), lease.claimed()] {
            assert_eq!(Lease::parse(&name), lease);
        }
        let odd = Lease::parse("a");
        assert_eq!((&odd.uid[..], odd.boot, odd.name()), ("a", 0, "a"));
        let leases = Leases {
            living: vec!["b:1".to_owned(), lease.claimed()],
            over: Vec::new(),
            new: false,
        };
        assert!(leases.has_claimed(&lease) && !leases.has_living(&lease));
        assert_eq!(leases.living_uids().collect::<Vec<_>>(), ["b"]);
    }
}
