//! Publishing to a fleet: in a closed loop, the next when the oldest has reached everyone, or in an
//! open one, each at its moment. In an open loop latency counts from the moment at which a
//! publication was due, so that a server that holds the publisher up cannot hide it.

use crate::error::{Error, PublishError};
use crate::fleet::{Ended, Fleet, OUTSTANDING_MAX};
use crate::latency::Latencies;
use crate::progress::LOOK;
use crate::publish::Publisher;
use crate::sys;
use crate::wire::mark::Mark;
use serde::Serialize;
use std::thread;
use std::time::{Duration, Instant};

/// Before a publication is due the publisher stays awake for this long.
const AWAKE: Duration = Duration::from_micros(150);
/// How often the course of a series is noted.
const MOMENT: Duration = Duration::from_secs(1);
/// A publisher that has no time to wait still looks up once in so many publications.
const PUBLICATIONS_PER_LOOK: u32 = 64;
/// Bounds of an open loop's rate: one publication in a quarter of an hour is the slowest.
const RATE_MIN: f64 = 1e-3;
const RATE_MAX: f64 = 1e6;

/// What makes the next publication due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Load {
    /// So many are under way at once.
    Closed { outstanding: u32 },
    /// So many per second.
    Open { rate: f64 },
}

/// When a series of publications ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    Count(u32),
    Time(Duration),
}

/// Looks at a fleet while a series runs; whether it goes on.
pub(super) type Watch<'a> = &'a mut dyn FnMut(&mut Fleet) -> bool;

/// How far a series had come at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Moment {
    /// Since its start.
    pub(crate) seconds: f64,
    /// Deliveries since the moment before, per second.
    pub(crate) deliveries_per_second: f64,
}

/// What a series of publications was like for the publisher.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    pub(super) publications: u32,
    /// From the moment at which each was due to its last receipt.
    pub(super) last: Latencies,
    /// How much later than due each was sent, in an open loop.
    pub(super) lag: Latencies,
    pub(super) moments: Vec<Moment>,
}

/// The publisher's side.
pub(super) struct Broadcast {
    publisher: Publisher,
    /// Payload of each publication.
    bytes: usize,
    channels: u32,
    /// Publications so far, of all channels, which are served in turn.
    pub(super) published: u32,
    /// Those that reached everyone, counted up to the first that did not.
    pub(super) completed: u32,
    /// Deliveries that either should bring.
    published_due: u64,
    completed_due: u64,
}

impl Load {
    pub(super) fn check(self) -> Result<Self, Error> {
        match self {
            Self::Closed { outstanding } if !(1..OUTSTANDING_MAX).contains(&outstanding) => {
                Err(Error::Usage(format!("--outstanding {outstanding}: 1 to {}", {
                    OUTSTANDING_MAX - 1
                })))
            }
            Self::Open { rate } if !(RATE_MIN..=RATE_MAX).contains(&rate) => {
                Err(Error::Usage(format!("--rate {rate}: {RATE_MIN} to {RATE_MAX}")))
            }
            checked => Ok(checked),
        }
    }
}

impl Broadcast {
    pub(super) fn new(publisher: Publisher, bytes: usize, channels: u32) -> Self {
        let (published, completed, published_due, completed_due) = (0, 0, 0, 0);
        Self { publisher, bytes, channels, published, completed, published_due, completed_due }
    }

    /// Publishes until `until`, and waits for everything under way. A publication that could not
    /// be sent or was refused is an error; one that did not arrive is the way the series ended.
    pub(super) fn series(
        &mut self,
        fleet: &mut Fleet,
        load: Load,
        until: Until,
        course: &mut Course,
    ) -> Result<Ended, PublishError> {
        self.series_watched(fleet, load, until, (&mut |_| true, course))
    }

