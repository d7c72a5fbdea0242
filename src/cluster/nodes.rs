//! Which nodes there are: each holds a lease in Redis, with its description beside it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::time::Instant;

use super::leases::{self, Lease, Leases, Over};
use crate::bus::Keys;
use crate::limits::{
    BUS_CALL_TIMEOUT, CLUSTER_TIMEOUT, NODE_GRACE, NODE_LEASE, NODE_RENEWAL, RETRY_INTERVAL,
};
use crate::mesh::ClusterAnswer;
use crate::redis::{self, Backoff, Link, LinkError, Witness};

/// Streams that a node must read before others may count on its answers.
pub(super) const LISTENING_STREAMS: u8 = 2;

/// What other nodes are told of this one.
pub struct NodeCard {
    /// Differs from node to node and from start to start.
    pub uid: String,
    /// When the process began, in milliseconds since 1970.
    pub boot: u64,
    /// How `info` shows it, as JSON.
    pub describe: Box<dyn Fn() -> String + Send>,
}

/// What a node learns of itself and of others from the leases.
pub(crate) enum NodeNews {
    /// This node's lease was gone: another node may have taken this one for dead, or Redis has lost
    /// what it had. What is kept there of this node must be written again.
    Forgotten,
    /// The leases with these names have run out for good.
    Lost {
        /// The connection on which that was found.
        link: Rc<Link>,
        /// The leases.
        leases: Vec<String>,
    },
}

/// This node among the others.
pub(crate) struct Nodes {
    redis: Rc<redis::Handle>,
    card: NodeCard,
    /// This node's own.
    lease: Lease,
    /// The connection for requests to other nodes and for leases, while there is one.
    link: RefCell<Option<Rc<Link>>>,
    /// Streams of this node's that are being read: it counts as alive when it can be spoken to.
    listening: Cell<u8>,
    /// From when on leases that have run out are taken for nodes that are gone.
    reports_lost_from: Cell<Option<Instant>>,
    /// When the lease was last known to be renewed.
    renewed: Cell<Option<Instant>>,
    /// Leases that were over in the last looks.
    over: RefCell<Over>,
    /// What is kept of this node in Redis must be written again.
    forgotten: Cell<bool>,
    /// This node stops, and holds no lease any more.
    leaving: Cell<bool>,
}

/// For as long as it lives, one more stream of this node's is being read.
pub(super) struct Listening<'a>(&'a Nodes);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listening.set(self.0.listening.get() - 1);
    }
}

impl Nodes {
    /// Knows of no node yet. Others are told what is on `card`.
    pub(crate) fn new(redis: Rc<redis::Handle>, card: NodeCard) -> Nodes {
        Nodes {
            redis,
            lease: Lease::new(&card.uid, card.boot),
            card,
            link: RefCell::new(None),
            listening: Cell::new(0),
            reports_lost_from: Cell::new(None),
            renewed: Cell::new(None),
            over: RefCell::default(),
            forgotten: Cell::new(false),
            leaving: Cell::new(false),
        }
    }

    /// This node's lease, and with it its name and the beginning of its process.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The connection for requests to other nodes, while there is one.
    pub(crate) fn link(&self) -> Option<Rc<Link>> {
        self.link.borrow().clone()
    }

    /// The connection, for which a request waits a little: Redis may be on its way back.
    pub(super) async fn linked(&self, deadline: Instant) -> Option<Rc<Link>> {
        while self.link().is_none() && Instant::now() < deadline {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        self.link()
    }

    /// Whether others know of this node, and so will miss it.
    pub(crate) fn is_known(&self) -> bool {
        self.renewed.get().is_some()
    }

    /// One of the streams of this node is being read from now on.
    pub(super) fn listen(&self) -> Listening<'_> {
        assert!(self.listening.get() < LISTENING_STREAMS, "each stream has one reader");
        self.listening.set(self.listening.get() + 1);
        Listening(self)
    }

    /// From now on the lease is not renewed any more.
    pub(crate) fn set_leaving(&self) {
        self.leaving.set(true);
    }

    /// Gives the lease up: the node is gone, and not lost.
    pub(crate) async fn leave(&self, link: &Link) {
        assert!(self.leaving.get(), "or it would be taken again at once");
        let keys = self.redis.keys();
        // What can't be removed runs out.
        leases::remove(keys, link, self.lease.name()).await.unwrap_or_default();
        let key = node_key(keys, &self.lease.uid);
        link.call("DEL", &key, vec![key.clone()]).await.map(drop).unwrap_or_default();
    }

    /// This node could not renew its lease for a while, or begins. Others may not have been able to
    /// either, and get the time to do so.
    fn watch_anew(&self) {
        let grace = if self.reports_lost_from.get().is_some() { NODE_GRACE } else { NODE_LEASE };
        self.reports_lost_from.set(Some(Instant::now() + grace));
    }

    /// Whether a lease that has run out means that its node is gone.
    fn may_report_lost(&self) -> bool {
        self.reports_lost_from.get().is_some_and(|from| Instant::now() >= from)
    }
}

fn node_key(keys: &Keys, uid: &str) -> Vec<u8> {
    keys.other(&format!("node:{uid}"))
}

/// Holding the lease.
impl Nodes {
    /// Holds the lease, and tells what it learns: for ever.
    pub(crate) async fn run(&self, tell: impl Fn(NodeNews)) {
        let (mut backoff, witness) = (Backoff::new(), self.redis.witness());
        loop {
            let linked = match self.redis.connect(BUS_CALL_TIMEOUT).await {
                Ok(link) => witness.verify(&link).await.map(|()| Rc::new(link)),
                Err(error) => Err(error),
            };
            match linked {
                Ok(link) => {
                    self.link.replace(Some(Rc::clone(&link)));
                    let holder = Holder { nodes: self, link, witness: &witness, tell: &tell };
                    let error = holder.hold(&mut backoff).await;
                    self.link.take();
                    tracing::warn!(%error, "could not reach other nodes through Redis; retrying");
                }
                Err(error) => {
                    tracing::debug!(%error, "could not reach other nodes through Redis; retrying")
                }
            }
            backoff.pause().await;
        }
    }

