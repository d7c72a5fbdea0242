//! Events on their way to the application: kept until Redis has them, in order, and appended in
//! batches. A batch whose answer was lost is sent again: at least once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::link::{Link, LinkError};
use super::roster::{self, Roster};
use super::standing::Witness;
use super::{Backoff, Bridge};
use crate::limits::{
    BUS_CALL_TIMEOUT, EVENTS_BATCH_BYTES_MAX, EVENTS_BATCH_MAX, EVENTS_BYTES_MAX, RETRY_INTERVAL,
};
use crate::mesh::{AppEvent, EventKind};

/// Appends entries to a stream.
const APPEND: &str = include_str!("scripts/append.lua");

/// Events that wait.
#[derive(Default)]
pub(super) struct EventWriter {
    queue: RefCell<Queue>,
    /// There is something to write.
    work: Notify,
    /// What is being written is still in the queue.
    pub(super) writing: Cell<bool>,
    pub(super) roster: Roster,
}

#[derive(Default)]
struct Queue {
    /// Each with its time, in milliseconds since 1970.
    events: VecDeque<(Box<AppEvent>, u64)>,
    bytes: usize,
    dropped: u64,
    /// The number of the last event that is to be written.
    seq: u64,
}

/// An entry of the stream: names and values in turn.
pub(super) type Entry = Vec<Vec<u8>>;

impl Queue {
    /// Takes an event. Answers false if there is no room, and counts those that `missed` says.
    fn push(&mut self, mut event: Box<AppEvent>, time: u64, missed: u64) -> bool {
        let cost = event.cost_bytes();
        if self.bytes + cost > EVENTS_BYTES_MAX {
            self.dropped += missed;
            return false;
        }
        self.push_dropped(event.at, time);
        if missed > 0 {
            event.seq = self.next_seq();
        }
        self.bytes += cost;
        self.events.push_back((event, time));
        true
    }

    /// Puts the count of what was dropped where that would have stood.
    fn push_dropped(&mut self, at: crate::ids::Moment, time: u64) {
        if self.dropped > 0 {
            let mut event = Box::new(AppEvent::new(EventKind::Dropped, at));
            event.count = std::mem::take(&mut self.dropped);
            event.seq = self.next_seq();
            self.bytes += event.cost_bytes();
            self.events.push_back((event, time));
        }
    }

    /// Events are numbered here, where none is lost any more, so that numbers have no holes.
    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// How many events make the next batch.
    fn batch(&self) -> usize {
        let mut bytes = 0;
        let fits = |(event, _): &&(Box<AppEvent>, u64)| {
            bytes += event.cost_bytes();
            bytes <= EVENTS_BATCH_BYTES_MAX
        };
        let count = self.events.iter().take(EVENTS_BATCH_MAX).take_while(fits).count();
        count.max(usize::from(!self.events.is_empty()))
    }

    /// Forgets the first `count`: they have been written.
    fn written(&mut self, count: usize) {
        for (event, _) in self.events.drain(..count) {
            self.bytes -= event.cost_bytes();
        }
    }
}

impl EventWriter {
    /// Whether all has been written.
    pub(super) fn is_idle(&self) -> bool {
        let queue = self.queue.borrow();
        queue.events.is_empty() && queue.dropped == 0 && !self.writing.get()
    }
}

impl Bridge {
    /// Takes an event from a shard.
    pub(super) fn on_event(&self, event: Box<AppEvent>) {
        let age = (self.now)().since(event.at).as_millis() as u64;
        let kind = event.kind;
        // Events that the application does not get if there is no room for this one.
        let missed = match kind {
            EventKind::Dropped => event.count,
            kind => u64::from(self.is_written(kind)),
        };
        if self.settings.events.roster {
            self.events.roster.note(&event, self.settings.server.max_connections);
        }
        let time = unix_millis().saturating_sub(age);
        let taken = self.events.queue.borrow_mut().push(event, time, missed);
        // Those that a shard has counted were dropped there.
        if !taken || kind == EventKind::Dropped {
            self.counters.events_dropped.add(missed);
        }
        self.events.work.notify_one();
    }

