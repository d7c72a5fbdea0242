//! Checks that connections lead to the server to which publications go. Behind a proxy or after a
//! failover, some of them may lead elsewhere.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::Instant;

use super::link::{self, Link, LinkError};
use crate::bus::RunId;
use crate::limits::{BUS_APART_MAX, BUS_TAIL_INTERVAL};

/// The server to which publications go.
pub(super) struct WriteTarget {
    /// In a Cluster there are several servers, so nothing can be compared.
    is_cluster: bool,
    run: Cell<Option<RunId>>,
    strayed: Cell<bool>,
}

impl WriteTarget {
    pub(super) fn new(url: &str) -> WriteTarget {
        WriteTarget {
            is_cluster: link::is_cluster(url),
            run: Cell::new(None),
            strayed: Cell::new(false),
        }
    }

    /// Whether Redis is a Cluster, in which streams may be on different servers.
    pub(super) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Records the process to which publications go. `None` while it is unknown.
    pub(super) fn set(&self, run: Option<RunId>) {
        self.run.set(run);
    }

    /// Whether a connection has led elsewhere for a long time, since the last call.
    pub(super) fn take_strayed(&self) -> bool {
        self.strayed.take()
    }
}

/// Watches the connections that one task makes one after the other. It does nothing in a Cluster.
pub(crate) struct Witness {
    written: Rc<WriteTarget>,
    /// Since when they have led elsewhere, over several connections in a row.
    apart: Cell<Option<Instant>>,
    looked: Cell<Option<Instant>>,
    /// The process behind the connection at the last look.
    run: Cell<Option<RunId>>,
}

impl Witness {
    pub(super) fn new(written: Rc<WriteTarget>) -> Witness {
        let (apart, looked, run) = (Cell::new(None), Cell::new(None), Cell::new(None));
        Witness { written, apart, looked, run }
    }

    /// Checks a new connection, before any other command.
    pub(crate) async fn verify(&self, link: &Link) -> Result<(), LinkError> {
        if self.written.is_cluster {
            return Ok(());
        }
        self.run.set(None);
        self.looked.set(Some(Instant::now()));
        let run = link.run_id().await?;
        self.run.set(Some(run));
        self.judge(run)
    }

    /// Checks a connection that is in use. It asks once in [`BUS_TAIL_INTERVAL`] and compares each
    /// time, because publications may go to another process in between.
    pub(crate) async fn verify_in_time(&self, link: &Link) -> Result<(), LinkError> {
        match self.looked.get().zip(self.run.get()) {
            Some((at, run)) if at.elapsed() < BUS_TAIL_INTERVAL => self.judge(run),
            _ => self.verify(link).await,
        }
    }

    /// Whether publications are known to go to the server behind this connection.
    pub(crate) fn agrees(&self) -> bool {
        let written = self.written.run.get();
        self.written.is_cluster || written.is_some() && written == self.run.get()
    }

    fn judge(&self, run: RunId) -> Result<(), LinkError> {
        if self.written.run.get().is_none_or(|written| written == run) {
            self.apart.set(None);
            return Ok(());
        }
        let since = self.apart.get().unwrap_or_else(Instant::now);
        self.apart.set(Some(since));
        // A failover moves connections one after the other, so a short difference is normal.
        if since.elapsed() >= BUS_APART_MAX {
            self.apart.set(None);
            self.written.strayed.set(true);
        }
        Err(LinkError::Lost(
            "this connection leads to another Redis than that for publications".to_owned(),
        ))
    }
}
