//! What is left of a node that is gone: one of those that live tells the application, and clears
//! its traces away. Who dies while it does so is followed by another.

use std::rc::Rc;

use super::Bridge;
use super::events::{append, front, unix_millis};
use super::link::{Link, LinkError};
use super::nodes::{self, nodes_key};
use crate::limits::{EVENTS_BATCH_MAX, NODE_LEASE};

const CLAIM: &str = include_str!("../cluster/scripts/claim.lua");

/// What the name of a lease begins with whose node is being buried.
pub(super) const CLAIMED: &str = "lost:";

/// Buries the nodes whose leases have run out, as far as no other node does.
pub(super) async fn run(bridge: Rc<Bridge>, link: Rc<Link>, leases: Vec<String>) {
    for lease in leases {
        if let Err(error) = report_lost(&bridge, &link, &lease).await {
            tracing::warn!(%error, %lease, "the end of a node can't be told yet");
        }
    }
    bridge.nodes.reporting_lost.set(false);
}

async fn report_lost(bridge: &Bridge, link: &Link, lease: &str) -> Result<(), LinkError> {
    let key = nodes_key(&bridge.keys);
    let name = lease.strip_prefix(CLAIMED).unwrap_or(lease);
    let claimed = format!("{CLAIMED}{name}");
    let time = NODE_LEASE.as_millis().to_string();
    let texts = [CLAIM, "1"].map(|text| text.as_bytes().to_vec());
    let args = [lease, &claimed, &time].map(|text| text.as_bytes().to_vec());
    let args = texts.into_iter().chain([key.clone()]).chain(args).collect();
    if link.call("EVAL", &key, args).await?.number() != Some(1) {
        return Ok(()); // Another node was first, or it lives after all.
    }
    let (uid, boot) = name.split_once(':').unwrap_or((name, ""));
    let boot = boot.parse().unwrap_or_default();
    tracing::warn!(node = uid, "a node is gone");
    if bridge.settings.has_events() {
        if !tell_sessions(bridge, link, (uid, boot), &claimed).await? {
            tracing::warn!(node = uid, "it is not: it was heard of again");
            return link
                .call("ZREM", &key, vec![key.clone(), claimed.into_bytes()])
                .await
                .map(drop);
        }
        let mut entry = front("node_lost", (uid, boot));
        entry.extend([b"time".to_vec(), unix_millis().to_string().into_bytes()]);
        append(bridge, link, &[entry]).await?;
    }
    link.call("ZREM", &key, vec![key.clone(), claimed.into_bytes()]).await.map(drop)
}

/// Tells the end of each session in the node's roster, a page after the other. Answers false if the
/// node lives after all: it writes its roster anew then.
async fn tell_sessions(
    bridge: &Bridge,
    link: &Link,
    (uid, boot): (&str, u64),
    claimed: &str,
) -> Result<bool, LinkError> {
    let key = bridge.roster_key(uid);
    let lease = claimed.strip_prefix(CLAIMED).unwrap_or(claimed);
    loop {
        let leases = nodes::look(bridge, link, claimed).await?;
        if leases.living.iter().any(|living| living == lease) {
            return Ok(false);
        }
        let count = EVENTS_BATCH_MAX.to_string().into_bytes();
        let args = vec![key.clone(), count, b"WITHVALUES".to_vec()];
        let page = link.call("HRANDFIELD", &key, args).await?;
        let page = page.list().unwrap_or_default();
        if page.is_empty() {
            return Ok(true);
        }
        let time = unix_millis().to_string();
        let (mut entries, mut told) = (Vec::new(), vec![key.clone()]);
        for pair in page.chunks_exact(2) {
            let text = |at: usize| pair[at].bytes().unwrap_or_default().to_vec();
            let mut entry = front("disconnect", (uid, boot));
            entry.extend([b"client".to_vec(), text(0), b"user".to_vec(), text(1)]);
            let rest = ["code", "0", "reason", "node lost", "lost", "1", "time", &time];
            entry.extend(rest.map(|text| text.as_bytes().to_vec()));
            entries.push(entry);
            told.push(text(0));
        }
        append(bridge, link, &entries).await?;
        link.call("HDEL", &key, told).await?;
    }
}
