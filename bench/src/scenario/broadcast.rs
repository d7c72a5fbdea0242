//! Publishing to a fleet in a closed loop: so many under way, the next when the oldest has reached
//! everyone.

use crate::fleet::{Ended, Fleet};
use crate::latency::Latencies;
use crate::publish::{PublishError, Publisher};
use crate::sys;
use crate::wire::mark::Mark;
use std::time::Instant;

/// When a series of publications ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    Count(u32),
    Time(Instant),
}

/// The publisher's side of the loop.
pub(super) struct Broadcast {
    publisher: Publisher,
    /// Payload of each publication.
    bytes: usize,
    outstanding: u32,
    /// Subscribers that a publication has to reach.
    receivers: u64,
    pub(super) published: u32,
    /// Publications that have reached everyone, which happens in their order.
    pub(super) completed: u32,
    confirmed: u32,
    /// From sending each publication to its last receipt, since they were last cleared.
    pub(super) last: Latencies,
}

impl Broadcast {
    pub(super) fn new(publisher: Publisher, bytes: usize, outstanding: u32) -> Self {
        Self {
            publisher,
            bytes,
            outstanding,
            receivers: 0,
            published: 0,
            completed: 0,
            confirmed: 0,
            last: Latencies::default(),
        }
    }

    /// Publishes until `until`, and waits for everything under way. A publication that could not
    /// be sent or was refused is an error; one that did not arrive is the way the series ended.
    pub(super) fn series(
        &mut self,
        fleet: &mut Fleet,
        until: Until,
    ) -> Result<Ended, PublishError> {
        let first = self.published;
        self.receivers = fleet.totals().established;
        loop {
            while self.published - self.completed < self.outstanding
                && self.series_goes_on(first, until)
            {
                self.publish(fleet)?;
            }
            if self.published == self.completed {
                return Ok(Ended::Done);
            }
            match fleet.wait_round(self.completed + 1) {
                Ok(nanoseconds) => self.complete(nanoseconds)?,
                Err(Ended::TimedOut) => {
                    // If the server refused the publication, that says more than the silence.
                    self.confirm(self.published)?;
                    return Ok(Ended::TimedOut);
                }
                Err(ended) => return Ok(ended),
            }
        }
    }

    fn series_goes_on(&self, first: u32, until: Until) -> bool {
        match until {
            Until::Count(count) => self.published - first < count,
            Until::Time(end) => Instant::now() < end,
        }
    }

    fn publish(&mut self, fleet: &Fleet) -> Result<(), PublishError> {
        let mark = Mark { sequence: self.published + 1, sent_ns: sys::now_ns() };
        fleet.begin_round(mark.sequence, mark.sent_ns, self.receivers);
        self.publisher.send(mark, self.bytes)?;
        self.published += 1;
        if self.published == 1 {
            // A wrong key or address shows at once, not after a timeout.
            self.confirm(1)?;
        }
        Ok(())
    }

    fn complete(&mut self, nanoseconds: u64) -> Result<(), PublishError> {
        self.completed += 1;
        self.last.record(nanoseconds);
        self.confirm(self.completed)
    }

    /// Takes the server's answers up to that of publication `sequence`.
    fn confirm(&mut self, sequence: u32) -> Result<(), PublishError> {
        while self.confirmed < sequence {
            self.publisher.confirm()?;
            self.confirmed += 1;
        }
        Ok(())
    }
}
