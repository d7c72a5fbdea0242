//! How this node reaches its Redis: every task makes its connections with the one handle.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::link::{self, Link, LinkError};
use super::links::Links;
use super::sentinel::Sentinels;
use super::witness::{Witness, Written};
use crate::bus::{Keys, RunId};
use crate::limits::COMPLAINT_INTERVAL;
use crate::metrics::BridgeCounters;

/// See the module.
pub(crate) struct Handle {
    url: String,
    keys: Keys,
    /// Where Redis is, for people.
    address: String,
    is_cluster: bool,
    links: Rc<Links>,
    sentinels: Rc<Sentinels>,
    written: Rc<Written>,
    /// When the last complaint was logged, whoever's it was.
    complained: Cell<Option<Instant>>,
}

impl Handle {
    /// For the Redis at `url`, where all names begin with `prefix`.
    pub(crate) fn new(url: &str, prefix: &str, counters: Arc<BridgeCounters>) -> Handle {
        let is_cluster = link::is_cluster(url);
        let links = Rc::<Links>::default();
        Handle {
            url: url.to_owned(),
            keys: Keys::new(prefix),
            address: link::address(url),
            is_cluster,
            sentinels: Rc::new(Sentinels::new(url, Rc::clone(&links), counters)),
            links,
            written: Rc::new(Written::new(is_cluster)),
            complained: Cell::new(None),
        }
    }

    /// The names of everything that is kept there.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Where Redis is, for people: its address without the password.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether streams have servers of their own.
    pub(crate) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Connects to the server, or the Cluster. Commands may take `patience`.
    pub(crate) async fn connect(&self, patience: Duration) -> Result<Link, LinkError> {
        // The Sentinel that has told of a failover knows better than all others.
        let named = self.sentinels.address();
        Link::connect(&self.url, named, patience, self.links.join()).await
    }

    /// Listens to the Sentinels, if the address names any.
    pub(crate) fn listen_to_sentinels(&self) {
        self.sentinels.start();
    }

    /// Has all connections made anew.
    pub(crate) fn renew_links(&self) {
        self.links.renew();
    }

    /// For the connections of one task.
    pub(crate) fn witness(&self) -> Witness {
        Witness::new(Rc::clone(&self.written))
    }

    /// Publications go to this process; absent while that is not known.
    pub(crate) fn set_written(&self, run: Option<RunId>) {
        self.written.set(run);
    }

    /// Whether a connection has led for long to another server than publications go to, since this
    /// was last asked.
    pub(crate) fn take_strayed(&self) -> bool {
        self.written.take_strayed()
    }

    /// Logs an error that an operator must fix, but not for every publication that suffers from it.
    pub(crate) fn complain(&self, what: &str, error: &str) {
        let recent = self.complained.get().is_some_and(|at| at.elapsed() < COMPLAINT_INTERVAL);
        if !recent {
            self.complained.set(Some(Instant::now()));
            tracing::error!(%error, "{what}");
        }
    }
}
