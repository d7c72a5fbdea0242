//! Access of this node to its Redis: every task makes its connections with the same handle.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::link::{self, Link, LinkError};
use super::links::Links;
use super::sentinel::Sentinels;
use super::witness::{Witness, WriteTarget};
use crate::bus::{Keys, RunId};
use crate::limits::COMPLAINT_INTERVAL;
use crate::metrics::BridgeCounters;

/// Makes connections to Redis; see the module.
pub(crate) struct Handle {
    url: String,
    keys: Keys,
    /// Address of Redis for messages.
    address: String,
    links: Rc<Links>,
    sentinels: Rc<Sentinels>,
    written: Rc<WriteTarget>,
    /// When any task last logged a complaint.
    complained: Cell<Option<Instant>>,
}

impl Handle {
    /// Creates a handle for the Redis at `url`, where all keys begin with `prefix`.
    pub(crate) fn new(url: &str, prefix: &str, counters: Arc<BridgeCounters>) -> Handle {
        let links = Rc::<Links>::default();
        Handle {
            url: url.to_owned(),
            keys: Keys::new(prefix),
            address: link::address(url),
            sentinels: Rc::new(Sentinels::new(url, Rc::clone(&links), counters)),
            links,
            written: Rc::new(WriteTarget::new(url)),
            complained: Cell::new(None),
        }
    }

    /// Returns the names of keys.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns the address of Redis for messages, without the password.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether Redis is a Cluster, in which streams may be on different servers.
    pub(crate) fn is_cluster(&self) -> bool {
        self.written.is_cluster()
    }

    /// Connects to the server or the Cluster. A command may take `patience`.
    pub(crate) async fn connect(&self, patience: Duration) -> Result<Link, LinkError> {
        // A Sentinel that has reported a failover knows better than the others.
        let named = self.sentinels.address();
        Link::connect(&self.url, named, patience, self.links.join()).await
    }

    /// Starts to listen to the Sentinels, if the address names any.
    pub(crate) fn listen_to_sentinels(&self) {
        self.sentinels.start();
    }

    /// Gives up all connections, so that their users make new ones.
    pub(crate) fn renew_links(&self) {
        self.links.renew();
    }

    /// Returns a witness for the connections of one task.
    pub(crate) fn witness(&self) -> Witness {
        Witness::new(Rc::clone(&self.written))
    }

    /// Records the process to which publications go. `None` while it is unknown.
    pub(crate) fn set_written(&self, run: Option<RunId>) {
        self.written.set(run);
    }

    /// Whether a connection has led to another server than publications for a long time, since the
    /// last call.
    pub(crate) fn take_strayed(&self) -> bool {
        self.written.take_strayed()
    }

    /// Logs an error that an operator must fix, but not once for every publication that fails.
    pub(crate) fn complain(&self, what: &str, error: &str) {
        let recent = self.complained.get().is_some_and(|at| at.elapsed() < COMPLAINT_INTERVAL);
        if !recent {
            self.complained.set(Some(Instant::now()));
            tracing::error!(%error, "{what}");
        }
    }
}
