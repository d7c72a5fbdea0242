//! Which nodes there are: each holds a lease in Redis, with its description beside it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tokio::time::Instant;

use super::link::{Link, LinkError};
use super::standing::Witness;
use super::writer::not_an_answer;
use super::{Backoff, Bridge, cluster, ingest, lost_nodes};
use crate::bus::{Keys, Reply};
use crate::limits::{
    BUS_CALL_TIMEOUT, CLUSTER_TIMEOUT, NODE_GRACE, NODE_LEASE, NODE_LOOKS, NODE_RENEWAL,
    RETRY_INTERVAL,
};
use crate::mesh::ClusterAnswer;

/// Renews a lease, if one is named, and says who has one that holds and whose has run out, by the
/// clock of Redis.
const LEASE: &str = include_str!("scripts/lease.lua");

/// What other nodes are told of this one.
pub struct NodeCard {
    /// Differs from node to node and from start to start.
    pub uid: String,
    /// When the process began, in milliseconds since 1970.
    pub boot: u64,
    /// How `info` shows it, as JSON.
    pub describe: Box<dyn Fn() -> String + Send>,
}

/// This node among the others.
pub(super) struct Nodes {
    pub(super) member: NodeCard,
    /// The connection for what is said to other nodes and of them, while there is one.
    link: RefCell<Option<Rc<Link>>>,
    /// Streams of this node's that are being read: it counts as alive when it can be spoken to.
    pub(super) listening: Cell<u8>,
    /// From when on leases that have run out are taken for nodes that are gone.
    buries_from: Cell<Option<Instant>>,
    /// When the lease was last known to be renewed.
    renewed: Cell<Option<Instant>>,
    /// Leases that were over in the last looks.
    over: RefCell<Over>,
    /// This node was taken for gone, and what is kept of it in Redis must be written anew.
    buried: Cell<bool>,
    /// The ends of other nodes are being told.
    pub(super) reporting_lost: Cell<bool>,
    /// This node stops, and holds no lease any more.
    leaving: Cell<bool>,
}

impl Nodes {
    pub(super) fn new(member: NodeCard) -> Nodes {
        Nodes {
            member,
            link: RefCell::new(None),
            listening: Cell::new(0),
            buries_from: Cell::new(None),
            renewed: Cell::new(None),
            over: RefCell::default(),
            buried: Cell::new(false),
            reporting_lost: Cell::new(false),
            leaving: Cell::new(false),
        }
    }

    pub(super) fn link(&self) -> Option<Rc<Link>> {
        self.link.borrow().clone()
    }

