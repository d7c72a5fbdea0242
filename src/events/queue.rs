//! Events that wait until Redis has them, in order and up to a number of bytes. Events that find no
//! room are counted, and the count takes their place in the order.

use std::collections::VecDeque;

use crate::ids::Moment;
use crate::limits::{EVENTS_BATCH_BYTES_MAX, EVENTS_BATCH_MAX, EVENTS_BYTES_MAX};
use crate::mesh::{AppEvent, EventKind};

/// An event with its time on the wall clock.
pub(crate) struct TimedEvent {
    pub(crate) event: Box<AppEvent>,
    /// Milliseconds since 1970.
    pub(crate) unix_millis: u64,
}

/// Events that wait; see the module.
#[derive(Default)]
pub(crate) struct Queue {
    events: VecDeque<TimedEvent>,
    bytes: usize,
    /// Number of dropped events that no event in the queue reports yet.
    dropped: u64,
    /// The last number that was given to an event.
    seq: u64,
}

impl Queue {
    /// Adds an event. Returns false if there is no room, and counts `missed` events as dropped.
    /// This is the number of events that the application then does not get, or 0 if only the roster
    /// needs this one.
    pub(crate) fn push(&mut self, event: TimedEvent, missed: u64) -> bool {
        let TimedEvent { mut event, unix_millis } = event;
        let cost = event.cost_bytes();
        if self.bytes + cost > EVENTS_BYTES_MAX {
            self.dropped += missed;
            return false;
        }
        self.push_dropped(event.at, unix_millis);
        if missed > 0 {
            event.seq = self.next_seq();
        }
        self.bytes += cost;
        self.events.push_back(TimedEvent { event, unix_millis });
        true
    }

    /// Adds the count of dropped events in the place that they would have had.
    pub(crate) fn push_dropped(&mut self, at: Moment, unix_millis: u64) {
        if self.dropped > 0 {
            let mut event = Box::new(AppEvent::new(EventKind::Dropped, at));
            event.count = std::mem::take(&mut self.dropped);
            event.seq = self.next_seq();
            self.bytes += event.cost_bytes();
            self.events.push_back(TimedEvent { event, unix_millis });
        }
    }

    /// Returns the next number. Events are numbered only once they have room, so that numbers have
    /// no holes.
    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Returns the events of the next batch.
    pub(crate) fn batch(&self) -> impl ExactSizeIterator<Item = &TimedEvent> {
        let mut bytes = 0;
        let fits = |one: &&TimedEvent| {
            bytes += one.event.cost_bytes();
            bytes <= EVENTS_BATCH_BYTES_MAX
        };
        let count = self.events.iter().take(EVENTS_BATCH_MAX).take_while(fits).count();
        // An event above the limit makes a batch of its own.
        self.events.range(..count.max(usize::from(!self.events.is_empty())))
    }

    /// Removes the first `count` events, which have been written.
    pub(crate) fn forget(&mut self, count: usize) {
        assert!(
            count <= self.events.len(),
            "{count} events were written, but the queue has {}",
            self.events.len()
        );
        for one in self.events.drain(..count) {
            self.bytes -= one.event.cost_bytes();
        }
        assert!(
            !self.events.is_empty() || self.bytes == 0,
            "an empty queue has {} bytes",
            self.bytes
        );
    }

    /// Whether no event waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether all events have been written, including the count of dropped ones.
    pub(crate) fn is_done(&self) -> bool {
        self.events.is_empty() && self.dropped == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, bytes: usize) -> TimedEvent {
        let mut event = Box::new(AppEvent::new(kind, Moment::default()));
        event.data = vec![0; bytes].into();
        TimedEvent { event, unix_millis: 1 }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_count_stands_where_it_would_have_stood() {
        let mut queue = Queue::default();
        let half = EVENTS_BYTES_MAX / 2;
        assert!(queue.push(event(EventKind::Message, half), 1));
        assert!(!queue.push(event(EventKind::Message, half), 1));
        assert!(!queue.push(event(EventKind::Dropped, half), 5));
        assert!(
            !queue.push(event(EventKind::Connect, half), 0),
            "only the roster needs this event"
        );
        assert_eq!(queue.dropped, 6);
        queue.forget(1);
        assert_eq!((queue.bytes, queue.events.len()), (0, 0));
        assert!(queue.push(event(EventKind::Message, 1), 1));
        let kinds: Vec<_> = queue.events.iter().map(|one| one.event.kind).collect();
        assert_eq!(kinds, [EventKind::Dropped, EventKind::Message]);
        assert_eq!(queue.events[0].event.count, 6);
        assert!(queue.push(event(EventKind::Connect, 0), 0), "only the roster needs this event");
        assert!(queue.push(event(EventKind::Message, 1), 1));
        let numbers: Vec<_> = queue.events.iter().map(|one| one.event.seq).collect();
        assert_eq!(numbers, [2, 3, 0, 4], "dropped and unwritten events have no number");
    }

    #[test]
    fn a_batch_is_bounded_in_events_and_bytes_and_never_empty() {
        let mut queue = Queue::default();
        assert_eq!(queue.batch().len(), 0);
        queue.push(event(EventKind::Message, 2 * EVENTS_BATCH_BYTES_MAX), 1);
        queue.push(event(EventKind::Message, 1), 1);
        assert_eq!(queue.batch().len(), 1, "a large event is a batch of its own");
        queue.forget(1);
        for _ in 0..EVENTS_BATCH_MAX {
            assert!(queue.push(event(EventKind::Connect, 0), 1));
        }
        assert_eq!(queue.batch().len(), EVENTS_BATCH_MAX);
    }
}
