//! Many client connections on a few threads, and the controller's hand on them: open so many, wait
//! until a publication reached all of them, stop.

mod receive;
mod shared;
mod worker;

use crate::error::Error;
use crate::failure::Failures;
use crate::latency::Latencies;
use crate::progress::Progress;
use crate::sequence::Tally;
use crate::sys;
use crate::target::Target;
pub(crate) use shared::{OUTSTANDING_MAX, Shared, Totals};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longest sleep of the controller: how late it may notice an interrupt.
const PARK_MAX: Duration = Duration::from_millis(100);

/// How a worker waits for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// In the kernel.
    Sleep,
    /// Asking again and again: the server never pays for waking it.
    Spin,
}

/// How a publication is told in the frames that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    /// By the mark in its payload.
    Marked,
    /// Every data frame is the next publication: a server that sends canned frames.
    Canned,
}

/// How connections end when the fleet stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a close frame.
    Close,
    /// With a reset.
    Abort,
}

/// What a fleet is to do. Fixed before it starts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) threads: usize,
    /// Processors for the threads, in turn. Empty: wherever the kernel likes.
    pub(crate) cpus: Vec<usize>,
    /// Connections opened per second, all threads together; 0 is as fast as they go.
    pub(crate) rate: u32,
    /// Longest handshake, and longest time without any progress.
    pub(crate) timeout: Duration,
    /// SO_RCVBUF of each connection.
    pub(crate) receive_bytes: i32,
    pub(crate) waiting: Waiting,
    pub(crate) frames: Frames,
    pub(crate) ending: Ending,
    /// Publications at the start that count for correctness but not in the latencies.
    pub(crate) warmup: u32,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Done,
    TimedOut,
    Interrupted,
    /// A subscriber's connection ended, or a worker failed.
    Broken,
}

impl Ended {
    /// The word in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::TimedOut => "timed out",
            Self::Interrupted => "interrupted",
            Self::Broken => "a connection ended early",
        }
    }
}

/// What one worker, or all of them, saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// From connecting to the subscription.
    pub(crate) handshakes: Latencies,
    /// From sending a publication to each receipt.
    pub(crate) deliveries: Latencies,
    pub(crate) failures: Failures,
    pub(crate) tally: Tally,
}

/// The running workers.
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<Outcome>>>,
    timeout: Duration,
    waiting: Waiting,
    progress: Progress,
}

impl Fleet {
    /// Starts the threads, without connections. The calling thread is their controller.
    pub(crate) fn start(plan: Plan) -> Result<Self, Error> {
        if !plan.cpus.is_empty() {
            sys::pin(&plan.cpus).map_err(|error| Error::system("pin to processors", error))?;
        }
        let shared = Arc::new(Shared::new(plan.threads));
        let (timeout, waiting) = (plan.timeout, plan.waiting);
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
        Ok(Self { shared, threads, timeout, waiting, progress: Progress::new() })
    }

    /// Opens connections until there are `total`, failed ones included, and waits for all of them.
    pub(crate) fn ramp(&mut self, total: usize) -> Ended {
        let threads = self.shared.gauges.len();
        for (index, gauge) in self.shared.gauges.iter().enumerate() {
            let share = total / threads + usize::from(index < total % threads);
            gauge.target.store(share, Ordering::Release);
        }
        let mut last_established = 0;
        let mut last_change = Instant::now();
        loop {
            let totals = self.shared.totals();
            if totals.established + totals.failed >= total as u64 {
                return Ended::Done;
            }
            if totals.established != last_established {
                last_established = totals.established;
                last_change = Instant::now();
            }
            // A handshake is given up after `timeout`. When twice that has brought no connection,
            // the rest would only fail in the same way, a few hundred at a time.
            if last_change.elapsed() > self.timeout * 2 {
                return Ended::TimedOut;
            }
            self.progress.tick("connected", totals.established, totals);
            thread::park_timeout(PARK_MAX / 4);
            if let Some(ended) = self.ended_early() {
                return ended;
            }
        }
    }

    /// Lets time pass with all connections open.
    pub(crate) fn rest(&mut self, time: Duration) -> Ended {
        let end = Instant::now() + time;
        let lost = self.shared.totals().lost;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ended::Done;
            }
            thread::park_timeout(left.min(PARK_MAX));
            let early = self.ended_early();
            if early.is_some() || self.shared.totals().lost > lost {
                return early.unwrap_or(Ended::Broken);
            }
        }
    }

    /// Notes that `sequence` is about to be sent and that `receivers` should get it.
    pub(crate) fn begin_round(&self, sequence: u32, sent_ns: u64, receivers: u64) {
        self.shared.rounds.begin(sequence, sent_ns, receivers);
    }

    /// Waits until `sequence` has reached everyone: the time that took, in nanoseconds.
    pub(crate) fn wait_round(&mut self, sequence: u32) -> Result<u64, Ended> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(nanoseconds) = self.shared.rounds.complete_ns(sequence) {
                return Ok(nanoseconds);
            }
            let totals = self.shared.totals();
            if let Some(ended) = self.ended_early() {
                return Err(ended);
            }
            if totals.lost > 0 {
                return Err(Ended::Broken);
            }
            if Instant::now() > deadline {
                return Err(Ended::TimedOut);
            }
            self.progress.tick("delivered", totals.received, totals);
            thread::park_timeout(PARK_MAX);
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.shared.totals()
    }

    /// Time that each thread has worked so far, in nanoseconds.
    pub(crate) fn busy_ns(&self) -> Vec<u64> {
        let gauges = self.shared.gauges.iter();
        let pairs = self.threads.iter().zip(gauges);
        let busy = pairs.map(|(thread, gauge)| match self.waiting {
            Waiting::Sleep => sys::thread_cpu_ns(thread),
            Waiting::Spin => gauge.busy_ns.load(Ordering::Relaxed),
        });
        busy.collect()
    }

    /// Ends all connections and threads, and adds up what they saw.
    pub(crate) fn stop(mut self) -> Result<Outcome, Error> {
        self.progress.clear();
        self.shared.stop.store(true, Ordering::Release);
        let mut outcome = Outcome::default();
        for thread in self.threads.drain(..) {
            let part = thread.join().map_err(|_| Error::ThreadPanicked)?;
            let part = part.map_err(|error| Error::system("run a thread", error))?;
            outcome.handshakes.merge(&part.handshakes);
            outcome.deliveries.merge(&part.deliveries);
            outcome.failures.merge(part.failures);
            outcome.tally.merge(part.tally);
        }
        Ok(outcome)
    }

    fn ended_early(&self) -> Option<Ended> {
        if sys::interrupted() {
            return Some(Ended::Interrupted);
        }
        self.threads.iter().any(JoinHandle::is_finished).then_some(Ended::Broken)
    }
}
