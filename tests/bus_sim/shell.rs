//! A model of the shell around one node's bus. It handles its connections like `bridge::writer` and
//! `bridge::reader`, in small steps.

use std::collections::VecDeque;
use std::time::Duration;

use corecast::bus::{AppendFailed, Call, Engine, Look, Outcome};
use corecast::ids::Moment;
use corecast::limits::{
    BUS_CALL_TIMEOUT, BUS_READ_TIMEOUT, BUS_RENEWAL_INTERVAL, BUS_RETRY_MAX, BUS_RETRY_MIN,
    BUS_TAIL_INTERVAL, RETRY_INTERVAL,
};
use corecast::mesh::{Inbox, ToBridge};

use super::log::log;
use super::redis::{Answer, Link, Redis, Request};

/// Increasing pauses between attempts to connect.
struct Backoff {
    next: Duration,
    until: Moment,
}

impl Backoff {
    fn new() -> Backoff {
        Backoff { next: BUS_RETRY_MIN, until: Moment::default() }
    }

    fn pause(&mut self, redis: &mut Redis, now: Moment) {
        let jitter = redis.random.below(1000) as f64 / 1000.0;
        self.until = now.after(self.next.mul_f64(1.0 + jitter));
        self.next = (self.next * 2).min(BUS_RETRY_MAX);
    }
}

/// A pending request of the writer.
struct Asked {
    call: Call,
    deadline: Moment,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Fence(usize),
    /// Reads when there is room.
    Ready,
    Read,
    Look(usize),
}

pub struct Shell {
    number: usize,
    pub engine: Engine,
    pub inbox: Inbox<ToBridge>,
    streams: usize,
    writer: Option<Link>,
    asked: VecDeque<Asked>,
    writer_backoff: Backoff,
    reader: Option<(Link, Stage)>,
    deadline: Moment,
    reader_backoff: Backoff,
    looked: Moment,
    /// Time of the present request.
    asked_at: Moment,
    /// Time of the last renewal of all connections.
    renewed: Option<Moment>,
    room_at: Option<Moment>,
    tick_at: Moment,
}

impl Shell {
    pub fn new(number: usize, streams: usize, engine: Engine, inbox: Inbox<ToBridge>) -> Shell {
        Shell {
            number,
            engine,
            inbox,
            streams,
            writer: None,
            asked: VecDeque::new(),
            writer_backoff: Backoff::new(),
            reader: None,
            deadline: Moment::default(),
            reader_backoff: Backoff::new(),
            looked: Moment::default(),
            asked_at: Moment::default(),
            renewed: None,
            room_at: None,
            tick_at: Moment::default(),
        }
    }

    /// Whether both connections are open.
    pub fn is_connected(&self) -> bool {
        self.writer.is_some() && self.reader.is_some()
    }

    /// Whether the connections lead to different servers.
    pub fn is_apart(&self, redis: &Redis) -> bool {
        let writer = self.writer.and_then(|link| redis.server_of(link));
        let reader = self.reader.and_then(|(link, _)| redis.server_of(link));
        writer.zip(reader).is_some_and(|(writer, reader)| writer != reader)
    }

    /// Closes the connections, as at the end of the process.
    pub fn end(&mut self, redis: &mut Redis) {
        let links = self.writer.take().into_iter().chain(self.reader.take().map(|(link, _)| link));
        links.for_each(|link| redis.close(link));
    }

    /// Does everything that is possible at the moment.
    pub fn step(&mut self, redis: &mut Redis, now: Moment) {
        while let Some(batch) = self.inbox.take() {
            for message in batch {
                match message {
                    ToBridge::Bus(message) => self.engine.on_message(now, message),
                    other => panic!("there are no events and no other nodes: {other:?}"),
                }
            }
        }
        if now >= self.tick_at {
            self.tick_at = now.after(RETRY_INTERVAL);
            self.engine.on_tick(now);
            if let Some(why) = self.engine.take_renewal(now) {
                self.renew(redis, now, &format!("{why:?}"));
            }
        }
        // Tasks of a thread run in any order.
        if redis.random.chance(50) {
            self.step_writer(redis, now);
            self.step_reader(redis, now);
        } else {
            self.step_reader(redis, now);
            self.step_writer(redis, now);
        }
        self.engine.flush();
    }

