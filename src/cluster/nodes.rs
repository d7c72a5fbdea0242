//! The nodes of the cluster. Each one holds a lease in Redis, which also has its description.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use tokio::time::Instant;

use super::known::{self, End, Known};
use super::leases::{self, Lease, Leases, Over};
use crate::bus::Keys;
use crate::limits::{
    BUS_CALL_TIMEOUT, CLUSTER_TIMEOUT, NODE_GRACE, NODE_LEASE, NODE_RENEWAL, RETRY_INTERVAL,
};
use crate::mesh::ClusterAnswer;
use crate::redis::{self, Backoff, Link, LinkError, Witness};

/// Number of streams that a node must read before others may rely on its answers.
pub(super) const LISTENING_STREAMS: u8 = 2;

/// Description of this node for the others.
pub struct NodeCard {
    /// Id of the node, which differs between nodes and starts.
    pub uid: String,
    /// When the process started, in milliseconds since 1970.
    pub boot: u64,
    /// Returns the node as `info` shows it, as JSON.
    pub describe: Box<dyn Fn() -> String + Send>,
}

/// News about this node or others, from the leases.
pub(crate) enum NodeNews {
    /// This node's lease was missing: another node may have counted this one as lost, or Redis has
    /// lost data. Everything that Redis keeps about this node must be written again.
    Forgotten,
    /// The leases with these names have expired permanently.
    Lost {
        /// The connection on which this was found.
        link: Rc<Link>,
        /// Names of the leases.
        leases: Vec<String>,
    },
    /// This node could not take or renew its lease. The value is the reason.
    Unreachable(String),
}

/// The nodes that this one knows of, and its own lease.
pub(crate) struct Nodes {
    redis: Rc<redis::Handle>,
    card: NodeCard,
    /// The lease of this node.
    lease: Lease,
    /// The connection for leases and for requests to other nodes, while there is one.
    link: RefCell<Option<Rc<Link>>>,
    /// Number of this node's streams that are being read. The node holds a lease only while it can
    /// be reached.
    listening: Cell<u8>,
    /// Time before which an expired lease does not mean that its node is lost.
    reports_lost_from: Cell<Option<Instant>>,
    /// When the lease was last known to be renewed.
    renewed: Cell<Option<Instant>>,
    /// Leases that were expired at the last checks.
    over: RefCell<Over>,
    /// The other nodes that were alive at the last checks.
    known: RefCell<Known>,
    /// Whether the data about this node in Redis must be written again.
    forgotten: Cell<bool>,
    /// Time until which leases of living nodes may be missing, because Redis has lost this node's.
    incomplete_until: Cell<Option<Instant>>,
    /// Whether this node is stopping and holds no lease any more.
    leaving: Cell<bool>,
}

/// Counts one of this node's streams as being read, while this value exists.
pub(super) struct Listening<'a>(&'a Nodes);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listening.set(self.0.listening.get() - 1);
    }
}

impl Nodes {
    /// Creates the state, which knows no nodes yet. Others get the description on `card`.
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
            known: RefCell::default(),
            forgotten: Cell::new(false),
            incomplete_until: Cell::new(None),
            leaving: Cell::new(false),
        }
    }

    /// Returns this node's lease, which has its id and the start of its process.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Returns the connection for requests to other nodes, while there is one.
    pub(crate) fn link(&self) -> Option<Rc<Link>> {
        self.link.borrow().clone()
    }

    /// Returns the connection, and waits for it until `deadline` if Redis is on its way back.
    pub(super) async fn linked(&self, deadline: Instant) -> Option<Rc<Link>> {
        while self.link().is_none() && Instant::now() < deadline {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        self.link()
    }

    /// Whether this node has held its lease. Others know of it since then: they ask it about its
    /// clients, and would report its loss.
    pub(crate) fn is_known(&self) -> bool {
        self.renewed.get().is_some()
    }

    /// Counts one of this node's streams as being read from now on.
    pub(super) fn listen(&self) -> Listening<'_> {
        assert!(self.listening.get() < LISTENING_STREAMS, "each stream is counted at most once");
        self.listening.set(self.listening.get() + 1);
        Listening(self)
    }

    /// Stops the renewal of the lease.
    pub(crate) fn set_leaving(&self) {
        self.leaving.set(true);
    }

    /// Gives up the lease, so that this node counts as stopped and not as lost.
    pub(crate) async fn leave(&self, link: &Link) {
        assert!(self.leaving.get(), "a node that does not stop would take the lease again");
        let keys = self.redis.keys();
        // A lease that can't be removed expires.
        leases::remove(keys, link, self.lease.name()).await.unwrap_or_default();
        let key = node_key(keys, &self.lease.uid);
        link.call("DEL", &key, vec![key.clone()]).await.map(drop).unwrap_or_default();
    }

    /// Delays reports of lost nodes, because this node starts, or could not renew its lease for a
    /// while. Others may have had the same problem, and need time to renew theirs.
    fn watch_anew(&self) {
        let grace = if self.reports_lost_from.get().is_some() { NODE_GRACE } else { NODE_LEASE };
        self.reports_lost_from.set(Some(Instant::now() + grace));
    }

    /// Whether leases of living nodes may be missing. Redis lost all of them if it lost this
    /// node's, and other nodes write theirs again at their next renewal.
    fn is_incomplete(&self) -> bool {
        self.incomplete_until.get().is_some_and(|until| Instant::now() < until)
    }

    /// Whether an expired lease means that its node is lost.
    fn may_report_lost(&self) -> bool {
        self.reports_lost_from.get().is_some_and(|from| Instant::now() >= from)
    }
}

fn node_key(keys: &Keys, uid: &str) -> Vec<u8> {
    keys.other(&format!("node:{uid}"))
}

