//! Health of the bus: whether its connections lead to the same server, whether that server accepts
//! publications, and whether accepted publications are read back.

use super::Engine;
use crate::bus::EntryId;
use crate::bus::append::AppendFailed;
use crate::bus::probe::{Master, Probe, Probed, RunId, Verdict};
use crate::bus::stream::StreamState;
use crate::bus::writer::{Loss, Waiter};
use crate::ids::Moment;
use crate::limits::{BUS_APART_MAX, BUS_LAG_MAX, BUS_RENEWAL_INTERVAL, BUS_UNCONFIRMED_MAX};
use crate::mesh::{Published, ToHome};
use crate::reason::ClientError;

/// Reason why publications may not be delivered at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Redis can't be called.
    Away,
    /// A server refuses batches.
    Refusing,
    /// The connections of a stream lead to different servers.
    Apart,
    /// Publications are read too late, or not at all.
    Late,
}

/// Reason why all connections are renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// They lead to different servers.
    Apart,
    /// The reader's server does not have entries that were acknowledged.
    Absent,
}

impl Engine {
    /// Returns the worst trouble that the bus has now.
    pub fn trouble(&self, now: Moment) -> Option<Trouble> {
        if self.streams.iter().any(|state| state.ill) {
            Some(Trouble::Refusing)
        } else if !self.up {
            Some(Trouble::Away)
        } else if self.is_apart(now) {
            Some(Trouble::Apart)
        } else if self.streams.iter().any(|state| state.unread.lag(now) > BUS_LAG_MAX) {
            Some(Trouble::Late)
        } else {
            None
        }
    }

    /// Returns the server process behind the writer's connection for `stream`, while it is known.
    pub fn writer_run(&self, stream: usize) -> Option<RunId> {
        self.streams[stream].writer_run
    }

    /// Records the server process behind the reader's connection for `stream`. `None` if there is
    /// no connection any more.
    pub fn on_reader(&mut self, stream: usize, run: Option<RunId>) {
        self.streams[stream].reader_run = run;
    }

    /// Records how long after its append the last entry of `stream` was read, by both clocks. It is
    /// 0 if no entry is left to read.
    pub fn set_read_lag(&mut self, stream: usize, millis: u64) {
        self.streams[stream].read_lag_millis = millis;
    }

    /// Records that a connection other than the writer's and the readers' has led to another server
    /// than the writer's for a long time.
    pub fn on_strayed(&mut self) {
        self.strayed = true;
    }

    /// Returns the reason to renew all connections, if there is one. This happens at most once in
    /// [`BUS_RENEWAL_INTERVAL`], because a renewal also interrupts healthy connections.
    pub fn take_renewal(&mut self, now: Moment) -> Option<Renewal> {
        if now < self.renewal_from || crate::sabotage!(UnnoticedServers) {
            return None;
        }
        let reason = if self.is_apart(now) || self.strayed {
            Renewal::Apart
        } else if self.streams.iter().any(|state| state.absent) {
            Renewal::Absent
        } else {
            return None;
        };
        // Jitter is needed, because all nodes notice a failover at about the same time.
        let jitter = (self.fresh() >> 40) as f64 / (1u64 << 24) as f64;
        self.renewal_from = now.after(BUS_RENEWAL_INTERVAL.mul_f64(1.0 + jitter / 2.0));
        (self.apart_since, self.strayed) = (None, false);
        self.streams.iter_mut().for_each(|state| state.absent = false);
        self.counters.renewals.add(1);
        Some(reason)
    }

    fn is_apart(&self, now: Moment) -> bool {
        self.apart_since.is_some_and(|since| now.since(since) >= BUS_APART_MAX)
    }

    /// Ends the epoch of a channel's stream, because the channel got an offset that it had before.
    /// Positions that were reported since then can't be trusted.
    pub(super) fn end_epoch(&mut self, channel: &str) {
        if crate::sabotage!(IgnoredRepeat) {
            return;
        }
        let stream = self.stream_of(channel);
        let state = &mut self.streams[stream];
        // The fence claims an entry of an epoch above the reader's, so that the server begins a new
        // one.
        let next = EntryId { epoch: state.cursor.at().epoch + 1, number: 0 };
        (state.above, state.unfenced) = (next, true);
        state.locator.discard_before(next);
    }