    /// Has the roster written to Redis anew.
    pub(super) fn write_roster(&self) {
        self.events.roster.is_due.set(true);
        self.events.work.notify_one();
    }

    /// Names and values that all events of this node have.
    fn entry(&self, event: &AppEvent, time: u64) -> Entry {
        let mut entry = front(event.kind.name(), (&self.nodes.member.uid, self.nodes.member.boot));
        let mut field = |name: &str, value: &[u8]| {
            entry.extend([name.as_bytes().to_vec(), value.to_vec()]);
        };
        if let Some(client) = event.client {
            field("client", client.to_string().as_bytes());
            field("user", event.user.as_bytes());
        }
        if let Some(channel) = &event.channel {
            field("channel", channel.as_str().as_bytes());
        }
        match event.kind {
            EventKind::Disconnect | EventKind::Unsubscribe => {
                field("code", event.code.to_string().as_bytes());
                field("reason", event.reason.as_bytes());
            }
            EventKind::Message | EventKind::Publish => field("data", &event.data),
            EventKind::Dropped => field("count", event.count.to_string().as_bytes()),
            EventKind::Connect | EventKind::Subscribe => {}
        }
        field("seq", event.seq.to_string().as_bytes());
        field("time", time.to_string().as_bytes());
        entry
    }

    /// Whether an event is written, and not only of use for the roster.
    fn is_written(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Connect => self.settings.events.connect,
            EventKind::Disconnect => self.settings.events.disconnect,
            _ => true,
        }
    }

    /// A hash: this or another node's clients, with their users.
    pub(super) fn roster_key(&self, uid: &str) -> Vec<u8> {
        self.keys.other(&format!("roster:{uid}"))
    }
}

