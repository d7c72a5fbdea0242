//! Publishing to a fleet. In a closed loop, a publication follows when the oldest outstanding one
//! has reached all subscribers. In an open loop, each publication has a due time. Open-loop latency
//! counts from the due time, so that a server that holds up the publisher can't hide it.

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

/// Before a publication is due, the publisher stays awake for this time.
const AWAKE: Duration = Duration::from_micros(150);
/// Interval of the recorded moments of a series.
const MOMENT: Duration = Duration::from_secs(1);
/// A publisher that never waits still checks for answers after this number of publications.
const PUBLICATIONS_PER_LOOK: u32 = 64;
/// Bounds of an open loop's rate. The slowest is about one publication per quarter of an hour.
const RATE_MIN: f64 = 1e-3;
const RATE_MAX: f64 = 1e6;

/// The condition that makes the next publication due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Load {
    /// This number of publications is outstanding.
    Closed { outstanding: u32 },
    /// This number of publications is due per second.
    Open { rate: f64 },
}

/// The end of a series of publications.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    Count(u32),
    Time(Duration),
}

/// Called while a series runs. Returns whether the series continues.
pub(super) type Watch<'a> = &'a mut dyn FnMut(&mut Fleet) -> bool;

/// The state of a series at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Moment {
    /// Seconds since the start of the series.
    pub(crate) seconds: f64,
    /// Deliveries per second since the previous moment.
    pub(crate) deliveries_per_second: f64,
}

/// Measurements of a series on the publisher's side.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    pub(super) publications: u32,
    /// Times from the due time of each publication to its last receipt.
    pub(super) last: Latencies,
    /// How late each publication was sent, in an open loop.
    pub(super) lag: Latencies,
    pub(super) moments: Vec<Moment>,
}

/// The publisher's side.
pub(super) struct Broadcast {
    publisher: Publisher,
    /// Size of each payload.
    bytes: usize,
    channels: u32,
    /// Number of publications so far, in all channels, which are used in turn.
    pub(super) published: u32,
    /// Number of publications that reached all subscribers, up to the first one that did not.
    pub(super) completed: u32,
    /// Expected deliveries of published and of completed publications.
    published_due: u64,
    completed_due: u64,
}

impl Load {
    pub(super) fn check(self) -> Result<Self, Error> {
        match self {
            Self::Closed { outstanding } if !(1..OUTSTANDING_MAX).contains(&outstanding) => {
                Err(Error::Usage(format!("--outstanding {outstanding} is not within 1 to {}", {
                    OUTSTANDING_MAX - 1
                })))
            }
            Self::Open { rate } if !(RATE_MIN..=RATE_MAX).contains(&rate) => {
                Err(Error::Usage(format!("--rate {rate} is not within {RATE_MIN} to {RATE_MAX}")))
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

    /// Publishes until `until`, and waits for all outstanding publications. Returns an error if a
    /// publication could not be sent or was refused. A publication that did not arrive is part of
    /// the normal result.
    pub(super) fn series(
        &mut self,
        fleet: &mut Fleet,
        load: Load,
        until: Until,
        course: &mut Course,
    ) -> Result<Ended, PublishError> {
        self.series_watched(fleet, load, until, (&mut |_| true, course))
    }

    /// Does the same while `watch` returns `true`. It is called repeatedly.
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
            // A refusal by the server explains more than the timeout.
            self.publisher.settle()?;
        }
        ended
    }

    /// Publishes once, for `receivers` subscribers that may still have to connect.
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
            // A wrong key or address is reported immediately, and not by a timeout.
            self.publisher.settle()?;
        }
        Ok(())
    }

    /// Records the publications that have reached all subscribers.
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

    /// Returns the number of expected deliveries at the end of a run. After an interrupt or a
    /// break, outstanding publications don't count, because they may not be lost.
    pub(super) fn due(&self, ended: Ended) -> u64 {
        match ended {
            Ended::Interrupted | Ended::Broken => self.completed_due,
            Ended::Done | Ended::TimedOut | Ended::Overloaded => self.published_due,
        }
    }

    /// Answers pings while nothing is published.
    pub(super) fn tend(&mut self) -> Result<(), PublishError> {
        self.publisher.take_answers()
    }
}

/// A running series.
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

    /// Publishes everything that is due. Returns the due time of the next publication, or `None`
    /// after the last one. In a closed loop this time is unknown, and is returned as a time in the
    /// future.
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
                // An open loop sends all publications that were due in its time, however late.
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
            // A publisher that is far behind still answers the server and the user.
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

    /// Returns the reason to stop waiting, if there is one.
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

    /// Sleeps until the next publication is due or another event is possible.
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
