//! Leases of nodes in Redis: a sorted set by the times at which they end.

use std::collections::HashMap;

use crate::bus::{Keys, Reply};
use crate::limits::{NODE_LEASE, NODE_LOOKS};
use crate::redis::{Link, LinkError, not_an_answer};

/// Renews a lease, if one is named, and returns which leases hold and which have expired, by the
/// clock of Redis.
const LEASE: &str = include_str!("scripts/lease.lua");

/// Claims a lease that has expired.
const CLAIM: &str = include_str!("scripts/claim.lua");

/// Prefix of a lease's name while another node reports the end of its node.
const CLAIMED: &str = "lost:";

/// The name of a lease. It has everything that a survivor needs to know about a lost node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Id of the node.
    pub(crate) uid: String,
    /// When its process started, in milliseconds since 1970; 0 if the name does not contain it.
    pub(crate) boot: u64,
    name: String,
}

impl Lease {
    /// Creates the lease of the node `uid`, whose process started at `boot`.
    pub(crate) fn new(uid: &str, boot: u64) -> Lease {
        Lease { uid: uid.to_owned(), boot, name: format!("{uid}:{boot}") }
    }

    /// Parses the name of a lease, claimed or not.
    fn parse(name: &str) -> Lease {
        let name = name.strip_prefix(CLAIMED).unwrap_or(name);
        let (uid, boot) = name.split_once(':').unwrap_or((name, ""));
        let boot = boot.parse().unwrap_or_default();
        Lease { uid: uid.to_owned(), boot, name: name.to_owned() }
    }

    /// Returns the name of the lease.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns its name while another node reports the end of this lease's node.
    pub(super) fn claimed(&self) -> String {
        format!("{CLAIMED}{}", self.name)
    }
}

/// All leases, by name.
pub(crate) struct Leases {
    /// Leases that hold.
    pub(super) living: Vec<String>,
    /// Leases that have expired.
    pub(super) over: Vec<String>,
    /// Whether the lease that was renewed did not exist before.
    pub(super) new: bool,
}

impl Leases {
    /// Whether the node with this lease is alive.
    pub(crate) fn has_living(&self, lease: &Lease) -> bool {
        self.living.contains(&lease.name)
    }

    /// Whether another node reports the end of the node with this lease.
    pub(super) fn has_claimed(&self, lease: &Lease) -> bool {
        let claimed = lease.claimed();
        self.living.contains(&claimed) || self.over.contains(&claimed)
    }

    /// Whether the lease of this node has expired, and no other node has claimed it.
    pub(super) fn has_expired(&self, uid: &str) -> bool {
        let unclaimed = self.over.iter().filter(|name| !name.starts_with(CLAIMED));
        unclaimed.map(|name| Lease::parse(name).uid).any(|expired| expired == uid)
    }

    /// Whether there is a lease of this node in any state.
    pub(super) fn has_any(&self, uid: &str) -> bool {
        self.living.iter().chain(&self.over).any(|name| Lease::parse(name).uid == uid)
    }

    /// Returns the nodes that are alive.
    pub(super) fn living_uids(&self) -> impl Iterator<Item = &str> {
        let nodes = self.living.iter().filter(|name| !name.starts_with(CLAIMED));
        nodes.map(|name| name.split_once(':').map_or(&name[..], |(uid, _)| uid))
    }
}

/// Renews the lease called `name`, unless that is empty, and returns all leases.
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

/// Claims the expired lease called `name`. Returns `None` if another node was first, or if its node
/// is alive after all.
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

/// Leases that were expired at the last checks, each with the number of checks in a row.
#[derive(Default)]
pub(super) struct Over(HashMap<String, u32>);

impl Over {
    /// Adds the expired leases of one more check. Returns those that were expired in [`NODE_LOOKS`]
    /// checks in a row. One check is not enough: a step of Redis' clock ends all leases, but living
    /// nodes renew theirs.
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
        assert_eq!(over.look(lease()), lease(), "the lease is returned until it is removed");
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