/// The fields with which an entry begins.
pub(super) fn front(event: &str, (uid, boot): (&str, u64)) -> Entry {
    let boot = boot.to_string();
    let texts = ["event", event, "node", uid, "boot", &boot];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// The wall clock.
pub(super) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Writes what there is, and waits for more: for ever.
pub(super) async fn run(bridge: Rc<Bridge>) {
    // Of what has a beginning the end must be told, though this node die at once.
    while !bridge.nodes.is_known() {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    let (mut backoff, witness) = (Backoff::new(), Witness::default());
    loop {
        let failed = match Link::connect(&bridge, BUS_CALL_TIMEOUT).await {
            Ok(link) => write(&bridge, (&link, &witness), &mut backoff).await,
            Err(error) => error,
        };
        if backoff.is_worth_a_line() {
            tracing::warn!(error = %failed, "events can't be written; they are kept");
        }
        backoff.pause().await;
    }
}

async fn write(
    bridge: &Bridge,
    (link, witness): (&Link, &Witness),
    backoff: &mut Backoff,
) -> LinkError {
    if let Err(error) = witness.verify(bridge, link).await {
        return error;
    }
    loop {
        let has_work =
            || !bridge.events.queue.borrow().events.is_empty() || bridge.events.roster.is_due.get();
        while !has_work() {
            bridge.events.work.notified().await;
        }
        if link.is_over() {
            return LinkError::Lost("the connection has ended".to_owned());
        }
        if let Err(error) = witness.verify_in_time(bridge, link).await {
            return error;
        }
        bridge.events.writing.set(true);
        let written = match roster::write(bridge, link).await {
            Ok(()) => write_batch(bridge, link).await,
            Err(error) => Err(error),
        };
        bridge.events.writing.set(false);
        if let Err(error) = written {
            return error;
        }
        if backoff.reset() {
            tracing::info!("events are written again");
        }
    }
}

async fn write_batch(bridge: &Bridge, link: &Link) -> Result<(), LinkError> {
    let key = bridge.roster_key(&bridge.nodes.member.uid);
    let (mut entries, mut joined, mut left) = (Vec::new(), vec![key.clone()], vec![key.clone()]);
    let count = {
        let queue = bridge.events.queue.borrow();
        let count = queue.batch();
        for (event, time) in queue.events.iter().take(count) {
            let client = event.client.map(|client| client.to_string().into_bytes());
            match event.kind {
                EventKind::Connect => {
                    joined.extend(client);
                    joined.push(event.user.as_bytes().to_vec());
                }
                EventKind::Disconnect => left.extend(client),
                _ => {}
            }
            if bridge.is_written(event.kind) {
                entries.push(bridge.entry(event, *time));
            }
        }
        count
    };
    // In this order: whoever dies in between leaves too many in the roster, never too few.
    let roster = bridge.settings.events.roster;
    if roster && joined.len() > 1 {
        link.call("HSET", &key, joined).await?;
    }
    append(bridge, link, &entries).await?;
    if roster && left.len() > 1 {
        link.call("HDEL", &key, left).await?;
    }
    let mut queue = bridge.events.queue.borrow_mut();
    queue.written(count);
    queue.push_dropped((bridge.now)(), unix_millis());
    Ok(())
}

/// Appends entries to the stream.
pub(super) async fn append(
    bridge: &Bridge,
    link: &Link,
    entries: &[Entry],
) -> Result<(), LinkError> {
    if entries.is_empty() {
        return Ok(());
    }
    let key = bridge.settings.events.stream.as_bytes();
    let options = &bridge.settings.events;
    let most = [options.entries_max, options.bytes_max].map(|most| most.to_string().into_bytes());
    let marks = bridge.keys.event_marks(&options.stream);
    let mut args = vec![APPEND.as_bytes().to_vec(), b"2".to_vec(), key.to_vec(), marks];
    args.extend(most);
    for entry in entries {
        args.push(entry.len().to_string().into_bytes());
        args.extend(entry.iter().cloned());
    }
    link.call("EVAL", key, args).await?;
    bridge.counters.events_written.add(entries.len() as u64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Moment;

    fn event(kind: EventKind, bytes: usize) -> Box<AppEvent> {
        let mut event = Box::new(AppEvent::new(kind, Moment::default()));
        event.data = vec![0; bytes].into();
        event
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_count_stands_where_it_would_have_stood() {
        let mut queue = Queue::default();
        let half = EVENTS_BYTES_MAX / 2;
        assert!(queue.push(event(EventKind::Message, half), 1, 1));
        assert!(!queue.push(event(EventKind::Message, half), 2, 1));
        assert!(!queue.push(event(EventKind::Dropped, half), 3, 5));
        assert!(!queue.push(event(EventKind::Connect, half), 3, 0), "the roster's alone");
        assert_eq!(queue.dropped, 6);
        queue.written(1);
        assert_eq!((queue.bytes, queue.events.len()), (0, 0));
        assert!(queue.push(event(EventKind::Message, 1), 4, 1));
        let kinds: Vec<_> = queue.events.iter().map(|(event, _)| event.kind).collect();
        assert_eq!(kinds, [EventKind::Dropped, EventKind::Message]);
        assert_eq!(queue.events[0].0.count, 6);
        assert!(queue.push(event(EventKind::Connect, 0), 5, 0), "the roster's alone");
        assert!(queue.push(event(EventKind::Message, 1), 6, 1));
        let numbers: Vec<_> = queue.events.iter().map(|(event, _)| event.seq).collect();
        assert_eq!(numbers, [2, 3, 0, 4], "none of what was dropped, or is not written");
    }

    #[test]
    fn a_batch_is_bounded_in_events_and_bytes_and_never_empty() {
        let mut queue = Queue::default();
        assert_eq!(queue.batch(), 0);
        queue.push(event(EventKind::Message, 2 * EVENTS_BATCH_BYTES_MAX), 0, 1);
        queue.push(event(EventKind::Message, 1), 0, 1);
        assert_eq!(queue.batch(), 1, "a large one goes alone");
        queue.written(1);
        for _ in 0..EVENTS_BATCH_MAX {
            assert!(queue.push(event(EventKind::Connect, 0), 0, 1));
        }
        assert_eq!(queue.batch(), EVENTS_BATCH_MAX);
    }
}
