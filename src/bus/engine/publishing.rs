//! The path of a publication from the request to the answer.

use std::sync::Arc;

use super::Engine;
use crate::bus::EntryId;
use crate::bus::append::{AppendFailed, Appended, Appending, Durable, Once};
use crate::bus::record::{self, Offset};
use crate::bus::writer::{GivenUp, Loss, Pending, Taken, Waiter};
use crate::channel::{ChannelName, HistoryUse, Namespace};
use crate::ids::Moment;
use crate::limits::{BUS_PENDING_BYTES_MAX, BUS_PUBLISH_DEADLINE};
use crate::mesh::{Asker, Publish, Published, Ticket, ToShard};
use crate::reason::ClientError;

impl Engine {
    /// Queues a publication for its stream, or refuses it.
    pub fn publish(&mut self, now: Moment, publish: Publish, once: Once) {
        let Publish { channel, publication, history, idempotency_key, asker } = publish;
        let waiter = Waiter::Publisher(asker);
        let namespace = match self.options.settings.channel.namespaces.resolve(channel.as_str()) {
            Ok(namespace) => Arc::clone(namespace),
            Err(error) => return self.answer(waiter, Err(error)),
        };
        if !record::fits(channel.as_str(), &publication) {
            return self.answer(waiter, Err(ClientError::LimitExceeded));
        }
        if matches!(asker, Asker::Control(_)) {
            self.counters.publications_api.add(1);
        }
        // A publication that skips the history gets no offset, because clients that recover would
        // see a hole.
        let skips = namespace.has_history() && history == HistoryUse::Skip;
        let offset = if skips { Offset::None } else { Offset::Next };
        let once = match (once, idempotency_key) {
            (Once::Ingested { stream, place, .. }, key) => Once::Ingested { stream, place, key },
            (once, key) => key.map_or(once, Once::Key),
        };
        let appending = Appending {
            offset,
            once,
            record: record::encode(channel.as_str(), &publication, offset).into(),
            durable: if skips { Durable::None } else { durable(&namespace) },
            channel,
        };
        let pending = Pending {
            appending,
            positioned: namespace.has_history() && !skips,
            waiter,
            deadline: now.after(BUS_PUBLISH_DEADLINE),
        };
        self.push(now, pending);
    }

    fn push(&mut self, now: Moment, mut pending: Pending) {
        let stream = self.stream_of(pending.appending.channel.as_str());
        // It would most likely fail at its deadline, so the publisher is told immediately.
        if self.is_away(now) || self.streams[stream].ill {
            return self.refuse(&pending, Loss::Certain);
        }
        let bytes = pending.bytes();
        if self.pending_bytes + bytes > BUS_PENDING_BYTES_MAX {
            self.counters.full.add(1);
            return self.answer(pending.waiter, Err(ClientError::BusUnavailable));
        }
        self.pending_bytes += bytes;
        if crate::sabotage!(EarlyAcknowledgement) {
            let waiter = std::mem::replace(&mut pending.waiter, Waiter::Nobody);
            self.answer(waiter, Ok(Published { position: None, repeated: false }));
        }
        self.streams[stream].writer.push(pending);
    }

    /// Queues a request to remove a history. It goes through the stream, so that every node removes
    /// the same publications.
    pub(super) fn remove_history(&mut self, now: Moment, channel: ChannelName, ticket: Ticket) {
        let namespace = self.options.settings.channel.namespaces.resolve(channel.as_str());
        let durable = namespace.is_ok_and(|namespace| namespace.durable_history);
        let appending = Appending {
            offset: Offset::None,
            once: Once::Never,
            record: record::encode_remove_history(channel.as_str()).into(),
            durable: if durable { Durable::Forget } else { Durable::None },
            channel,
        };
        let pending = Pending {
            appending,
            positioned: false,
            waiter: Waiter::Remover(ticket),
            deadline: now.after(BUS_PUBLISH_DEADLINE),
        };
        self.push(now, pending);
    }