/// Holding the lease.
impl Nodes {
    /// Holds the lease and passes news to `tell`. Never returns.
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
                    tell(NodeNews::Unreachable(error.to_string()));
                }
                Err(error) => {
                    tracing::debug!(%error, "could not reach other nodes through Redis; retrying");
                    tell(NodeNews::Unreachable(error.to_string()));
                }
            }
            backoff.pause().await;
        }
    }

    async fn renew(&self, link: &Link) -> Result<Leases, LinkError> {
        let keys = self.redis.keys();
        let key = node_key(keys, &self.lease.uid);
        // The description is read while there is a lease, so it must not expire first.
        let time = (2 * NODE_LEASE).as_millis().to_string().into_bytes();
        let described = (self.card.describe)().into_bytes();
        let args = vec![key.clone(), described, b"PX".to_vec(), time];
        link.call("SET", &key, args).await?;
        // A lease that was given up in the meantime is not taken again.
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
    /// Holds the lease until the connection fails. Returns the reason.
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
                if let Err(error) = self.name_others(&leases).await {
                    return error;
                }
                self.note_others(leases);
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Reports that this node's lease was missing, because another node counted this one as lost or
    /// Redis lost the lease. It waits until no other node reports the end of this one any more.
    fn note_own(&self, leases: &Leases) {
        let nodes = self.nodes;
        // A call without a reply may have renewed the lease, so the time since the last renewal
        // counts too.
        let last = nodes.renewed.replace(Some(Instant::now()));
        if leases.new && last.is_some() {
            nodes.incomplete_until.set(Some(Instant::now() + NODE_LEASE));
        }
        if leases.new || last.is_some_and(|at| at.elapsed() > 2 * NODE_RENEWAL) {
            nodes.forgotten.set(true);
        }
        if nodes.forgotten.get() && !leases.has_claimed(&nodes.lease) {
            nodes.forgotten.set(false);
            (self.tell)(NodeNews::Forgotten);
        }
    }

    /// Logs which nodes have joined or ended.
    async fn name_others(&self, leases: &Leases) -> Result<(), LinkError> {
        let nodes = self.nodes;
        let alive = leases.living_uids().filter(|uid| *uid != nodes.lease.uid);
        let unknown = nodes.known.borrow().unknown(alive);
        for uid in unknown {
            let name = nodes.read_name(&self.link, &uid).await?;
            tracing::info!(node = name, uid, "a node has joined");
            nodes.known.borrow_mut().add(uid, name);
        }
        if nodes.is_incomplete() {
            return Ok(()); // A node without a lease may be alive.
        }
        for end in nodes.known.borrow_mut().look(leases) {
            match end {
                End::Stopped(name) => tracing::info!(node = name, "a node has stopped"),
                End::Lost(name) => tracing::warn!(node = name, "a node is lost"),
            }
        }
        Ok(())
    }

    fn note_others(&self, leases: Leases) {
        let gone = self.nodes.over.borrow_mut().look(leases.over);
        if self.nodes.may_report_lost() && !gone.is_empty() {
            (self.tell)(NodeNews::Lost { link: Rc::clone(&self.link), leases: gone });
        }
    }
}

/// Finding the other nodes.
impl Nodes {
    /// Returns all leases.
    pub(crate) async fn leases(&self, link: &Link) -> Result<Leases, LinkError> {
        leases::look(self.redis.keys(), link, "").await
    }

    /// Returns the other nodes that are alive. While leases may be missing, these are also the
    /// nodes that were alive before, so that none of them is left out without a word.
    pub(super) async fn others(&self, link: &Link) -> Result<Vec<String>, LinkError> {
        let leases = self.leases(link).await?;
        let mut others: BTreeSet<String> = leases.living_uids().map(str::to_owned).collect();
        if !leases.has_living(&self.lease) || self.is_incomplete() {
            others.extend(self.known.borrow().uids().map(str::to_owned));
        }
        others.remove(&self.lease.uid);
        Ok(others.into_iter().collect())
    }

    /// Reads the descriptions of the other nodes that are alive.
    pub(super) async fn describe_others(&self) -> ClusterAnswer {
        let deadline = Instant::now() + CLUSTER_TIMEOUT;
        let Some(link) = self.linked(deadline).await else {
            return ClusterAnswer { away: true, ..ClusterAnswer::default() };
        };
        match tokio::time::timeout_at(deadline, self.read_descriptions(&link)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => ClusterAnswer { away: true, ..ClusterAnswer::default() },
        }
    }

    /// Reads the name of a node. It is the id if the node has not described itself.
    async fn read_name(&self, link: &Link, uid: &str) -> Result<String, LinkError> {
        let key = node_key(self.redis.keys(), uid);
        let reply = link.call("GET", &key, vec![key.clone()]).await?;
        Ok(reply.text().and_then(known::name).unwrap_or_else(|| uid.to_owned()))
    }

    async fn read_descriptions(&self, link: &Link) -> Result<ClusterAnswer, LinkError> {
        let mut answer = ClusterAnswer::default();
        for uid in self.others(link).await? {
            let key = node_key(self.redis.keys(), &uid);
            let reply = link.call("GET", &key, vec![key.clone()]).await?;
            match reply.text() {
                Some(description) => answer.bodies.push(description.into()),
                None => answer.silent.push(uid.into()),
            }
        }
        Ok(answer)
    }
}

/// Leases of lost nodes.
impl Nodes {
    /// Claims the expired lease called `name`, for the time of one lease. Returns `None` if another
    /// node was first, or if its node is alive after all.
    pub(crate) async fn claim(&self, link: &Link, name: &str) -> Result<Option<Lease>, LinkError> {
        leases::claim(self.redis.keys(), link, name).await
    }

    /// Renews the claim of `lease`, and returns all leases.
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