    /// Updates the health of the bus, and tells shards which streams are read late or on time
    /// again.
    pub(super) fn stand(&mut self, now: Moment) {
        let runs = |state: &StreamState| state.writer_run.zip(state.reader_run);
        let apart = self.streams.iter().filter_map(runs).any(|(writer, reader)| writer != reader);
        self.apart_since = apart.then(|| self.apart_since.unwrap_or(now));
        let mut lag_millis = 0;
        for stream in 0..self.streams.len() {
            let state = &mut self.streams[stream];
            let lag = state.unread.lag(now);
            lag_millis = state.read_lag_millis.max(lag.as_millis() as u64).max(lag_millis);
            // While Redis is out of reach, homes serve the publications that they have, because
            // waiting would not help.
            let late = lag > BUS_LAG_MAX && self.up && state.reader_run.is_some();
            if std::mem::replace(&mut state.told_late, late) != late {
                let streams = self.options.settings.redis.streams;
                for lane in self.outbound.shards() {
                    lane.push(ToHome::Late { stream, streams, late });
                }
            }
        }
        self.counters.lag_millis.set(lag_millis);
    }

    /// Returns the next probe that is due.
    pub(super) fn next_probe(&mut self, now: Moment) -> Option<Probe> {
        let streams = &self.streams;
        let is_ready = |stream: usize| !streams[stream].unfenced;
        self.masters.iter_mut().find_map(|master| master.probe(now, is_ready))
    }

    /// Asks immediately whether other appends would be refused too, after one to `stream` was.
    pub(super) fn hurry_probe(&mut self, now: Moment, stream: usize) {
        self.master(stream).hurry(now);
    }

    /// Returns the server that has a stream on the current connection.
    fn master(&mut self, stream: usize) -> &mut Master {
        let master = self.masters.iter_mut().find(|one| one.streams().contains(&stream));
        let Some(master) = master else { panic!("no server has stream {stream}") };
        master
    }

    pub(super) fn on_probed(
        &mut self,
        now: Moment,
        stream: usize,
        result: &Result<Probed, AppendFailed>,
    ) {
        let state = &mut self.streams[stream];
        let verdict = match result {
            Ok(probed) => {
                state.writer_run = Some(probed.run);
                state.unread.note(now, probed.tail, state.cursor.at());
                // Another node has begun an epoch. The next batch must belong to it, so the writer
                // needs another fence.
                state.unfenced |= probed.tail.epoch != state.writer.epoch();
                Some(Verdict::Well)
            }
            Err(AppendFailed::Fenced) => {
                state.unfenced = true;
                None
            }
            // The key of one stream has another type, which says nothing about the server.
            Err(AppendFailed::Refused(text)) if text.starts_with("WRONGTYPE") => None,
            Err(AppendFailed::Refused(_) | AppendFailed::WrongServer(_)) => {
                // A refusal does not name the process that sent it. A fence does, even on a server
                // that refuses writes, if it has nothing to write.
                state.unfenced = true;
                Some(Verdict::Ill)
            }
            Err(AppendFailed::OutOfOrder | AppendFailed::Lost) => None,
        };
        let master = self.master(stream);
        if !master.on_answer(now, verdict) {
            return;
        }
        let (ill, streams) = (master.is_ill(), master.streams().to_vec());
        for stream in streams {
            self.streams[stream].ill = ill;
            if ill {
                let certain = self.streams[stream].writer.give_back();
                self.give_up(certain, Loss::Certain);
            }
        }
    }

    /// Answers a request of ingest once the reader has passed `at`. Ingest never sends an
    /// acknowledged entry again, so the entry must be on the server from which it is delivered.
    pub(super) fn answer_once_read(
        &mut self,
        stream: usize,
        at: EntryId,
        waiter: Waiter,
        published: Published,
    ) {
        let unconfirmed = &mut self.streams[stream].unconfirmed;
        if crate::sabotage!(EarlyAcknowledgement) {
            return self.answer(waiter, Ok(published));
        }
        // If the result is unknown, ingest sends the entry again, and the script recognises the
        // repeat.
        if unconfirmed.len() >= BUS_UNCONFIRMED_MAX {
            return self.answer(waiter, Err(ClientError::ResultUnknown));
        }
        unconfirmed.push((at, waiter, published));
    }

    /// Answers requests whose entries the reader has passed. If the reader has left an entry's
    /// epoch, the entry may be lost, so the result is unknown. Ingest then sends the entry again,
    /// and a repeat is recognised.
    pub(super) fn confirm(&mut self, stream: usize) {
        let state = &mut self.streams[stream];
        let reader = state.cursor.at();
        let is_over = |at: &EntryId| *at <= reader;
        let over: Vec<_> = state.unconfirmed.extract_if(.., |(at, ..)| is_over(at)).collect();
        for (at, waiter, published) in over {
            let read = at.epoch == reader.epoch;
            self.answer(waiter, if read { Ok(published) } else { Err(ClientError::ResultUnknown) });
        }
    }
}