    pub(super) fn on_appended(
        &mut self,
        now: Moment,
        stream: usize,
        result: Result<Appended, AppendFailed>,
    ) {
        let fresh = self.fresh();
        // One refusal may concern this batch only. A probe shows whether the server refuses all.
        if matches!(result, Err(AppendFailed::Refused(_) | AppendFailed::WrongServer(_))) {
            self.hurry_probe(now, stream);
        }
        let state = &mut self.streams[stream];
        let writer = &mut state.writer;
        match result {
            Ok(appended) => {
                let at = appended.at;
                state.unread.note(now, at, state.cursor.at());
                let taken = writer.on_appended(appended);
                self.counters.appended.add(taken.len() as u64);
                for one in taken {
                    self.on_taken(stream, at, one);
                }
                self.confirm(stream);
            }
            Err(AppendFailed::Fenced) => {
                self.streams[stream].unfenced = true;
                let unknown = self.streams[stream].writer.on_refused(fresh);
                self.give_up(unknown, Loss::Unknown);
            }
            Err(AppendFailed::OutOfOrder) => {
                let unknown = writer.on_refused(fresh);
                self.give_up(unknown, Loss::Unknown);
            }
            Err(AppendFailed::WrongServer(_)) => {
                writer.on_turned_away();
                if state.ill {
                    // Publishers should not wait for a server that is known to accept nothing.
                    let certain = writer.give_back();
                    self.give_up(certain, Loss::Certain);
                }
            }
            Err(AppendFailed::Lost) => writer.on_lost(),
            Err(AppendFailed::Refused(_)) => {
                let GivenUp { certain, unknown } = writer.abandon(fresh);
                self.give_up(certain, Loss::Certain);
                self.give_up(unknown, Loss::Unknown);
            }
        }
    }

    /// Answers the publisher of a publication that is in the stream, in the entry `at`.
    fn on_taken(&mut self, stream: usize, at: EntryId, taken: Taken) {
        let Taken { pending, position, repeat } = taken;
        self.pending_bytes -= pending.bytes();
        // The client has created this channel, and its shard limits the pace of new channels.
        let first = position.is_some_and(|position| position.offset == 1);
        if let Waiter::Publisher(Asker::Connection { connection, .. }) = pending.waiter
            && first
            && !repeat
        {
            let lane = self.outbound.shard(connection.shard);
            lane.push(ToShard::Created { connection });
        }
        let ingested = pending.is_ingested();
        let position = position.filter(|_| pending.positioned);
        let published = Published { position, repeated: repeat && ingested };
        if ingested {
            self.counters.publications_ingest.add(u64::from(!repeat));
            self.answer_once_read(stream, at, pending.waiter, published);
        } else {
            self.answer(pending.waiter, Ok(published));
        }
    }

    /// Answers the publishers of `publications` that are given up. If one of them was ingested, all
    /// later ingested ones are given up too. These are certainly in no stream.
    pub(super) fn give_up(&mut self, publications: Vec<Pending>, loss: Loss) {
        let ingested = publications.iter().find(|pending| pending.is_ingested());
        let stream = ingested.map(|one| self.stream_of(one.appending.channel.as_str()));
        let later = stream.map(|stream| self.streams[stream].writer.withdraw_ingested());
        let later = later.into_iter().flatten().map(|pending| (pending, Loss::Certain));
        for (pending, loss) in publications.into_iter().map(|one| (one, loss)).chain(later) {
            self.pending_bytes -= pending.bytes();
            self.refuse(&pending, loss);
        }
    }

    fn refuse(&mut self, pending: &Pending, loss: Loss) {
        let (error, counter) = match loss {
            Loss::Unknown => (ClientError::ResultUnknown, &self.counters.unknown),
            Loss::Certain => (ClientError::BusUnavailable, &self.counters.unavailable),
        };
        counter.add(1);
        self.answer(pending.waiter, Err(error));
    }
}

/// Returns the effect on the durable history of a channel, for a publication with an offset.
fn durable(namespace: &Namespace) -> Durable {
    if namespace.durable_history {
        Durable::Keep { size: namespace.history_size, ttl: namespace.history_ttl }
    } else {
        Durable::None
    }
}
