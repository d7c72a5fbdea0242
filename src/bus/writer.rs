//! The publisher of one stream: publications that wait to be appended, and the one batch that is on
//! its way.
//!
//! A batch keeps its number until its result is known, so it may safely be sent again. If the
//! result can't be known any more, the batch is never sent under another identity. Its publishers
//! learn that the result is unknown.

use std::collections::VecDeque;
use std::sync::Arc;

use super::EntryId;
use super::append::{Append, Appended, Appending, Once};
use crate::ids::{Moment, Position};
use crate::limits::{BUS_BATCH_BYTES_MAX, BUS_BATCH_PUBLICATIONS_MAX, BUS_PUBLISHER_TTL};
use crate::mesh::{Asker, Ticket};

/// A publication on its way into the stream.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) appending: Appending,
    /// Whether its publisher may learn its position.
    pub(super) positioned: bool,
    /// The receiver of the answer.
    pub(super) waiter: Waiter,
    /// When its publisher is told that it failed.
    pub(super) deadline: Moment,
}

/// The receiver of the answer about something that is on its way into the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// The publisher.
    Publisher(Asker),
    /// Control, which removes a history.
    Remover(Ticket),
    /// No receiver, because the answer has been given.
    Nobody,
}

impl Pending {
    pub(super) fn bytes(&self) -> usize {
        let Appending { channel, record, .. } = &self.appending;
        record.len() + channel.as_str().len() + size_of::<Pending>()
    }

    pub(super) fn is_ingested(&self) -> bool {
        matches!(self.appending.once, Once::Ingested { .. })
    }
}

/// A publication that is in the stream.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) pending: Pending,
    /// Position of the publication, if it has one.
    pub(super) position: Option<Position>,
    /// Whether it was in the stream before.
    pub(super) repeat: bool,
}

/// Whether publications that are given up may be in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// They are in no stream.
    Certain,
    /// They may be in the stream, and this can't be found out any more.
    Unknown,
}

/// Publications that are given up.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// Publications that are in no stream.
    pub(super) certain: Vec<Pending>,
    /// Publications that may be in the stream.
    pub(super) unknown: Vec<Pending>,
}

/// A batch that was sent, or must be sent again.
#[derive(Debug)]
struct Flight {
    number: u64,
    publications: Vec<Pending>,
    /// Whether a reply is awaited. If not, the batch must be sent again.
    sent: bool,
    /// Whether one of its sendings got no reply.
    uncertain: bool,
    /// Number of the last entry in the batch's epoch that this node had read when it first sent it.
    since: u64,
}

/// The publisher of one stream; see the module.
#[derive(Debug)]
pub(super) struct Writer {
    stream: usize,
    /// Identity in Redis, which differs between nodes, starts and epochs.
    publisher: u64,
    /// The epoch of the server that is written to. The reader's may differ for a while.
    epoch: u64,
    number: u64,
    used: Moment,
    pending: VecDeque<Pending>,
    flight: Option<Flight>,
}

impl Writer {
    pub(super) fn new(stream: usize, publisher: u64) -> Writer {
        Writer {
            stream,
            publisher,
            epoch: 0,
            number: 0,
            used: Moment::default(),
            pending: VecDeque::new(),
            flight: None,
        }
    }

