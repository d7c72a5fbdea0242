//! Reads a source, publishes its entries, and acknowledges them. A source only knows where entries
//! come from. Order, repeats and limits are the same for all sources.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::{sleep, timeout};

use super::entry::{self, Fields, IngestId, IngestRequest};
use super::queue::{EntryOutcome, IngestQueue};
use crate::bridge::{Bus, Mailbox, Success};
use crate::limits::{INGEST_LEASE_LOOK, INGEST_RETRY_PAUSE, RETRY_INTERVAL};
use crate::metrics::BridgeCounters;
use crate::redis::Backoff;
use crate::repeats::{DEAD_LETTERS, shortened};
use crate::settings::Settings;

/// Reason why a source can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SourceError {
    /// Another node has the turn.
    #[error("another node reads it")]
    NotOurTurn,
    /// The connection can't be used any more, for this reason.
    #[error("{0}")]
    Failed(String),
}

/// The node that may read a source now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// This node, until [`SourceError::NotOurTurn`].
    Ours,
    /// Another node.
    Others,
}

/// The next entries of a source.
#[derive(Debug)]
pub(super) enum Page {
    /// Entries, possibly none. More may follow.
    Entries(Vec<(IngestId, Fields)>),
    /// There are no more entries at present.
    End,
}

/// A source of publications, on one connection.
///
/// Entries come in the order of their ids, and have the same ids when they are read again. Entries
/// that were not acknowledged are read again by the next node that has the turn.
pub(super) trait Source {
    /// Tries to get the turn for this node. Never returns once this node stops.
    async fn take_turn(&mut self) -> Result<Turn, SourceError>;

    /// Starts with the oldest entry that is not acknowledged.
    async fn begin(&mut self) -> Result<(), SourceError>;

    /// Keeps the turn. It is called often, and acts only when that is due.
    async fn keep_turn(&mut self) -> Result<(), SourceError>;

    /// Reads the next entries.
    async fn read(&mut self) -> Result<Page, SourceError>;

    /// Waits for an entry after the last one, but only for some time.
    async fn wait_for_news(&mut self) -> Result<(), SourceError>;

    /// Whether entries may be acknowledged now.
    fn may_acknowledge(&self) -> bool;

    /// Sets an entry aside that can't be published, with the `reason`.
    async fn park(&mut self, id: IngestId, fields: Fields, reason: &str)
    -> Result<(), SourceError>;

    /// Acknowledges these entries, so that they are not read again.
    async fn acknowledge(&mut self, done: &[IngestId]) -> Result<(), SourceError>;
}

/// Publishes the entries of one source, over all its connections.
pub(super) struct Ingest {
    /// Name of the source, for the bus and for messages.
    pub(super) name: Arc<str>,
    pub(super) bus: Rc<Bus>,
    pub(super) settings: Arc<Settings>,
    pub(super) counters: Arc<BridgeCounters>,
}

impl Ingest {
    /// Connects, publishes until the connection fails, and starts over. Never returns.
    pub(super) async fn run<S: Source>(
        &self,
        connect: impl AsyncFn() -> Result<S, SourceError>,
    ) -> ! {
        let mut backoff = Backoff::new();
        let reading = self.bus.standing().ingest();
        loop {
            let failed = match connect().await {
                Ok(source) => {
                    let mut connected = Connected { ingest: self, source, reading: &reading };
                    connected.take_turns(&mut backoff).await
                }
                Err(error) => error,
            };
            reading.fail();
            if backoff.is_worth_a_line() {
                tracing::warn!(stream = %self.name, error = %failed, "ingest failed; retrying");
            }
            backoff.pause().await;
        }
    }
}

/// One source on one connection.
struct Connected<'a, S> {
    ingest: &'a Ingest,
    source: S,
    /// Whether the source can be read, by this node or presumably by another one.
    reading: &'a Success<'a>,
}

