//! Writes events into the stream. A batch whose answer was lost is sent again: at least once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use super::queue::{Queue, TimedEvent};
use super::roster::{self, Roster};
use super::stream::{Entry, EventStream};
use crate::cluster::Nodes;
use crate::ids::Moment;
use crate::limits::{BUS_CALL_TIMEOUT, RETRY_INTERVAL};
use crate::mesh::{AppEvent, EventKind};
use crate::redis::{Backoff, Link, LinkError, Witness};
use crate::sys::unix_millis;

/// See the module.
pub(crate) struct EventWriter {
    stream: Rc<EventStream>,
    nodes: Rc<Nodes>,
    now: fn() -> Moment,
    queue: RefCell<Queue>,
    roster: Roster,
    /// There is something to write.
    work: Notify,
    /// What is being written is still in the queue.
    writing: Cell<bool>,
}

impl EventWriter {
    /// Has nothing to write yet.
    pub(crate) fn new(
        stream: Rc<EventStream>,
        nodes: &Rc<Nodes>,
        now: fn() -> Moment,
    ) -> EventWriter {
        EventWriter {
            roster: Roster::new(roster::key(stream.redis.keys(), &nodes.lease().uid)),
            stream,
            nodes: Rc::clone(nodes),
            now,
            queue: RefCell::default(),
            work: Notify::new(),
            writing: Cell::new(false),
        }
    }

    /// Takes an event from a shard.
    pub(crate) fn on_event(&self, event: Box<AppEvent>) {
        let age = (self.now)().since(event.at).as_millis() as u64;
        let kind = event.kind;
        // Events that the application does not get if there is no room for this one.
        let missed = match kind {
            EventKind::Dropped => event.count,
            kind => u64::from(self.is_written(kind)),
        };
        let settings = &self.stream.settings;
        if settings.events.roster {
            self.roster.note(&event, settings.server.max_connections);
        }
        let event = TimedEvent { event, unix_millis: unix_millis().saturating_sub(age) };
        let taken = self.queue.borrow_mut().push(event, missed);
        // Those that a shard has counted were dropped there.
        if !taken || kind == EventKind::Dropped {
            self.stream.counters.events_dropped.add(missed);
        }
        self.work.notify_one();
    }

    /// Whether all has been written.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.borrow().is_done() && !self.writing.get()
    }

    /// Has the roster written to Redis again.
    pub(crate) fn write_roster(&self) {
        self.roster.set_due();
        self.work.notify_one();
    }

    /// Removes the roster: this node ends.
    pub(crate) async fn remove_roster(&self, link: &Link) {
        self.roster.remove(link).await;
    }

    /// Writes events, and waits for more: for ever.
    pub(crate) async fn run(self: Rc<EventWriter>) {
        // Of what has a beginning the end must be told, though this node die at once.
        while !self.nodes.is_known() {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        let (mut backoff, witness) = (Backoff::new(), self.stream.redis.witness());
        loop {
            let failed = match self.stream.redis.connect(BUS_CALL_TIMEOUT).await {
                Ok(link) => match witness.verify(&link).await {
                    Ok(()) => self.write(&link, &witness, &mut backoff).await,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if backoff.is_worth_a_line() {
                tracing::warn!(error = %failed, "could not write events; they are kept");
            }
            backoff.pause().await;
        }
    }

    /// Writes until the connection fails; returns why.
    async fn write(&self, link: &Link, witness: &Witness, backoff: &mut Backoff) -> LinkError {
        loop {
            while self.queue.borrow().is_empty() && !self.roster.is_due() {
                self.work.notified().await;
            }
            if link.is_over() {
                return LinkError::Lost("the connection has ended".to_owned());
            }
            if let Err(error) = witness.verify_in_time(link).await {
                return error;
            }
            self.writing.set(true);
            let written = match self.roster.write_if_due(link).await {
                Ok(()) => self.write_batch(link).await,
                Err(error) => Err(error),
            };
            self.writing.set(false);
            if let Err(error) = written {
                return error;
            }
            if backoff.reset() {
                tracing::info!("event writing resumed");
            }
        }
    }

    async fn write_batch(&self, link: &Link) -> Result<(), LinkError> {
        let mut entries = Vec::new();
        let mut roster = roster::Changes::default();
        let count = {
            let queue = self.queue.borrow();
            let batch = queue.batch();
            let count = batch.len();
            for one in batch {
                roster.note(&one.event);
                if self.is_written(one.event.kind) {
                    entries.push(self.entry(one));
                }
            }
            count
        };
        if !self.stream.settings.events.roster {
            roster = roster::Changes::default();
        }
        // In this order: whoever dies in between leaves too many in the roster, never too few.
        self.roster.add(link, roster.begun).await?;
        self.stream.append(link, &entries).await?;
        self.roster.drop_ended(link, roster.ended).await?;
        let mut queue = self.queue.borrow_mut();
        queue.forget(count);
        queue.push_dropped((self.now)(), unix_millis());
        Ok(())
    }

    fn entry(&self, TimedEvent { event, unix_millis }: &TimedEvent) -> Entry {
        let mut entry = Entry::new(event.kind.name(), self.nodes.lease());
        if let Some(client) = event.client {
            entry.add("client", client.to_string());
            entry.add("user", event.user.as_bytes());
        }
        if let Some(channel) = &event.channel {
            entry.add("channel", channel.as_str());
        }
        match event.kind {
            EventKind::Disconnect | EventKind::Unsubscribe => {
                entry.add("code", event.code.to_string());
                entry.add("reason", event.reason.as_bytes());
            }
            EventKind::Message | EventKind::Publish => entry.add("data", &event.data),
            EventKind::Dropped => entry.add_number("count", event.count),
            EventKind::Connect | EventKind::Subscribe => {}
        }
        entry.add_number("seq", event.seq);
        entry.add_number("time", *unix_millis);
        entry
    }

    /// Whether an event is written, and not only of use for the roster.
    fn is_written(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Connect => self.stream.settings.events.connect,
            EventKind::Disconnect => self.stream.settings.events.disconnect,
            _ => true,
        }
    }
}
