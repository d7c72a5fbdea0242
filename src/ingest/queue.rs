//! Entries of a source on their way to the bus. Many are sent at the same time, in order. After a
//! failure they are sent again in the same order, from the first one that failed.
//!
//! The bus accepts only publications of a source that come after the last accepted one. So repeats
//! are harmless, but no publication may overtake a failed one, because the failed one would then
//! count as accepted. After a failure, nothing more is sent until all answers have arrived and the
//! bus has given back all publications that waited behind the failed one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::entry::{Fields, IngestId, IngestRequest};
use crate::bus::Once;
use crate::ids::Moment;
use crate::limits::{
    INGEST_BYTES_MAX, INGEST_ENTRIES_MAX, INGEST_PUBLICATIONS_MAX, INGEST_TRIES_MAX,
};
use crate::mesh::{Asker, Publish, Published, Ticket};
use crate::reason::ClientError;

/// Result of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryOutcome {
    /// All of it was published, and some of it for the first time.
    Published,
    /// All of it had been published before.
    Repeated,
    /// It can't be published, for this reason.
    Refused(String),
}

/// An entry that is in progress.
#[derive(Debug)]
struct InFlight {
    id: IngestId,
    fields: Fields,
    bytes: usize,
    /// `None` if it can't be published.
    asked: Option<IngestRequest>,
    sent: usize,
    taken: usize,
    repeated: usize,
    /// The error with which the bus last refused it.
    refusal: Option<String>,
    tries: usize,
    outcome: Option<EntryOutcome>,
}

/// The entries in progress; see the module.
#[derive(Debug)]
pub struct IngestQueue {
    stream: Arc<str>,
    held: VecDeque<InFlight>,
    /// Number of entries that have left `held`.
    before: u64,
    /// Index of the first entry that may have something to send.
    next: usize,
    /// Publications that await an answer, with the numbers of their entries.
    waiting: HashMap<Ticket, u64>,
    bytes: usize,
    failed: bool,
}

impl IngestQueue {
    /// Creates a queue without entries of `stream`.
    pub fn new(stream: Arc<str>) -> IngestQueue {
        IngestQueue {
            stream,
            held: VecDeque::new(),
            before: 0,
            next: 0,
            waiting: HashMap::new(),
            bytes: 0,
            failed: false,
        }
    }

    /// Adds the next entry of the stream.
    pub fn push(&mut self, id: IngestId, fields: Fields, asked: Result<IngestRequest, String>) {
        let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.bytes += bytes;
        let (asked, outcome) = match asked {
            Ok(asked) => (Some(asked), None),
            Err(reason) => (None, Some(EntryOutcome::Refused(reason))),
        };
        self.held.push_back(InFlight {
            id,
            fields,
            bytes,
            asked,
            sent: 0,
            taken: 0,
            repeated: 0,
            refusal: None,
            tries: 0,
            outcome,
        });
    }

    /// Returns the next publication to send. Its answer will have `ticket`.
    pub fn send(&mut self, now: Moment, ticket: Ticket) -> Option<(Publish, Once)> {
        if self.failed || self.waiting.len() >= INGEST_PUBLICATIONS_MAX {
            return None;
        }
        loop {
            let held = self.held.get_mut(self.next)?;
            let number = held.sent;
            match &held.asked {
                Some(asked) if held.outcome.is_none() && number < asked.count() => {
                    held.sent += 1;
                    self.waiting.insert(ticket, self.before + self.next as u64);
                    let place = (held.id.0, held.id.1, number as u32);
                    let stream = Arc::clone(&self.stream);
                    let once = Once::Ingested { stream, place, key: None };
                    return Some((asked.publish(number, now, Asker::Bridge(ticket)), once));
                }
                _ => self.next += 1,
            }
        }
    }

    /// Handles the answer to the publication with `ticket`.
    pub fn on_answer(&mut self, ticket: Ticket, result: Result<Published, ClientError>) {
        let Some(number) = self.waiting.remove(&ticket) else {
            panic!("no publication awaits {ticket:?}");
        };
        // An entry leaves the queue only with an outcome, and gets one only after all its answers.
        let Some(held) = self.held.get_mut((number - self.before) as usize) else {
            panic!("the entry of {ticket:?} has left the queue");
        };
        match result {
            Ok(published) => {
                held.taken += 1;
                held.repeated += usize::from(published.repeated);
            }
            // The entry is not at fault, so this does not count as one of its tries.
            Err(ClientError::BusUnavailable | ClientError::ResultUnknown) => self.failed = true,
            Err(error) => {
                held.refusal = Some(error.details().text.to_owned());
                self.failed = true;
            }
        }
        if held.asked.as_ref().is_some_and(|asked| asked.count() == held.taken) {
            let repeated = held.repeated == held.taken;
            held.outcome =
                Some(if repeated { EntryOutcome::Repeated } else { EntryOutcome::Published });
        }
    }

    /// Removes the oldest entry and returns it, if it is done.
    pub fn take_done(&mut self) -> Option<(IngestId, Fields, EntryOutcome)> {
        let outcome = self.held.front_mut()?.outcome.take()?;
        let held = self.held.pop_front()?;
        self.before += 1;
        self.next = self.next.saturating_sub(1);
        self.bytes -= held.bytes;
        assert!(
            !self.held.is_empty() || self.bytes == 0,
            "an empty queue has {} bytes",
            self.bytes
        );
        Some((held.id, held.fields, outcome))
    }

    /// Whether something has failed and all answers have arrived, so that entries can be sent
    /// again.
    pub fn is_stuck(&self) -> bool {
        self.failed && self.waiting.is_empty()
    }