    /// The same as long as `watch` says, which is asked again and again.
    pub(super) fn series_while(
        &mut self,
        fleet: &mut Fleet,
        load: Load,
        watch: Watch<'_>,
        course: &mut Course,
    ) -> Result<Ended, PublishError> {
        self.series_watched(fleet, load, Until::Time(Duration::MAX), (watch, course))
    }

    fn series_watched(
        &mut self,
        fleet: &mut Fleet,
        load: Load,
        until: Until,
        (watch, course): (Watch<'_>, &mut Course),
    ) -> Result<Ended, PublishError> {
        fleet.progress.begin("delivered", 0);
        let ended = Series::new(fleet, load, until).run(self, fleet, (watch, course));
        fleet.progress.clear();
        if matches!(ended, Ok(Ended::Done | Ended::TimedOut)) {
            // If the server refused a publication, that says more than the silence.
            self.publisher.settle()?;
        }
        ended
    }

    /// Publishes once, to be received whenever `receivers` come.
    pub(super) fn one(
        &mut self,
        fleet: &Fleet,
        due_ns: u64,
        receivers: u64,
    ) -> Result<(), PublishError> {
        let number = self.published + 1;
        let channel = (number - 1) % self.channels;
        let mark = Mark { sequence: (number - 1) / self.channels + 1, sent_ns: due_ns };
        fleet.begin_round(number, due_ns, receivers);
        self.publisher.send(channel as usize, mark, self.bytes)?;
        self.published = number;
        self.published_due += receivers;
        if number == 1 {
            // A wrong key or address shows at once, not after a timeout.
            self.publisher.settle()?;
        }
        Ok(())
    }

    /// Takes note of the publications that have reached everyone.
    pub(super) fn reap(&mut self, fleet: &Fleet, last: &mut Latencies) {
        while self.completed < self.published
            && let Some(nanoseconds) = fleet.round_ns(self.completed + 1)
        {
            self.completed += 1;
            self.completed_due += fleet.round_receivers(self.completed);
            last.record(nanoseconds);
        }
    }

    /// Waits for the server's answers to all publications.
    pub(super) fn settle(&mut self) -> Result<(), PublishError> {
        self.publisher.settle()
    }

    /// Deliveries that there should have been by the end of a run that ended so. What was under way
    /// when it was interrupted or broken off is not known to be lost.
    pub(super) fn due(&self, ended: Ended) -> u64 {
        match ended {
            Ended::Interrupted | Ended::Broken => self.completed_due,
            Ended::Done | Ended::TimedOut | Ended::Overloaded => self.published_due,
        }
    }

    /// Answers the pings that came while nothing was published.
    pub(super) fn tend(&mut self) -> Result<(), PublishError> {
        self.publisher.take_answers()
    }
}

/// One series while it runs.
struct Series {
    load: Load,
    until: Until,
    began: Instant,
    began_ns: u64,
    first: u32,
    received: u64,
    lost: u64,
    moment: Instant,
    moment_received: u64,
    progressed: Instant,
}

impl Series {
    fn new(fleet: &Fleet, load: Load, until: Until) -> Self {
        let totals = fleet.totals();
        let now = Instant::now();
        Self {
            load,
            until,
            began: now,
            began_ns: sys::now_ns(),
            first: 0,
            received: totals.received,
            lost: totals.lost,
            moment: now,
            moment_received: totals.received,
            progressed: now,
        }
    }