    async fn renew(&self, link: &Link) -> Result<Leases, LinkError> {
        let keys = self.redis.keys();
        let key = node_key(keys, &self.lease.uid);
        let lease = NODE_LEASE.as_millis().to_string().into_bytes();
        let described = (self.card.describe)().into_bytes();
        let args = vec![key.clone(), described, b"PX".to_vec(), lease];
        link.call("SET", &key, args).await?;
        // What was given up meanwhile is not taken again.
        let name = if self.leaving.get() { "" } else { self.lease.name() };
        leases::look(keys, link, name).await
    }
}

/// The lease on one connection.
struct Holder<'a, T> {
    nodes: &'a Nodes,
    link: Rc<Link>,
    witness: &'a Witness,
    tell: &'a T,
}

impl<T: Fn(NodeNews)> Holder<'_, T> {
    /// Holds the lease until the connection fails; returns why.
    async fn hold(&self, backoff: &mut Backoff) -> LinkError {
        let mut renewed = None::<Instant>;
        loop {
            if self.link.is_over() {
                return LinkError::Lost("the connection has ended".to_owned());
            }
            if let Err(error) = self.witness.verify_in_time(&self.link).await {
                return error;
            }
            let due = renewed.is_none_or(|at| at.elapsed() >= NODE_RENEWAL);
            let nodes = self.nodes;
            if due && nodes.listening.get() == LISTENING_STREAMS && !nodes.leaving.get() {
                let leases = match nodes.renew(&self.link).await {
                    Ok(leases) => leases,
                    Err(error) => return error,
                };
                let interrupted = renewed.is_none_or(|at| at.elapsed() > 2 * NODE_RENEWAL);
                if interrupted {
                    nodes.watch_anew();
                }
                renewed = Some(Instant::now());
                backoff.reset();
                self.note_own(&leases);
                self.note_others(leases);
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Tells if this node's lease was gone, be it that another node took this one for dead or that
    /// Redis lost it: as soon as nobody reports the end of this one any more.
    fn note_own(&self, leases: &Leases) {
        let nodes = self.nodes;
        // The lease may have been renewed by a call whose answer did not arrive.
        let last = nodes.renewed.replace(Some(Instant::now()));
        if leases.new || last.is_some_and(|at| at.elapsed() > 2 * NODE_RENEWAL) {
            nodes.forgotten.set(true);
        }
        if nodes.forgotten.get() && !leases.has_claimed(&nodes.lease) {
            nodes.forgotten.set(false);
            (self.tell)(NodeNews::Forgotten);
        }
    }

    fn note_others(&self, leases: Leases) {
        let gone = self.nodes.over.borrow_mut().look(leases.over);
        if self.nodes.may_report_lost() && !gone.is_empty() {
            (self.tell)(NodeNews::Lost { link: Rc::clone(&self.link), leases: gone });
        }
    }
}

/// Asking for the others.
impl Nodes {
    /// All leases.
    pub(crate) async fn leases(&self, link: &Link) -> Result<Leases, LinkError> {
        leases::look(self.redis.keys(), link, "").await
    }

    /// The other nodes that live.
    pub(super) async fn others(&self, link: &Link) -> Result<Vec<String>, LinkError> {
        let leases = self.leases(link).await?;
        let others = leases.living_uids().filter(|uid| *uid != self.lease.uid);
        Ok(others.map(str::to_owned).collect())
    }

    /// Reads the descriptions of the other nodes that live.
    pub(super) async fn describe_others(&self) -> ClusterAnswer {
        let deadline = Instant::now() + CLUSTER_TIMEOUT;
        let Some(link) = self.linked(deadline).await else {
            return ClusterAnswer { away: true, ..ClusterAnswer::default() };
        };
        match tokio::time::timeout_at(deadline, self.read_descriptions(&link)).await {
            Ok(Ok(bodies)) => ClusterAnswer { bodies, ..ClusterAnswer::default() },
            Ok(Err(_)) | Err(_) => ClusterAnswer { away: true, ..ClusterAnswer::default() },
        }
    }

    async fn read_descriptions(&self, link: &Link) -> Result<Vec<Box<str>>, LinkError> {
        let mut bodies = Vec::new();
        for uid in self.others(link).await? {
            let key = node_key(self.redis.keys(), &uid);
            let reply = link.call("GET", &key, vec![key.clone()]).await?;
            bodies.extend(reply.text().map(Box::from));
        }
        Ok(bodies)
    }
}

/// Leases of nodes that are gone.
impl Nodes {
    /// Claims the lease called `name`, which has run out, for as long as a lease lasts; absent if
    /// another node was first, or its node lives after all.
    pub(crate) async fn claim(&self, link: &Link, name: &str) -> Result<Option<Lease>, LinkError> {
        leases::claim(self.redis.keys(), link, name).await
    }

    /// All leases, after the claim of `lease` was renewed.
    pub(crate) async fn renew_claim(
        &self,
        link: &Link,
        lease: &Lease,
    ) -> Result<Leases, LinkError> {
        leases::look(self.redis.keys(), link, &lease.claimed()).await
    }

    /// Removes a lease that was claimed.
    pub(crate) async fn remove_claim(&self, link: &Link, lease: &Lease) -> Result<(), LinkError> {
        leases::remove(self.redis.keys(), link, &lease.claimed()).await
    }
}
