//! Lost nodes: a surviving node reports their ends to the application and removes their data. If
//! that node is lost as well, another one continues.

use std::cell::Cell;
use std::rc::Rc;

use super::roster;
use super::stream::{Entry, EventStream};
use crate::cluster::{Lease, Nodes};
use crate::limits::EVENTS_BATCH_MAX;
use crate::redis::{Link, LinkError};
use crate::sys::unix_millis;

/// Reports lost nodes; see the module.
pub(crate) struct LostNodes {
    stream: Rc<EventStream>,
    nodes: Rc<Nodes>,
    /// Whether a report is in progress.
    reporting: Cell<bool>,
}

/// Whether a node is lost.
enum Fate {
    Gone,
    /// The node has renewed its lease after all.
    Lives,
}

impl LostNodes {
    /// Creates the state without a report in progress.
    pub(crate) fn new(stream: &Rc<EventStream>, nodes: &Rc<Nodes>) -> LostNodes {
        let (stream, nodes) = (Rc::clone(stream), Rc::clone(nodes));
        LostNodes { stream, nodes, reporting: Cell::new(false) }
    }

    /// Reports the ends of the nodes whose leases, with these names, have expired, unless another
    /// node does. During a report, further calls are ignored, because expired leases are found
    /// again at the next check.
    pub(crate) fn report(lost_nodes: &Rc<LostNodes>, link: Rc<Link>, leases: Vec<String>) {
        if !lost_nodes.reporting.replace(true) {
            tokio::task::spawn_local(Rc::clone(lost_nodes).report_all(link, leases));
        }
    }

    async fn report_all(self: Rc<LostNodes>, link: Rc<Link>, leases: Vec<String>) {
        for name in leases {
            if let Err(error) = self.report_one(&link, &name).await {
                tracing::warn!(%error, lease = name, "could not report the end of a lost node");
            }
        }
        self.reporting.set(false);
    }

    async fn report_one(&self, link: &Link, name: &str) -> Result<(), LinkError> {
        let Some(lease) = self.nodes.claim(link, name).await? else { return Ok(()) };
        tracing::info!(uid = lease.uid, "reporting the end of a lost node: its lease expired");
        if self.stream.settings.has_events() {
            match self.report_sessions(link, &lease).await? {
                Fate::Gone => {
                    let mut entry = Entry::new("node_lost", &lease);
                    entry.add_number("time", unix_millis());
                    self.stream.append(link, &[entry]).await?;
                }
                Fate::Lives => tracing::warn!(
                    node = lease.uid,
                    "a node that counted as lost has renewed its lease"
                ),
            }
        }
        self.nodes.remove_claim(link, &lease).await
    }

    /// Reports the end of each session in the node's roster, page by page. If the node is alive
    /// after all, it writes its roster again.
    async fn report_sessions(&self, link: &Link, lease: &Lease) -> Result<Fate, LinkError> {
        let key = roster::key(self.stream.redis.keys(), &lease.uid);
        loop {
            // The claim is renewed before each page, so that no other node claims the lease during
            // a long report.
            if self.nodes.renew_claim(link, lease).await?.has_living(lease) {
                return Ok(Fate::Lives);
            }
            let count = EVENTS_BATCH_MAX.to_string().into_bytes();
            let args = vec![key.clone(), count, b"WITHVALUES".to_vec()];
            let page = link.call("HRANDFIELD", &key, args).await?;
            let page = page.list().unwrap_or_default();
            if page.is_empty() {
                return Ok(Fate::Gone);
            }
            let time = unix_millis();
            let (mut entries, mut told) = (Vec::new(), vec![key.clone()]);
            for [client, user] in page.as_chunks::<2>().0 {
                let client = client.bytes().unwrap_or_default();
                let mut entry = Entry::new("disconnect", lease);
                entry.add("client", client);
                entry.add("user", user.bytes().unwrap_or_default());
                for (name, value) in [("code", "0"), ("reason", "node lost"), ("lost", "1")] {
                    entry.add(name, value);
                }
                entry.add_number("time", time);
                entries.push(entry);
                told.push(client.to_vec());
            }
            // Events come first: if this node dies in between, they are written twice rather than
            // never.
            self.stream.append(link, &entries).await?;
            link.call("HDEL", &key, told).await?;
        }
    }
}