    /// Starts over with the oldest entry that is not done.
    pub fn repeat(&mut self) {
        assert!(self.failed, "no entry has failed");
        assert!(self.waiting.is_empty(), "publications in progress could be overtaken");
        for held in self.held.iter_mut().filter(|held| held.outcome.is_none()) {
            (held.sent, held.taken, held.repeated) = (0, 0, 0);
            if let Some(reason) = held.refusal.take() {
                held.tries += 1;
                if held.tries >= INGEST_TRIES_MAX {
                    held.outcome = Some(EntryOutcome::Refused(reason));
                }
            }
        }
        self.next = 0;
        self.failed = false;
    }

    /// Whether more entries may be read.
    pub fn has_room(&self) -> bool {
        !self.failed && self.held.len() < INGEST_ENTRIES_MAX && self.bytes < INGEST_BYTES_MAX
    }

    /// Whether no entry is in progress.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const PUBLISHED: Result<Published, ClientError> =
        Ok(Published { position: None, repeated: false });
    const REPEATED: Result<Published, ClientError> =
        Ok(Published { position: None, repeated: true });

    fn intake(entries: &[(u64, usize)]) -> IngestQueue {
        let mut intake = IngestQueue::new("s".into());
        for &(millis, channels) in entries {
            let channels: Vec<String> = (0..channels).map(|number| format!("c{number}")).collect();
            let params = serde_json::json!({ "channels": channels, "data": millis });
            let fields = vec![
                (b"method".to_vec(), b"broadcast".to_vec()),
                (b"payload".to_vec(), params.to_string().into_bytes()),
            ];
            let id = IngestId(millis, 0);
            let asked =
                IngestRequest::parse(id, &fields, &Settings::default().channel.namespaces, 1000);
            intake.push(id, fields, asked);
        }
        intake
    }

    /// Sends all that may be sent, with tickets from `first`. Returns the places.
    fn send(intake: &mut IngestQueue, first: u64) -> Vec<(u64, u32)> {
        let sent = (first..).map_while(|ticket| intake.send(Moment::default(), Ticket(ticket)));
        let place = |(_, once)| match once {
            Once::Ingested { place, .. } => (place.0, place.2),
            other => panic!("{other:?} is no place"),
        };
        sent.map(place).collect()
    }

    fn done(intake: &mut IngestQueue) -> Vec<(u64, EntryOutcome)> {
        let done = std::iter::from_fn(|| intake.take_done());
        done.map(|(id, _, outcome)| (id.0, outcome)).collect()
    }

    #[test]
    fn entries_are_done_in_order_when_all_of_their_publications_are() {
        let mut intake = intake(&[(1, 1), (2, 2), (3, 1)]);
        assert_eq!(send(&mut intake, 0), [(1, 0), (2, 0), (2, 1), (3, 0)]);
        for ticket in [3, 1, 0] {
            intake.on_answer(Ticket(ticket), PUBLISHED);
        }
        assert_eq!(done(&mut intake), [(1, EntryOutcome::Published)]);
        intake.on_answer(Ticket(2), REPEATED);
        assert_eq!(done(&mut intake), [(2, EntryOutcome::Published), (3, EntryOutcome::Published)]);
        assert!(intake.is_empty() && intake.bytes == 0 && intake.waiting.is_empty());
    }

    #[test]
    fn nothing_goes_past_what_has_failed() {
        let mut intake = intake(&[(1, 1), (2, 2), (3, 1)]);
        assert_eq!(send(&mut intake, 0).len(), 4);
        intake.push(IngestId(4, 0), Vec::new(), Err("bad".to_owned()));
        intake.on_answer(Ticket(0), PUBLISHED);
        intake.on_answer(Ticket(1), Err(ClientError::ResultUnknown));
        assert!(send(&mut intake, 10).is_empty() && !intake.has_room() && !intake.is_stuck());
        intake.on_answer(Ticket(2), PUBLISHED);
        intake.on_answer(Ticket(3), Err(ClientError::BusUnavailable));
        assert!(intake.is_stuck());
        assert_eq!(done(&mut intake), [(1, EntryOutcome::Published)]);
        intake.repeat();
        assert_eq!(send(&mut intake, 20), [(2, 0), (2, 1), (3, 0)]);
        for ticket in [20, 21] {
            intake.on_answer(Ticket(ticket), REPEATED);
        }
        intake.on_answer(Ticket(22), PUBLISHED);
        let expected = [
            (2, EntryOutcome::Repeated),
            (3, EntryOutcome::Published),
            (4, EntryOutcome::Refused("bad".to_owned())),
        ];
        assert_eq!(done(&mut intake), expected);
    }

    #[test]
    fn what_the_bus_does_not_want_is_given_up_after_some_tries() {
        let mut intake = intake(&[(1, 1), (2, 1)]);
        for ticket in 0..INGEST_TRIES_MAX as u64 {
            assert_eq!(send(&mut intake, ticket * 2), [(1, 0), (2, 0)], "try {ticket}");
            intake.on_answer(Ticket(ticket * 2), Err(ClientError::LimitExceeded));
            intake.on_answer(Ticket(ticket * 2 + 1), Err(ClientError::BusUnavailable));
            assert!(done(&mut intake).is_empty() && intake.is_stuck());
            intake.repeat();
        }
        assert_eq!(done(&mut intake), [(1, EntryOutcome::Refused("limit exceeded".to_owned()))]);
        assert_eq!(send(&mut intake, 100), [(2, 0)]);
    }

    #[test]
    fn no_more_is_under_way_than_the_limit() {
        let mut intake = intake(&vec![(1, 9); INGEST_ENTRIES_MAX]);
        assert!(!intake.has_room());
        assert_eq!(send(&mut intake, 0).len(), INGEST_PUBLICATIONS_MAX);
    }
}