    /// The connection, for which a request waits a little: Redis may be on its way back.
    pub(super) async fn linked(&self, deadline: Instant) -> Option<Rc<Link>> {
        while self.link().is_none() && Instant::now() < deadline {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        self.link()
    }

    /// This node could not renew its lease for a while, or begins. Others may not have been able to
    /// either, and get the time to do so.
    fn watch_anew(&self) {
        let grace = if self.buries_from.get().is_some() { NODE_GRACE } else { NODE_LEASE };
        self.buries_from.set(Some(Instant::now() + grace));
    }

    /// Whether others know of this node, and so will miss it.
    pub(super) fn is_known(&self) -> bool {
        self.renewed.get().is_some()
    }

    /// Whether this node stops.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Whether a lease that has run out means that its node is gone.
    fn may_report_lost(&self) -> bool {
        self.buries_from.get().is_some_and(|from| Instant::now() >= from)
    }

    /// How the lease is called: what a survivor must know of a node that is gone.
    fn lease(&self) -> String {
        format!("{}:{}", self.member.uid, self.member.boot)
    }
}

/// Leases that were over in each of the last looks, and in how many.
#[derive(Default)]
struct Over(HashMap<String, u32>);

impl Over {
    /// Takes those that are over in one more look. Answers those that are too often: whoever lives
    /// renews its lease between two looks.
    fn look(&mut self, over: Vec<String>) -> Vec<String> {
        let before = std::mem::take(&mut self.0);
        let looks = |lease: &String| before.get(lease).map_or(1, |looks| looks.saturating_add(1));
        self.0 = over.into_iter().map(|lease| (lease.clone(), looks(&lease))).collect();
        let gone = self.0.iter().filter(|(_, looks)| **looks >= NODE_LOOKS);
        gone.map(|(lease, _)| lease.clone()).collect()
    }
}

/// A sorted set: leases by the time at which they end.
pub(super) fn nodes_key(keys: &Keys) -> Vec<u8> {
    keys.other("nodes")
}

fn node_key(keys: &Keys, uid: &str) -> Vec<u8> {
    keys.other(&format!("node:{uid}"))
}

/// Holds the lease: for ever.
pub(super) async fn run(bridge: Rc<Bridge>) {
    let (mut backoff, witness) = (Backoff::new(), Witness::default());
    loop {
        let linked = match Link::connect(&bridge, BUS_CALL_TIMEOUT).await {
            Ok(link) => witness.verify(&bridge, &link).await.map(|()| link),
            Err(error) => Err(error),
        };
        match linked {
            Ok(link) => {
                let link = Rc::new(link);
                bridge.nodes.link.replace(Some(Rc::clone(&link)));
                let error = hold(&bridge, (&link, &witness), &mut backoff).await;
                bridge.nodes.link.take();
                tracing::warn!(%error, "other nodes can't be reached");
            }
            Err(error) => tracing::debug!(%error, "other nodes can't be reached"),
        }
        backoff.pause().await;
    }
}

async fn hold(
    bridge: &Rc<Bridge>,
    (link, witness): (&Rc<Link>, &Witness),
    backoff: &mut Backoff,
) -> LinkError {
    let mut renewed = None::<Instant>;
    loop {
        if link.is_over() {
            return LinkError::Lost("the connection has ended".to_owned());
        }
        if let Err(error) = witness.verify_in_time(bridge, link).await {
            return error;
        }
        let due = renewed.is_none_or(|at| at.elapsed() >= NODE_RENEWAL);
        let nodes = &bridge.nodes;
        if due && nodes.listening.get() == cluster::STREAMS && !nodes.leaving.get() {
            let leases = match renew(bridge, link).await {
                Ok(leases) => leases,
                Err(error) => return error,
            };
            let interrupted = renewed.is_none_or(|at| at.elapsed() > 2 * NODE_RENEWAL);
            if interrupted {
                nodes.watch_anew();
            }
            renewed = Some(Instant::now());
            backoff.reset();
            rise(bridge, &leases);
            let gone = nodes.over.borrow_mut().look(leases.over);
            if nodes.may_report_lost() && !gone.is_empty() && !nodes.reporting_lost.replace(true) {
                let lost_nodes = lost_nodes::run(Rc::clone(bridge), Rc::clone(link), gone);
                tokio::task::spawn_local(lost_nodes);
            }
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Has the roster written anew if this node's lease was gone, be it that another node took this one
/// for dead or that Redis lost it: as soon as nobody tells the end of this one any more.
fn rise(bridge: &Bridge, leases: &Leases) {
    let nodes = &bridge.nodes;
    // The lease may have been renewed by a call whose answer did not arrive.
    let last = nodes.renewed.replace(Some(Instant::now()));
    if leases.new || last.is_some_and(|at| at.elapsed() > 2 * NODE_RENEWAL) {
        nodes.buried.set(true);
    }
    let claimed = format!("{}{}", lost_nodes::CLAIMED, nodes.lease());
    let is_told = leases.living.contains(&claimed) || leases.over.contains(&claimed);
    if nodes.buried.get() && !is_told {
        nodes.buried.set(false);
        bridge.write_roster();
    }
}

async fn renew(bridge: &Bridge, link: &Link) -> Result<Leases, LinkError> {
    let nodes = &bridge.nodes;
    let key = node_key(&bridge.keys, &nodes.member.uid);
    let lease = NODE_LEASE.as_millis().to_string().into_bytes();
    let described = (nodes.member.describe)().into_bytes();
    let args = vec![key.clone(), described, b"PX".to_vec(), lease];
    link.call("SET", &key, args).await?;
    // What was given up meanwhile is not taken again.
    let lease = if nodes.leaving.get() { String::new() } else { nodes.lease() };
    look(bridge, link, &lease).await
}

/// Gives the lease up, once all events of this node have been written: it is gone, and not lost.
pub(super) async fn leave(bridge: &Bridge) {
    while !bridge.events.is_idle() {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    let nodes = &bridge.nodes;
    nodes.leaving.set(true);
    let Some(link) = nodes.link() else { return };
    let (key, uid) = (nodes_key(&bridge.keys), &nodes.member.uid);
    let lease = vec![key.clone(), nodes.lease().into_bytes()];
    ingest::leave(bridge, &link).await;
    // What can't be removed runs out.
    link.call("ZREM", &key, lease).await.map(drop).unwrap_or_default();
    for key in [node_key(&bridge.keys, uid), bridge.roster_key(uid)] {
        link.call("DEL", &key, vec![key.clone()]).await.map(drop).unwrap_or_default();
    }
}

/// Leases as they are.
pub(super) struct Leases {
    /// Those that hold.
    pub(super) living: Vec<String>,
    /// Those that have run out.
    pub(super) over: Vec<String>,
    /// The one that was renewed was not among them.
    new: bool,
}

/// Renews `lease` unless it is empty; answers all leases.
pub(super) async fn look(bridge: &Bridge, link: &Link, lease: &str) -> Result<Leases, LinkError> {
    let key = nodes_key(&bridge.keys);
    let time = NODE_LEASE.as_millis().to_string().into_bytes();
    let one = b"1".to_vec();
    let args = vec![LEASE.as_bytes().to_vec(), one, key.clone(), lease.as_bytes().to_vec(), time];
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

/// The other nodes that live.
pub(super) async fn others(bridge: &Bridge, link: &Link) -> Result<Vec<String>, LinkError> {
    let mut uids = look(bridge, link, "").await?.living;
    uids.retain(|lease| !lease.starts_with(lost_nodes::CLAIMED));
    uids.iter_mut().for_each(|lease| lease.truncate(lease.find(':').unwrap_or(lease.len())));
    uids.retain(|uid| *uid != bridge.nodes.member.uid);
    Ok(uids)
}

/// Reads the descriptions of the other nodes that live.
pub(super) async fn describe_others(bridge: &Bridge) -> ClusterAnswer {
    let deadline = Instant::now() + CLUSTER_TIMEOUT;
    let Some(link) = bridge.nodes.linked(deadline).await else {
        return ClusterAnswer { away: true, ..ClusterAnswer::default() };
    };
    match tokio::time::timeout_at(deadline, read_descriptions(bridge, &link)).await {
        Ok(Ok(bodies)) => ClusterAnswer { bodies, ..ClusterAnswer::default() },
        Ok(Err(_)) | Err(_) => ClusterAnswer { away: true, ..ClusterAnswer::default() },
    }
}

async fn read_descriptions(bridge: &Bridge, link: &Link) -> Result<Vec<Box<str>>, LinkError> {
    let mut bodies = Vec::new();
    for uid in others(bridge, link).await? {
        let key = node_key(&bridge.keys, &uid);
        let reply = link.call("GET", &key, vec![key.clone()]).await?;
        bodies.extend(reply.text().map(Box::from));
    }
    Ok(bodies)
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
}