    /// Returns the epoch in which batches are appended.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn push(&mut self, publication: Pending) {
        self.pending.push_back(publication);
    }

    /// Whether a batch can be sent.
    pub(super) fn is_ready(&self) -> bool {
        match &self.flight {
            Some(flight) => !flight.sent,
            None => !self.pending.is_empty(),
        }
    }

    /// Returns the next batch to send: the last one again, or publications that have gathered.
    /// `fresh` is an identity that no publisher has had, and `seen` is the last entry that was
    /// read.
    pub(super) fn send(&mut self, now: Moment, fresh: u64, seen: EntryId) -> Option<Append> {
        if self.flight.is_none() {
            // Redis forgets the counter of a silent publisher, and would then refuse its next
            // number.
            if now.since(self.used) > BUS_PUBLISHER_TTL / 2 {
                self.renew(fresh);
            }
            let publications = self.gather();
            if publications.is_empty() {
                return None;
            }
            self.number += 1;
            let (number, uncertain, since) = (self.number, false, self.of_epoch(seen));
            self.flight = Some(Flight { number, publications, sent: false, uncertain, since });
        }
        self.used = now;
        let seen = self.of_epoch(seen);
        let flight = self.flight.as_mut().filter(|flight| !flight.sent)?;
        assert!(!flight.publications.is_empty(), "an empty batch was sent");
        assert_eq!(flight.number, self.number, "only the last batch can be in progress");
        flight.sent = true;
        let publications = flight.publications.iter().map(|one| one.appending.clone());
        Some(Append {
            stream: self.stream,
            publisher: self.publisher,
            number: flight.number,
            epoch: self.epoch,
            seen,
            again: flight.uncertain.then_some(flight.since),
            publications: publications.collect(),
        })
    }

    /// Returns the number of an entry if it belongs to the writer's epoch, and 0 if not.
    fn of_epoch(&self, id: EntryId) -> u64 {
        if id.epoch == self.epoch { id.number } else { 0 }
    }

    /// Takes the waiting publications that fit into one batch. A batch has at most one ingested
    /// stream.
    fn gather(&mut self) -> Vec<Pending> {
        let mut bytes = 0;
        let mut ingested: Option<Arc<str>> = None;
        let mut batch = Vec::new();
        while let Some(next) = self.pending.front() {
            bytes += next.bytes();
            // A publication above the limit makes a batch of its own, because it would never be
            // sent otherwise.
            let full = bytes > BUS_BATCH_BYTES_MAX || batch.len() >= BUS_BATCH_PUBLICATIONS_MAX;
            if full && !batch.is_empty() {
                break;
            }
            if let Once::Ingested { stream, .. } = &next.appending.once {
                if ingested.as_ref().is_some_and(|other| other != stream) {
                    break;
                }
                ingested = Some(Arc::clone(stream));
            }
            batch.extend(self.pending.pop_front());
        }
        batch
    }

    /// Ends the batch, which is in the stream, and returns its publications. There are none if they
    /// were given up at their deadline.
    pub(super) fn on_appended(&mut self, appended: Appended) -> Vec<Taken> {
        let Some(flight) = self.flight.take() else { return Vec::new() };
        assert!(flight.sent, "an answer arrived for a batch that was not sent");
        let Appended { positions, repeats, .. } = appended;
        let count = flight.publications.len();
        assert!(
            positions.len() == count && repeats.len() == count,
            "an answer has the wrong number of positions"
        );
        let answers = positions.into_iter().zip(repeats);
        let taken = flight.publications.into_iter().zip(answers);
        taken.map(|(pending, (position, repeat))| Taken { pending, position, repeat }).collect()
    }

    /// Takes back all ingested publications that wait. An earlier one has failed and will be sent
    /// again. If a later one were appended first, the failed one would look like a repeat.
    pub(super) fn withdraw_ingested(&mut self) -> Vec<Pending> {
        if !self.pending.iter().any(Pending::is_ingested) {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.pending).into_iter();
        let (ingested, others) = all.partition::<Vec<_>, _>(Pending::is_ingested);
        self.pending = others.into();
        ingested
    }

    /// Records that the batch got no reply. It is sent again on the next connection.
    pub(super) fn on_lost(&mut self) {
        if let Some(flight) = self.flight.as_mut() {
            flight.uncertain |= flight.sent;
            flight.sent = false;
        }
    }

    /// Records that a server refused the batch because it accepts none. It is sent again to another
    /// one.
    pub(super) fn on_turned_away(&mut self) {
        if let Some(flight) = self.flight.as_mut() {
            assert!(flight.sent, "an answer arrived for a batch that was not sent");
            flight.sent = false;
        }
    }

    /// Handles a refusal: this sending appended nothing, but an earlier one may have. Returns the
    /// publications whose result will stay unknown. All others wait again, under a new identity.
    pub(super) fn on_refused(&mut self, fresh: u64) -> Vec<Pending> {
        let Some(flight) = self.flight.take() else {
            self.renew(fresh);
            return Vec::new();
        };
        self.renew(fresh);
        if flight.uncertain {
            return flight.publications;
        }
        for publication in flight.publications.into_iter().rev() {
            self.pending.push_front(publication);
        }
        Vec::new()
    }

    /// Handles the server's epoch. If it has changed, the server may not know of an earlier sending
    /// that another server accepted. Returns the publications whose result will stay unknown.
    pub(super) fn on_fenced(&mut self, epoch: u64, fresh: u64) -> Vec<Pending> {
        if std::mem::replace(&mut self.epoch, epoch) == epoch {
            return Vec::new();
        }
        // If a batch awaits its reply, it may have been sent to this server before the new epoch
        // began, or to another server. These cases can't be told apart.
        self.on_lost();
        self.on_refused(fresh)
    }

    /// Gives up the batch, which Redis has refused. An earlier sending may have been appended.
    pub(super) fn abandon(&mut self, fresh: u64) -> GivenUp {
        let flight = self.flight.take();
        self.renew(fresh);
        let mut given_up = GivenUp::default();
        if let Some(Flight { publications, uncertain, .. }) = flight {
            *if uncertain { &mut given_up.unknown } else { &mut given_up.certain } = publications;
        }
        given_up
    }

    /// Returns all publications that are certainly in no stream, because the server accepts nothing
    /// at present.
    pub(super) fn give_back(&mut self) -> Vec<Pending> {
        let unsent = self.flight.take_if(|flight| !flight.sent && !flight.uncertain);
        let mut back = Vec::new();
        if let Some(flight) = unsent {
            self.take_back_number();
            back = flight.publications;
        }
        back.extend(std::mem::take(&mut self.pending));
        back
    }

    /// Gives up publications whose deadlines have passed.
    pub(super) fn expire(&mut self, now: Moment, fresh: u64) -> GivenUp {
        let mut expired = GivenUp::default();
        while let Some(one) = self.pending.pop_front_if(|first| first.deadline <= now) {
            expired.certain.push(one);
        }
        let Some(flight) = self.flight.as_mut() else { return expired };
        let all = flight.publications.iter().all(|one| one.deadline <= now);
        if !flight.sent && !flight.uncertain {
            // Ingested publications are appended in order or not at all.
            let over = |one: &mut Pending| all || one.deadline <= now && !one.is_ingested();
            expired.certain.extend(flight.publications.extract_if(.., over));
            if flight.publications.is_empty() {
                self.flight = None;
                self.take_back_number();
            }
        } else if all {
            expired.unknown.append(&mut flight.publications);
            self.flight = None;
            if crate::sabotage!(ReusedNumber) {
                self.number -= 1;
            } else {
                self.renew(fresh);
            }
        }
        expired
    }

    /// Returns the askers whose publications have passed their deadline, in a batch that is still
    /// tried because later publications in it have time left.
    pub(super) fn release(&mut self, now: Moment) -> Vec<Waiter> {
        let flight = self.flight.iter_mut().flat_map(|flight| &mut flight.publications);
        let waits = |one: &&mut Pending| one.waiter != Waiter::Nobody && !one.is_ingested();
        let over = flight.filter(|one| one.deadline <= now).filter(waits);
        over.map(|one| std::mem::replace(&mut one.waiter, Waiter::Nobody)).collect()
    }

    /// Frees the last number for the next batch, because no server has seen it.
    fn take_back_number(&mut self) {
        assert!(self.number > 0, "numbers begin with 1");
        assert!(self.flight.is_none(), "a batch in progress must keep its number");
        self.number -= 1;
    }

    fn renew(&mut self, fresh: u64) {
        assert!(self.flight.is_none(), "a batch in progress must keep its publisher");
        self.publisher = fresh;
        self.number = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Offset;
    use crate::bus::append::Durable;
    use crate::channel::ChannelName;
    use crate::limits::BUS_PUBLISH_DEADLINE;

    const SEEN: EntryId = EntryId { epoch: 0, number: 0 };

    fn pending(ticket: u64, now: Moment) -> Pending {
        let appending = Appending {
            channel: ChannelName::new("a"),
            offset: Offset::Next,
            once: Once::Never,
            record: Arc::from(&b"record"[..]),
            durable: Durable::None,
        };
        Pending {
            appending,
            positioned: true,
            waiter: Waiter::Publisher(Asker::Control(Ticket(ticket))),
            deadline: now.after(BUS_PUBLISH_DEADLINE),
        }
    }

    #[test]
    fn a_batch_that_may_be_in_one_epoch_is_not_sent_in_another() {
        let mut writer = Writer::new(0, 1);
        let now = Moment::default();
        assert!(writer.on_fenced(7, 2).is_empty());
        writer.push(pending(1, now));
        let first = writer.send(now, 3, SEEN).expect("a batch");
        writer.on_lost();
        assert!(writer.on_fenced(7, 4).is_empty(), "the same server");
        let again = writer.send(now, 5, SEEN).expect("the batch again");
        assert_eq!((first.publisher, first.number), (again.publisher, again.number));
        assert_eq!((first.again, again.again), (None, Some(0)), "the repeat is marked as such");
        writer.on_lost();
        assert_eq!(writer.on_fenced(8, 6).len(), 1, "the result is unknown");
        assert!(writer.send(now, 7, SEEN).is_none());
    }

    #[test]
    fn nobody_waits_for_the_deadline_of_a_later_one_in_the_same_batch() {
        let mut writer = Writer::new(0, 1);
        let now = Moment::default();
        let later = now.after(BUS_PUBLISH_DEADLINE / 2);
        writer.push(pending(1, now));
        writer.push(pending(2, later));
        writer.send(later, 2, SEEN).expect("a batch");
        let over = now.after(BUS_PUBLISH_DEADLINE);
        let expired = writer.expire(over, 3);
        assert!(
            expired.certain.is_empty() && expired.unknown.is_empty(),
            "the batch may be in the stream"
        );
        assert_eq!(writer.release(over), [Waiter::Publisher(Asker::Control(Ticket(1)))]);
        assert!(writer.release(over).is_empty(), "each publication has one answer");
        writer.on_turned_away();
        let expired = writer.expire(over, 4);
        assert_eq!(
            expired.certain.len(),
            1,
            "the batch was refused, and continues without the first one"
        );
        assert_eq!(writer.send(over, 5, SEEN).expect("the rest").publications.len(), 1);
    }
}
