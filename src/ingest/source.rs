//! Reads a source, publishes its entries, and acknowledges them. A source says where entries come
//! from; the order, repeats and bounds are the same for all.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::{sleep, timeout};

use super::entry::{Fields, IngestId, IngestRequest};
use super::queue::{EntryOutcome, IngestQueue};
use crate::bridge::{Bus, Mailbox, Success};
use crate::limits::{INGEST_LEASE_LOOK, INGEST_RETRY_PAUSE, RETRY_INTERVAL};
use crate::metrics::BridgeCounters;
use crate::redis::Backoff;
use crate::settings::Settings;

/// Why a source can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SourceError {
    /// It is another node's turn.
    #[error("another node reads it")]
    NotOurTurn,
    /// The connection is of no use any more.
    #[error("{0}")]
    Failed(String),
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// This node's, until [`SourceError::NotOurTurn`].
    Ours,
    /// Another node's.
    Others,
}

/// The next entries of a source.
#[derive(Debug)]
pub(super) enum Page {
    /// These, of which there may be none, and perhaps more.
    Entries(Vec<(IngestId, Fields)>),
    /// There are no more at present.
    End,
}

/// Something that publications are read from, on one connection.
///
/// Entries come in the order of their ids, and have the same ids when they are read again. What was
/// not acknowledged is read again by the next node whose turn it is.
pub(super) trait Source {
    /// Asks for this node's turn. Waits for ever once this node stops.
    async fn take_turn(&mut self) -> Result<Turn, SourceError>;

    /// Begins with the oldest entry that is not acknowledged.
    async fn begin(&mut self) -> Result<(), SourceError>;

    /// Does what is to be done once in a while to keep the turn.
    async fn keep_turn(&mut self) -> Result<(), SourceError>;

    /// Reads the next entries.
    async fn read(&mut self) -> Result<Page, SourceError>;

    /// Waits for an entry after the last one, or for some time.
    async fn wait_for_news(&mut self) -> Result<(), SourceError>;

    /// Whether entries may be acknowledged now.
    fn may_acknowledge(&self) -> bool;

    /// Puts an entry aside that can't be published, with the `reason`.
    async fn park(&mut self, id: IngestId, fields: Fields, reason: &str)
    -> Result<(), SourceError>;

    /// These entries need not be read again.
    async fn acknowledge(&mut self, done: &[IngestId]) -> Result<(), SourceError>;
}

/// Publishes what one source has, over all its connections.
pub(super) struct Ingest {
    /// Names the source, for the bus and for people.
    pub(super) name: Arc<str>,
    pub(super) bus: Rc<Bus>,
    pub(super) settings: Arc<Settings>,
    pub(super) counters: Arc<BridgeCounters>,
}

impl Ingest {
    /// Connects, publishes until the connection fails, and begins anew: for ever.
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
                tracing::warn!(stream = %self.name, error = %failed, "could not ingest the stream");
            }
            backoff.pause().await;
        }
    }
}

/// One source on one connection.
struct Connected<'a, S> {
    ingest: &'a Ingest,
    source: S,
    /// Whether it can be read: by this node or, as far as it knows, by another one.
    reading: &'a Success<'a>,
}

impl<S: Source> Connected<'_, S> {
    /// Publishes whenever it is this node's turn; returns why that has ended.
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
            // It is for another node to say whether the stream can be read.
            self.reading.succeed();
            sleep(INGEST_LEASE_LOOK).await;
        }
        Ok(())
    }

    /// Publishes; returns why that has ended.
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

    /// Sends what can be sent, ends what is done, and reads more, or waits.
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
            // There may be more.
        } else if queue.is_empty() {
            self.source.wait_for_news().await?;
        } else {
            // Also for entries that come meanwhile.
            timeout(RETRY_INTERVAL, mailbox.news()).await.unwrap_or_default();
        }
        Ok(())
    }

    /// Hands the bus what it has room for. Nothing is awaited between an answer and the next
    /// publication, so none goes past one that has failed.
    fn send(&self, queue: &mut IngestQueue, mailbox: &Rc<Mailbox>) {
        let bus = &self.ingest.bus;
        loop {
            for (ticket, answer) in mailbox.take() {
                queue.on_answer(ticket, &answer);
            }
            if !bus.has_room() {
                return;
            }
            let ticket = bus.ticket();
            let Some((publish, once)) = queue.send(bus.now(), ticket) else { return };
            bus.publish(mailbox, ticket, publish, once);
        }
    }

    /// Ends what is done.
    async fn settle(&mut self, queue: &mut IngestQueue) -> Result<(), SourceError> {
        let counters = &self.ingest.counters;
        let mut done = Vec::new();
        while let Some((id, fields, outcome)) = queue.take_done() {
            match outcome {
                EntryOutcome::Published => counters.ingest_published.add(1),
                EntryOutcome::Repeated => counters.ingest_repeated.add(1),
                EntryOutcome::Refused(reason) => self.source.park(id, fields, &reason).await?,
            }
            done.push(id);
        }
        if done.is_empty() {
            return Ok(());
        }
        self.source.acknowledge(&done).await
    }

    /// Reads a page. Returns false if there is nothing.
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

/// Counts a stream that is ingested, for as long as it lives.
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
