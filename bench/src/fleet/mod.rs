//! Many client connections on a few threads, and the controller's interface to them: open a number
//! of connections, wait until all of them have a publication, collect latencies, stop.

mod opening;
mod pace;
mod plan;
mod receive;
mod shared;
mod worker;

use crate::error::Error;
use crate::progress::{LOOK, Progress};
use crate::sys;
pub(crate) use plan::{Ending, Frames, Outcome, Plan, Waiting};
pub(crate) use shared::{Cut, OUTSTANDING_MAX, Shared, Totals};
use std::io;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Maximum wait for the workers to hand over their latencies. A turn takes milliseconds.
const CUT_WAIT_MAX: Duration = Duration::from_secs(30);

/// The way in which a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Done,
    TimedOut,
    Interrupted,
    /// A subscriber's connection ended, or a worker failed.
    Broken,
    /// Too many publications were outstanding to tell them apart.
    Overloaded,
}

impl Ended {
    /// Returns the word used in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::TimedOut => "timed out",
            Self::Interrupted => "interrupted",
            Self::Broken => "a connection ended early",
            Self::Overloaded => "the server did not keep up",
        }
    }
}

/// The running workers.
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<Outcome>>>,
    channels: u64,
    timeout: Duration,
    waiting: Waiting,
    pub(crate) progress: Progress,
}

impl Fleet {
    /// Starts the threads, without connections. The calling thread becomes their controller.
    pub(crate) fn start(plan: Plan) -> Result<Self, Error> {
        if !plan.cpus.is_empty() {
            sys::pin(&plan.cpus).map_err(|error| Error::system("pin to processors", error))?;
        }
        let shared = Arc::new(Shared::new(plan.threads));
        let (timeout, waiting) = (plan.timeout, plan.waiting);
        let channels = plan.target.entries.len() as u64;
        let plan = Arc::new(plan);
        let mut threads = Vec::with_capacity(plan.threads);
        for index in 0..plan.threads {
            let (plan, shared) = (Arc::clone(&plan), Arc::clone(&shared));
            let thread = thread::Builder::new()
                .name(format!("bench-{index}"))
                .spawn(move || worker::run(index, plan, shared))
                .map_err(|error| Error::system("start a thread", error))?;
            threads.push(thread);
        }
        let progress = Progress::default();
        Ok(Self { shared, threads, channels, timeout, waiting, progress })
    }

    /// Opens connections until there are `total`, including failed ones, and waits for all of them.
    /// Closes connections if there are more than `total`.
    pub(crate) fn ramp(&mut self, total: usize) -> Ended {
        let threads = self.shared.gauges.len();
        for (index, gauge) in self.shared.gauges.iter().enumerate() {
            gauge.first_begun_ns.store(0, Ordering::Relaxed);
            gauge.last_opened_ns.store(0, Ordering::Relaxed);
            let share = total / threads + usize::from(index < total % threads);
            gauge.target.store(share, Ordering::Release);
        }
        self.progress.begin("connected", total as u64);
        let mut last_established = 0;
        let mut last_change = Instant::now();
        loop {
            let totals = self.shared.totals();
            if totals.established + totals.failed == total as u64 {
                self.progress.clear();
                return Ended::Done;
            }
            if totals.established != last_established {
                last_established = totals.established;
                last_change = Instant::now();
            }
            // A handshake is given up after `timeout`. If no connection succeeded in twice that
            // time, the remaining ones would fail in the same way, a few hundred at a time.
            if last_change.elapsed() > self.timeout.saturating_mul(2) {
                return Ended::TimedOut;
            }
            self.progress.show(totals.established);
            self.progress.remark(format!("{} failed, {} lost", totals.failed, totals.lost));
            thread::park_timeout(LOOK);
            if let Some(ended) = self.ended_early() {
                return ended;
            }
        }
    }

    /// Returns the duration of the last ramp, from the start of the first connection to the last
    /// subscription.
    pub(crate) fn ramp_seconds(&self) -> f64 {
        let gauges = || self.shared.gauges.iter();
        let first = gauges().map(|gauge| gauge.first_begun_ns.load(Ordering::Acquire));
        let last = gauges().map(|gauge| gauge.last_opened_ns.load(Ordering::Acquire));
        let first = first.filter(|begun_ns| *begun_ns > 0).min().unwrap_or(0);
        last.max().unwrap_or(0).saturating_sub(first) as f64 / 1e9
    }

