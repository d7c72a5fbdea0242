//! Writes events to the stream. A batch without a reply is sent again, so events are written at
//! least once.

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

/// Writes events; see the module.
pub(crate) struct EventWriter {
    stream: Rc<EventStream>,
    nodes: Rc<Nodes>,
    now: fn() -> Moment,
    queue: RefCell<Queue>,
    roster: Roster,
    /// Notified when there is something to write.
    work: Notify,
    /// Whether a batch is being written. Its events are still in the queue.
    writing: Cell<bool>,
}

impl EventWriter {
    /// Creates a writer without events.
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
        // Events that the application misses if there is no room for this one.
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
        // The shard has dropped these events itself, so they count in any case.
        if !taken || kind == EventKind::Dropped {
            self.stream.counters.events_dropped.add(missed);
        }
        self.work.notify_one();
    }

    /// Whether all events have been written.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.borrow().is_done() && !self.writing.get()
    }

    /// Requests that the roster be written to Redis again.
    pub(crate) fn write_roster(&self) {
        self.roster.set_due();
        self.work.notify_one();
    }

    /// Removes the roster, because this node stops.
    pub(crate) async fn remove_roster(&self, link: &Link) {
        self.roster.remove(link).await;
    }

    /// Writes events as they arrive. Never returns.
    pub(crate) async fn run(self: Rc<EventWriter>) {
        // Without a lease, the other nodes would not notice the loss of this node, and sessions
        // whose beginning was written would never end for the application.
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
                tracing::warn!(error = %failed, "could not write events; retrying");
            }
            backoff.pause().await;
        }
    }

    /// Writes until the connection fails. Returns the reason.
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
                tracing::info!("resumed writing events");
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
        // In this order, a node that dies in between leaves too many sessions in the roster rather
        // than too few.
        self.roster.add(link, roster.begun).await?;
        self.stream.append(link, &entries).await?;
        self.roster.drop_ended(link, roster.ended).await?;
        // Events leave the queue only now, so that a batch without a reply is sent again.
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
            EventKind::Connect => {
                if let Some(address) = event.address {
                    entry.add("address", address.to_string());
                }
            }
            EventKind::Subscribe => {}
        }
        entry.add_number("seq", event.seq);
        entry.add_number("time", *unix_millis);
        entry
    }

    /// Whether an event is written to the stream. If not, only the roster needs it.
    fn is_written(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Connect => self.stream.settings.events.connect,
            EventKind::Disconnect => self.stream.settings.events.disconnect,
            _ => true,
        }
    }
}
