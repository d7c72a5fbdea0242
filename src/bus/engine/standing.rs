//! How the bus stands: whether its connections lead to one server, whether that takes what is
//! published, and whether what it took is read back.

use super::Engine;
use crate::bus::EntryId;
use crate::bus::append::AppendFailed;
use crate::bus::probe::{Master, Probe, Probed, RunId, Verdict};
use crate::bus::stream::StreamState;
use crate::bus::writer::Loss;
use crate::ids::Moment;
use crate::limits::{BUS_APART_MAX, BUS_LAG_MAX, BUS_RENEWAL_INTERVAL, BUS_UNCONFIRMED_MAX};
use crate::mesh::{Answer, Asker, ToHome};
use crate::reason::ClientError;

/// Why something that was published may not be delivered at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Redis can't be called.
    Away,
    /// A server refuses batches.
    Refusing,
    /// Connections for one stream lead to different servers.
    Apart,
    /// What was published is read too late, or not at all.
    Late,
}

/// Why all connections are to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// They lead to different servers.
    Apart,
    /// The server that is read does not have what was acknowledged.
    Absent,
}

impl Engine {
    /// What is wrong with the bus, the worst first.
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

    /// The process that the writer's connection leads to for `stream`, while that is known.
    pub fn writer_run(&self, stream: usize) -> Option<RunId> {
        self.streams[stream].writer_run
    }

    /// The reader of `stream` has learned which process its connection leads to; absent if it has
    /// none any more.
    pub fn on_reader(&mut self, stream: usize, run: Option<RunId>) {
        self.streams[stream].reader_run = run;
    }

    /// How long ago the last entry of `stream` was appended when it was read, by both clocks; 0 if
    /// there is nothing more to read.
    pub fn set_read_lag(&mut self, stream: usize, millis: u64) {
        self.streams[stream].read_lag_millis = millis;
    }

    /// A connection that is neither the writer's nor a reader's has led for long to another server
    /// than the writer's does.
    pub fn on_strayed(&mut self) {
        self.strayed = true;
    }

    /// Whether all connections are to be made anew, and why. At most once in
    /// [`BUS_RENEWAL_INTERVAL`].
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

    /// A channel was given a place that it has had before: the epoch of its stream must end, and
    /// nothing that was said of it since is to be trusted.
    pub(super) fn end_epoch(&mut self, channel: &str) {
        if crate::sabotage!(IgnoredRepeat) {
            return;
        }
        let stream = self.stream_of(channel);
        let state = &mut self.streams[stream];
        let next = EntryId { epoch: state.cursor.at().epoch + 1, number: 0 };
        (state.above, state.unfenced) = (next, true);
        state.locator.on_adrift(next);
    }

    /// Looks how the bus stands, and tells shards of streams that are read late or in time again.
    pub(super) fn stand(&mut self, now: Moment) {
        let runs = |state: &StreamState| state.writer_run.zip(state.reader_run);
        let apart = self.streams.iter().filter_map(runs).any(|(writer, reader)| writer != reader);
        self.apart_since = apart.then(|| self.apart_since.unwrap_or(now));
        let mut lag_millis = 0;
        for stream in 0..self.streams.len() {
            let state = &mut self.streams[stream];
            let lag = state.unread.lag(now);
            lag_millis = state.read_lag_millis.max(lag.as_millis() as u64).max(lag_millis);
            // Whoever can't reach Redis at all goes on with what there is.
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

    /// The next probe that is due.
    pub(super) fn next_probe(&mut self, now: Moment) -> Option<Probe> {
        let streams = &self.streams;
        let is_ready = |stream: usize| !streams[stream].unfenced;
        self.masters.iter_mut().find_map(|master| master.probe(now, is_ready))
    }

    /// An append to `stream` was refused: whether others would be is asked at once.
    pub(super) fn hurry_probe(&mut self, now: Moment, stream: usize) {
        self.master(stream).hurry(now);
    }

    /// The server that has a stream, on the connection that there is.
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
                // Another node has begun an epoch, and what is appended next is to be of it.
                state.unfenced |= probed.tail.epoch != state.writer.epoch();
                Some(Verdict::Well)
            }
            Err(AppendFailed::Fenced) => {
                state.unfenced = true;
                None
            }
            // Somebody has put something else into the place of one stream.
            Err(AppendFailed::Refused(text)) if text.starts_with("WRONGTYPE") => None,
            Err(AppendFailed::Refused(_) | AppendFailed::WrongServer(_)) => {
                // Who refuses has not said who it is: a fence that has nothing to write does.
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

    /// Answers for an ingested stream once the reader has passed `at`: what is done there is never
    /// asked for again, so it must be where it is delivered from.
    pub(super) fn answer_once_read(
        &mut self,
        stream: usize,
        at: EntryId,
        asker: Asker,
        answer: Answer,
    ) {
        let unconfirmed = &mut self.streams[stream].unconfirmed;
        if crate::sabotage!(EarlyAcknowledgement) {
            return self.answer(asker, answer);
        }
        if unconfirmed.len() >= BUS_UNCONFIRMED_MAX {
            return self.answer(asker, Answer::Error(ClientError::ResultUnknown));
        }
        unconfirmed.push((at, asker, answer));
    }

    /// Answers what the reader has passed. What was in an epoch that the reader has left may be
    /// lost: it is asked for again, and a repeat is recognised.
    pub(super) fn confirm(&mut self, stream: usize) {
        let state = &mut self.streams[stream];
        let reader = state.cursor.at();
        let is_over = |at: &EntryId| *at <= reader;
        let over: Vec<_> = state.unconfirmed.extract_if(.., |(at, ..)| is_over(at)).collect();
        for (at, asker, answer) in over {
            let read = at.epoch == reader.epoch;
            let unknown = Answer::Error(ClientError::ResultUnknown);
            self.answer(asker, if read { answer } else { unknown });
        }
    }
}