    /// Waits for `time` with all connections open.
    pub(crate) fn rest(&mut self, time: Duration) -> Ended {
        let end = Instant::now() + time;
        let lost = self.shared.totals().lost;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ended::Done;
            }
            thread::park_timeout(left.min(LOOK));
            let early = self.ended_early();
            if early.is_some() || self.shared.totals().lost > lost {
                return early.unwrap_or(Ended::Broken);
            }
        }
    }

    /// Returns the number of subscribers of this channel, once all connections are open.
    pub(crate) fn receivers(&self, channel: u32) -> u64 {
        let established = self.shared.totals().established;
        let rest = established % self.channels;
        established / self.channels + u64::from(u64::from(channel) < rest)
    }

    /// Records that publication `number` is about to be sent and that `receivers` should get it.
    pub(crate) fn begin_round(&self, number: u32, sent_ns: u64, receivers: u64) {
        self.shared.rounds.begin(number, sent_ns, receivers);
    }

    /// Returns the time in nanoseconds until all receivers had publication `number`, once they have
    /// it.
    pub(crate) fn round_ns(&self, number: u32) -> Option<u64> {
        self.shared.rounds.complete_ns(number)
    }

    /// Returns the number of receivers of publication `number`, while it is outstanding.
    pub(crate) fn round_receivers(&self, number: u32) -> u64 {
        self.shared.rounds.receivers(number)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.shared.totals()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// While resting, the threads sleep even if the plan says that they spin.
    pub(crate) fn set_resting(&self, resting: bool) {
        self.shared.resting.store(resting, Ordering::Release);
    }

    /// Starts or stops closing and reopening connections.
    pub(crate) fn set_churning(&self, churning: bool) {
        self.shared.churning.store(churning, Ordering::Release);
    }

    /// Starts or stops reading slowly.
    pub(crate) fn set_dawdling(&self, dawdling: bool) {
        self.shared.dawdling.store(dawdling, Ordering::Release);
    }

    /// Asks all workers for their latencies since the last cut.
    pub(crate) fn begin_cut(&self) {
        for gauge in &self.shared.gauges {
            gauge.cuts_wanted.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Returns the requested latencies, once all workers have handed them over.
    pub(crate) fn finish_cut(&self) -> Option<Cut> {
        let behind = |gauge: &shared::Gauge| {
            gauge.cuts_made.load(Ordering::Acquire) != gauge.cuts_wanted.load(Ordering::Relaxed)
        };
        if self.shared.gauges.iter().any(behind) {
            return None;
        }
        Some(mem::take(&mut *self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Takes the latencies since the last cut from all workers, and waits for them.
    pub(crate) fn cut(&mut self) -> Cut {
        self.begin_cut();
        let deadline = Instant::now() + CUT_WAIT_MAX;
        loop {
            if let Some(cut) = self.finish_cut() {
                return cut;
            }
            if self.ended_early().is_some() || Instant::now() > deadline {
                eprintln!("WARNING: a thread of the generator hangs; its latencies are missing");
                return Cut::default();
            }
            thread::park_timeout(LOOK / 10);
        }
    }

    /// Returns the working time of each thread so far, in nanoseconds.
    pub(crate) fn busy_ns(&self) -> Vec<u64> {
        let gauges = self.shared.gauges.iter();
        let pairs = self.threads.iter().zip(gauges);
        let busy = pairs.map(|(thread, gauge)| match self.waiting {
            Waiting::Sleep => sys::thread_cpu_ns(thread),
            Waiting::Spin => gauge.busy_ns.load(Ordering::Relaxed),
        });
        busy.collect()
    }

    /// Returns the reason why waiting is pointless, if there is one.
    pub(crate) fn ended_early(&self) -> Option<Ended> {
        if sys::interrupted() {
            return Some(Ended::Interrupted);
        }
        self.threads.iter().any(JoinHandle::is_finished).then_some(Ended::Broken)
    }

    /// Ends all connections and threads, and merges their outcomes.
    pub(crate) fn stop(mut self) -> Result<Outcome, Error> {
        self.progress.clear();
        self.shared.stop.store(true, Ordering::Release);
        let mut outcome = Outcome::default();
        for thread in self.threads.drain(..) {
            let part = thread.join().map_err(|_| Error::ThreadPanicked)?;
            let part = part.map_err(|error| Error::system("run a thread", error))?;
            outcome.handshakes.merge(&part.handshakes);
            outcome.failures.merge(part.failures);
            outcome.tally.merge(part.tally);
        }
        Ok(outcome)
    }
}
