//! How the bridge stands: what is wrong, for `/ready` and the metrics, and when all connections are
//! made anew because they lead to different servers.

use std::cell::Cell;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Bridge;
use super::link::{Link, LinkError};
use crate::bus::{Renewal, RunId, Trouble};
use crate::limits::{BUS_APART_MAX, BUS_TAIL_INTERVAL, READY_REASON_BYTES_MAX};

/// Which connections are of use: those that were made since all were last given up.
#[derive(Default)]
pub(super) struct Links {
    generation: Cell<u64>,
    given_up: Notify,
}

impl Links {
    /// The generation of a connection that is made now.
    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Whether a connection of this generation is of no use any more.
    pub(super) fn is_over(&self, generation: u64) -> bool {
        generation != self.generation.get()
    }

    /// Waits until it is.
    pub(super) async fn over(&self, generation: u64) {
        loop {
            let given_up = self.given_up.notified();
            if self.is_over(generation) {
                return;
            }
            given_up.await;
        }
    }

    fn renew(&self) {
        self.generation.set(self.generation.get() + 1);
        self.given_up.notify_waiters();
    }
}

/// What is wrong, the worst first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The streams are not read.
    Unread,
    /// What the bus says.
    Bus(Trouble),
    /// A stream can't be ingested.
    Ingest,
}

impl Bridge {
    /// What is wrong. `trouble` is what the bus says.
    pub(super) fn wrong(&self, trouble: Option<Trouble>) -> Option<Wrong> {
        let worse = matches!(trouble, Some(Trouble::Refusing | Trouble::Away));
        if !worse && self.not_reading.get() > 0 {
            Some(Wrong::Unread)
        } else if let Some(trouble) = trouble {
            Some(Wrong::Bus(trouble))
        } else {
            (self.not_ingesting.get() > 0).then_some(Wrong::Ingest)
        }
    }

    /// Shows what is wrong, if that has changed.
    pub(super) fn show(&self, wrong: Option<Wrong>) {
        self.counters.up.set(u64::from(matches!(wrong, None | Some(Wrong::Ingest))));
        // Until it has joined, whoever starts it says what it waits for.
        if self.counters.joined.value() == 1 && self.shown.replace(Some(wrong)) != Some(wrong) {
            let reason = self.reason.borrow();
            let text = match wrong {
                None => String::new(),
                Some(Wrong::Unread) => "Redis is away, and with it all other nodes".to_owned(),
                Some(Wrong::Bus(Trouble::Away)) => {
                    format!("Redis is away, and with it all other nodes: {reason}")
                }
                Some(Wrong::Bus(Trouble::Refusing)) => {
                    format!("Redis takes no publications: {reason}")
                }
                Some(Wrong::Bus(Trouble::Apart)) => {
                    "connections lead to different Redis servers".to_owned()
                }
                Some(Wrong::Bus(Trouble::Late)) => "publications arrive over 2 s late".to_owned(),
                Some(Wrong::Ingest) => "a stream can't be ingested; the log says why".to_owned(),
            };
            self.counters.trouble.set(&text);
        }
    }

    /// Says what a node that starts waits for.
    pub(super) fn show_start(&self, text: &str) {
        self.counters.trouble.set(&one_line(text));
    }

    /// Remembers what Redis has said, to show it if that goes on.
    pub(super) fn set_reason(&self, error: &str) {
        let line = one_line(error);
        if self.reason.replace(line.clone()) != line {
            self.shown.set(None);
        }
    }

    /// Has all connections made anew if they lead to different servers.
    pub(super) fn renew_if_apart(&self) {
        let renewal = self.with_engine(|engine, now| engine.take_renewal(now));
        let why = match renewal {
            None => return,
            Some(Renewal::Apart) => "connections lead to different Redis servers",
            Some(Renewal::Absent) => "the Redis that is read lacks what was published",
        };
        tracing::warn!(place = %self.place, "{why}: all are made anew");
        self.renew_links();
    }

    /// Has all connections made anew.
    pub(super) fn renew_links(&self) {
        self.links.renew();
        self.work.notify_one();
    }
}

/// The first line of what Redis has said, not too long.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line[..line.floor_char_boundary(READY_REASON_BYTES_MAX)].to_owned()
}

/// Watches that a connection leads to the server to which publications go. In a Cluster, which has
/// several, it sees nothing.
#[derive(Default)]
pub(super) struct Witness {
    /// Since when it has led elsewhere, over all connections in a row.
    apart: Cell<Option<Instant>>,
    looked: Cell<Option<Instant>>,
    /// Who was there when this connection was looked at.
    run: Cell<Option<RunId>>,
}

impl Witness {
    /// A new connection: who is there is asked before anything else.
    pub(super) async fn verify(&self, bridge: &Bridge, link: &Link) -> Result<(), LinkError> {
        if bridge.is_cluster {
            return Ok(());
        }
        self.run.set(None);
        self.looked.set(Some(Instant::now()));
        let run = link.run_id().await?;
        self.run.set(Some(run));
        self.judge(bridge, run)
    }

    /// The same, for a connection that is in use: it is asked once in a while, and compared each
    /// time.
    pub(super) async fn verify_in_time(
        &self,
        bridge: &Bridge,
        link: &Link,
    ) -> Result<(), LinkError> {
        match self.looked.get().zip(self.run.get()) {
            Some((at, run)) if at.elapsed() < BUS_TAIL_INTERVAL => self.judge(bridge, run),
            _ => self.verify(bridge, link).await,
        }
    }

    /// Whether publications are known to go where this connection leads.
    pub(super) fn agrees(&self, bridge: &Bridge) -> bool {
        let writer = bridge.engine.borrow().writer_run(0);
        bridge.is_cluster || writer.is_some() && writer == self.run.get()
    }

    fn judge(&self, bridge: &Bridge, run: RunId) -> Result<(), LinkError> {
        let writer = bridge.engine.borrow().writer_run(0);
        if writer.is_none_or(|writer| writer == run) {
            self.apart.set(None);
            return Ok(());
        }
        let since = self.apart.get().unwrap_or_else(Instant::now);
        self.apart.set(Some(since));
        if since.elapsed() >= BUS_APART_MAX {
            self.apart.set(None);
            bridge.engine.borrow_mut().on_strayed();
        }
        Err(LinkError::Lost("it leads to another Redis than publications go to".to_owned()))
    }
}