    /// Replaces all connections by new ones.
    fn renew(&mut self, redis: &mut Redis, now: Moment, why: &str) {
        log(now, || format!("node {} makes its connections anew: {why}", self.number));
        let last = self.renewed.replace(now);
        let paused = last.is_none_or(|last| now.since(last) >= BUS_RENEWAL_INTERVAL);
        assert!(paused, "node {} renews its connections too often", self.number);
        if self.writer.is_some() {
            self.end_writer(redis, now, why);
        }
        if self.reader.is_some() {
            self.end_reader(redis, now, why);
        }
    }

    fn step_writer(&mut self, redis: &mut Redis, now: Moment) {
        let Some(link) = self.writer else {
            if now >= self.writer_backoff.until {
                self.writer = redis.connect(now);
                if self.writer.is_some() {
                    log(now, || format!("node {} connects its writer", self.number));
                    self.engine.on_up(now, vec![(0..self.streams).collect()]);
                } else {
                    self.writer_backoff.pause(redis, now);
                }
            }
            return;
        };
        loop {
            match redis.receive(link, now) {
                Ok(Some(answer)) => {
                    let asked = self.asked.pop_front().expect("an answer to something");
                    if let Err(why) = self.on_answer(now, asked, answer) {
                        return self.end_writer(redis, now, why);
                    }
                    self.writer_backoff.next = BUS_RETRY_MIN;
                }
                Ok(None) => break,
                Err(()) => return self.lose_writer(redis, now, "the connection has ended"),
            }
        }
        if self.asked.front().is_some_and(|asked| asked.deadline <= now) {
            return self.lose_writer(redis, now, "no answer");
        }
        let deadline = now.after(BUS_CALL_TIMEOUT);
        while let Some(call) = self.engine.next_call(now) {
            let request = match call.clone() {
                Call::Fence { stream, seen } => Request::Fence { stream, seen },
                Call::Append(append) => Request::Append(append),
                Call::Tops(tops) => Request::Tops(tops),
                Call::Older(older) => Request::Older(older),
                Call::Probe(probe) => Request::Probe(probe),
            };
            redis.send(link, now, request);
            self.asked.push_back(Asked { call, deadline });
        }
    }