impl<S: Source> Connected<'_, S> {
    /// Publishes whenever this node has the turn. Returns the error that ended the connection.
    async fn take_turns(&mut self, backoff: &mut Backoff) -> SourceError {
        loop {
            if let Err(error) = self.await_turn().await {
                return error;
            }
            backoff.reset();
            tracing::info!(stream = %self.ingest.name, "this node now reads the ingest stream");
            let error = {
                let _active = Active::new(&self.ingest.counters);
                self.take_in().await
            };
            if error != SourceError::NotOurTurn {
                return error;
            }
            tracing::info!(stream = %self.ingest.name, "another node reads the ingest stream");
        }
    }

    async fn await_turn(&mut self) -> Result<(), SourceError> {
        while self.source.take_turn().await? == Turn::Others {
            // The node that has the turn reports whether the stream can be read.
            self.reading.succeed();
            sleep(INGEST_LEASE_LOOK).await;
        }
        Ok(())
    }

    /// Publishes until the turn or the connection ends. Returns the reason.
    async fn take_in(&mut self) -> SourceError {
        if let Err(error) = self.source.begin().await {
            return error;
        }
        self.reading.succeed();
        let mut queue = IngestQueue::new(Arc::clone(&self.ingest.name));
        let mailbox = Rc::new(Mailbox::default());
        loop {
            if let Err(error) = self.step(&mut queue, &mailbox).await {
                return error;
            }
        }
    }

    /// Sends publications, finishes entries, and reads more or waits.
    async fn step(
        &mut self,
        queue: &mut IngestQueue,
        mailbox: &Rc<Mailbox>,
    ) -> Result<(), SourceError> {
        self.source.keep_turn().await?;
        self.send(queue, mailbox);
        if self.source.may_acknowledge() {
            self.settle(queue).await?;
        }
        if queue.is_stuck() {
            sleep(INGEST_RETRY_PAUSE).await;
            queue.repeat();
        } else if queue.has_room() && self.read(queue).await? {
            // More entries may follow, so there is no pause.
        } else if queue.is_empty() {
            self.source.wait_for_news().await?;
        } else {
            // New entries do not end this wait, so it is short.
            timeout(RETRY_INTERVAL, mailbox.news()).await.unwrap_or_default();
        }
        Ok(())
    }

    /// Passes publications to the bus while it has room. Nothing is awaited between an answer and
    /// the next publication, so no publication overtakes a failed one.
    fn send(&self, queue: &mut IngestQueue, mailbox: &Rc<Mailbox>) {
        let bus = &self.ingest.bus;
        loop {
            for (ticket, answer) in mailbox.take() {
                queue.on_answer(ticket, answer);
            }
            if !bus.has_room() {
                return;
            }
            let ticket = bus.ticket();
            let Some((publish, once)) = queue.send(bus.now(), ticket) else { return };
            bus.publish(mailbox, ticket, publish, once);
        }
    }

    /// Acknowledges entries that are done.
    async fn settle(&mut self, queue: &mut IngestQueue) -> Result<(), SourceError> {
        let counters = &self.ingest.counters;
        let mut done = Vec::new();
        while let Some((id, fields, outcome)) = queue.take_done() {
            match outcome {
                EntryOutcome::Published => counters.ingest_published.add(1),
                EntryOutcome::Repeated => counters.ingest_repeated.add(1),
                // It is set aside before it is acknowledged, so it can't be lost.
                EntryOutcome::Refused(reason) => {
                    self.log_dead_letter(id, &fields, &reason);
                    self.source.park(id, fields, &reason).await?;
                }
            }
            done.push(id);
        }
        if done.is_empty() {
            return Ok(());
        }
        self.source.acknowledge(&done).await
    }

    fn log_dead_letter(&self, id: IngestId, fields: &Fields, reason: &str) {
        let Some(left_out) = DEAD_LETTERS.admit(self.ingest.bus.now()) else { return };
        let channel = entry::channel(fields);
        let reason = entry::unquoted(reason);
        let (channel, reason) = (channel.as_deref().map(shortened), shortened(&reason));
        let left_out = (left_out > 0).then_some(left_out);
        let stream = &*self.ingest.name;
        tracing::warn!(
            stream, %id, channel, reason, left_out,
            "an entry of an ingest stream can't be published, and is set aside"
        );
    }

    /// Reads a page. Returns false if there are no entries at present.
    async fn read(&mut self, queue: &mut IngestQueue) -> Result<bool, SourceError> {
        let Page::Entries(entries) = self.source.read().await? else { return Ok(false) };
        let settings = &self.ingest.settings;
        let (namespaces, most) = (&settings.channel.namespaces, settings.api.body_bytes_max);
        for (id, fields) in entries {
            let asked = IngestRequest::parse(id, &fields, namespaces, most);
            queue.push(id, fields, asked);
        }
        Ok(true)
    }
}

/// Counts an ingested stream as active while this value exists.
struct Active<'a>(&'a BridgeCounters);

impl<'a> Active<'a> {
    fn new(counters: &'a BridgeCounters) -> Active<'a> {
        counters.ingest_active.add(1);
        Active(counters)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.ingest_active.subtract(1);
    }
}

#[cfg(test)]
mod tests;