    fn run(
        mut self,
        broadcast: &mut Broadcast,
        fleet: &mut Fleet,
        (watch, course): (Watch<'_>, &mut Course),
    ) -> Result<Ended, PublishError> {
        self.first = broadcast.published;
        loop {
            if !watch(fleet) {
                self.until = Until::Count(0);
            }
            let next_due_ns = self.publish_due(broadcast, fleet, course)?;
            broadcast.reap(fleet, &mut course.last);
            broadcast.publisher.take_answers()?;
            course.publications = broadcast.published - self.first;
            if broadcast.published == broadcast.completed && next_due_ns.is_none() {
                self.note_moment(fleet, course);
                return Ok(Ended::Done);
            }
            if broadcast.published - broadcast.completed >= OUTSTANDING_MAX - 1 {
                return Ok(Ended::Overloaded);
            }
            if let Some(ended) = self.watch(broadcast, fleet) {
                return Ok(ended);
            }
            if self.moment.elapsed() >= MOMENT {
                self.note_moment(fleet, course);
            }
            Self::pause(next_due_ns);
        }
    }

    /// Publishes what is due; when the next one is, or `None` after the last. In a closed loop the
    /// moment is not known, and lies in the future.
    fn publish_due(
        &self,
        broadcast: &mut Broadcast,
        fleet: &Fleet,
        course: &mut Course,
    ) -> Result<Option<u64>, PublishError> {
        loop {
            let sent = broadcast.published - self.first;
            let due_ns = match self.load {
                Load::Open { rate } => {
                    self.began_ns.saturating_add((f64::from(sent) * 1e9 / rate) as u64)
                }
                Load::Closed { outstanding } => {
                    let under_way = broadcast.published - broadcast.completed;
                    if under_way < outstanding { sys::now_ns() } else { u64::MAX }
                }
            };
            let over = match self.until {
                Until::Count(count) => sent >= count,
                // An open loop sends what was due in its time, however late that gets.
                Until::Time(time) => {
                    let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                    let reached_ns = if due_ns == u64::MAX { sys::now_ns() } else { due_ns };
                    reached_ns >= self.began_ns.saturating_add(time_ns)
                }
            };
            if over {
                return Ok(None);
            }
            let now_ns = sys::now_ns();
            let full = broadcast.published - broadcast.completed >= OUTSTANDING_MAX - 1;
            // One that is far behind answers the server and the user all the same.
            let looks_up = sent.is_multiple_of(PUBLICATIONS_PER_LOOK) && sent > 0;
            if looks_up {
                broadcast.publisher.take_answers()?;
            }
            if due_ns > now_ns || full || (looks_up && fleet.ended_early().is_some()) {
                return Ok(Some(due_ns));
            }
            if let Load::Open { .. } = self.load {
                course.lag.record(now_ns - due_ns);
            }
            let receivers = fleet.receivers(broadcast.published % broadcast.channels);
            broadcast.one(fleet, due_ns, receivers)?;
            broadcast.reap(fleet, &mut course.last);
        }
    }

    /// Why there is nothing more to wait for, if that is so.
    fn watch(&mut self, broadcast: &Broadcast, fleet: &Fleet) -> Option<Ended> {
        if let Some(ended) = fleet.ended_early() {
            return Some(ended);
        }
        let totals = fleet.totals();
        if totals.lost > self.lost {
            return Some(Ended::Broken);
        }
        if totals.received != self.received || broadcast.published == broadcast.completed {
            self.received = totals.received;
            self.progressed = Instant::now();
        }
        (self.progressed.elapsed() > fleet.timeout()).then_some(Ended::TimedOut)
    }

    fn note_moment(&mut self, fleet: &mut Fleet, course: &mut Course) {
        let received = fleet.totals().received;
        let seconds = self.moment.elapsed().as_secs_f64();
        if seconds > 0.0 {
            course.moments.push(Moment {
                seconds: self.began.elapsed().as_secs_f64(),
                deliveries_per_second: (received - self.moment_received) as f64 / seconds,
            });
        }
        (self.moment, self.moment_received) = (Instant::now(), received);
        fleet.progress.show(received);
    }

    /// Sleeps until the next publication is due or something else may have happened.
    fn pause(next_due_ns: Option<u64>) {
        let left = next_due_ns.unwrap_or(u64::MAX).saturating_sub(sys::now_ns());
        let left = Duration::from_nanos(left).saturating_sub(AWAKE);
        if left.is_zero() {
            sys::give_way();
        } else {
            thread::park_timeout(left.min(LOOK));
        }
    }
}