    /// Handles an answer to a call. An error says why the connection is unusable.
    fn on_answer(&mut self, now: Moment, asked: Asked, answer: Answer) -> Result<(), &'static str> {
        let (outcome, failed) = match (asked.call, answer) {
            (Call::Fence { stream, .. }, Answer::Fenced(id)) => {
                (Outcome::Fenced(stream, id), id.is_none().then_some("no fence"))
            }
            (Call::Append(append), Answer::Appended(result)) => {
                let wrong =
                    matches!(result, Err(AppendFailed::WrongServer(_) | AppendFailed::Lost));
                (Outcome::Appended(append.stream, result), wrong.then_some("the wrong server"))
            }
            (Call::Tops(tops), Answer::Located(stand)) => {
                if stand.is_none() {
                    self.engine.set_unfenced(tops.stream);
                }
                (Outcome::Located(tops.stream, stand), None)
            }
            (Call::Older(older), Answer::Found(found)) => {
                if found.is_none() {
                    self.engine.set_unfenced(older.stream);
                }
                (Outcome::Read(older.stream, found), None)
            }
            (Call::Probe(probe), Answer::Probed(result)) => {
                let wrong = matches!(result, Err(AppendFailed::WrongServer(_)));
                (Outcome::Probed(probe.stream, result), wrong.then_some("the wrong server"))
            }
            (call, answer) => panic!("{answer:?} does not answer {call:?}"),
        };
        self.engine.on_outcome(now, outcome);
        failed.map_or(Ok(()), Err)
    }

    /// Closes the writer's connection after a failed call.
    fn lose_writer(&mut self, redis: &mut Redis, now: Moment, why: &str) {
        let outcome = self.asked.pop_front().map(|asked| match asked.call {
            Call::Fence { stream, .. } => Outcome::Fenced(stream, None),
            Call::Append(append) => Outcome::Appended(append.stream, Err(AppendFailed::Lost)),
            Call::Tops(tops) => Outcome::Located(tops.stream, None),
            Call::Older(older) => Outcome::Read(older.stream, None),
            Call::Probe(probe) => Outcome::Probed(probe.stream, Err(AppendFailed::Lost)),
        });
        if let Some(outcome) = outcome {
            self.engine.on_outcome(now, outcome);
        }
        self.end_writer(redis, now, why);
    }

    fn end_writer(&mut self, redis: &mut Redis, now: Moment, why: &str) {
        log(now, || format!("node {} loses its writer: {why}", self.number));
        if let Some(link) = self.writer.take() {
            redis.close(link);
        }
        self.asked.clear();
        self.engine.on_down(now);
        self.writer_backoff.pause(redis, now);
    }

    fn step_reader(&mut self, redis: &mut Redis, now: Moment) {
        let Some((link, stage)) = self.reader else {
            if now >= self.reader_backoff.until {
                match redis.connect(now) {
                    Some(link) => {
                        log(now, || format!("node {} connects its reader", self.number));
                        self.ask(redis, now, (link, Stage::Fence(0)));
                        self.looked = now;
                    }
                    None => self.reader_backoff.pause(redis, now),
                }
            }
            return;
        };
        if matches!(stage, Stage::Ready) {
            return self.read(redis, now, link);
        }
        match redis.receive(link, now) {
            Ok(Some(answer)) => self.on_read(redis, now, (link, stage), answer),
            Ok(None) if self.deadline <= now => self.end_reader(redis, now, "no answer"),
            Ok(None) => {}
            Err(()) => self.end_reader(redis, now, "the connection has ended"),
        }
    }

    /// Starts a stage of the reader.
    fn ask(&mut self, redis: &mut Redis, now: Moment, (link, stage): (Link, Stage)) {
        let request = match stage {
            Stage::Fence(stream) => Some(Request::Fence { stream, seen: self.engine.seen(stream) }),
            Stage::Ready => None,
            Stage::Read => {
                let cursors = (0..self.streams).map(|stream| self.engine.cursor(stream));
                Some(Request::Read(cursors.collect()))
            }
            Stage::Look(stream) => Some(Request::Look(stream)),
        };
        self.reader = Some((link, stage));
        self.deadline = now.after(BUS_READ_TIMEOUT);
        self.asked_at = now;
        if let Some(request) = request {
            redis.send(link, now, request);
        }
    }

    fn on_read(
        &mut self,
        redis: &mut Redis,
        now: Moment,
        (link, stage): (Link, Stage),
        answer: Answer,
    ) {
        let next = match (stage, answer) {
            (Stage::Fence(_), Answer::Fenced(None)) => {
                return self.end_reader(redis, now, "no fence");
            }
            (Stage::Fence(stream), Answer::Fenced(Some(fenced))) => {
                self.engine.on_reader(stream, Some(fenced.run));
                self.engine.on_fenced(stream, &fenced);
                if stream + 1 < self.streams { Stage::Fence(stream + 1) } else { Stage::Ready }
            }
            (Stage::Read, Answer::Entries(found)) => {
                self.reader_backoff.next = BUS_RETRY_MIN;
                for (stream, entries) in found {
                    log(now, || {
                        let ids: Vec<_> =
                            entries.iter().map(|entry| entry.id.to_string()).collect();
                        format!("node {} reads {ids:?} of stream {stream}", self.number)
                    });
                    self.engine.on_entries(now, stream, &entries);
                }
                let look = now.since(self.looked) >= BUS_TAIL_INTERVAL;
                if look { Stage::Look(0) } else { Stage::Ready }
            }
            (Stage::Look(stream), Answer::Tail(run, tail)) => {
                self.looked = now;
                self.engine.on_reader(stream, Some(run));
                let look = Look { asked: self.asked_at, tail };
                if !self.engine.on_tail(now, stream, look) {
                    return self.end_reader(redis, now, "it is behind");
                }
                if stream + 1 < self.streams { Stage::Look(stream + 1) } else { Stage::Ready }
            }
            (stage, answer) => panic!("{answer:?} does not answer {stage:?}"),
        };
        self.ask(redis, now, (link, next));
    }

    /// Reads, if the shards have room, or had some time to make room.
    fn read(&mut self, redis: &mut Redis, now: Moment, link: Link) {
        if self.engine.is_behind() {
            let until = *self.room_at.get_or_insert(now.after(RETRY_INTERVAL / 10));
            if now < until || !self.engine.is_loaded() {
                return;
            }
        }
        self.room_at = None;
        self.ask(redis, now, (link, Stage::Read));
    }

    fn end_reader(&mut self, redis: &mut Redis, now: Moment, why: &str) {
        log(now, || format!("node {} loses its reader: {why}", self.number));
        if let Some((link, _)) = self.reader.take() {
            redis.close(link);
        }
        for stream in 0..self.streams {
            self.engine.on_reader(stream, None);
        }
        self.reader_backoff.pause(redis, now);
    }
}
