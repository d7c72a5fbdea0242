//! One thread of connections: it handles events, counts, and hands over its outcome. `receive`
//! interprets the bytes, and `opening` starts and ends connections.

use super::pace::Pace;
use super::plan::{Outcome, Plan, Waiting};
use super::shared::{Cut, Gauge, Shared};
use crate::failure::Failure;
use crate::sequence::Received;
use crate::sys::{self, Epoll, Event, Events};
use crate::wire::script::Heard;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Maximum number of events per turn.
const EVENTS_MAX: usize = 1024;

/// The phase of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Upgrading,
    Subscribing,
    Open,
    /// It failed, or ended unexpectedly.
    Ended,
    /// The generator has closed it.
    Away,
}

/// One connection. Bytes of incomplete frames are kept elsewhere, because few connections have any.
pub(super) struct Slot {
    pub(super) stream: Option<TcpStream>,
    pub(super) phase: Phase,
    /// Whether bytes wait in [`Worker::partial`].
    pub(super) has_partial: bool,
    /// The next step of the opening.
    pub(super) step: u8,
    pub(super) started_ns: u64,
    pub(super) received: Received,
}

const _: () = assert!(mem::size_of::<Slot>() <= 32, "a million slots must stay small");

/// Receipts of one publication in this turn that are not shared yet.
pub(super) struct Arrived {
    pub(super) number: u32,
    pub(super) count: u64,
    pub(super) last_ns: u64,
}

/// The thread's state.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) plan: Arc<Plan>,
    pub(super) shared: Arc<Shared>,
    pub(super) epoll: Epoll,
    pub(super) slots: Vec<Slot>,
    /// Number of slots in use. Each has a connection, or had one that failed.
    pub(super) begun: usize,
    pub(super) partial: HashMap<usize, Vec<u8>>,
    /// Last offset of each slot, and epoch of each channel. Empty unless the server supports
    /// recovery.
    pub(super) offsets: Vec<u64>,
    pub(super) epochs: Vec<String>,
    /// The buffer into which all sockets are read.
    pub(super) buffer: Vec<u8>,
    pub(super) heard: Heard,
    /// Handshakes in the order of their start: slot and time.
    pub(super) handshakes: VecDeque<(usize, u64)>,
    pub(super) handshakes_open: usize,
    pub(super) pace: Pace,
    pub(super) churn: Pace,
    /// The slot that is recycled next.
    pub(super) churn_at: usize,
    /// Time of the next read of all connections while dawdling; 0 if the fleet does not dawdle.
    pub(super) dawdle_ns: u64,
    pub(super) dawdle_rounds: u32,
    pub(super) arrived: Vec<Arrived>,
    pub(super) cut: Cut,
    pub(super) outcome: Outcome,
}

/// Runs worker `index` until the fleet is stopped.
pub(super) fn run(index: usize, plan: Arc<Plan>, shared: Arc<Shared>) -> io::Result<Outcome> {
    if let Err(error) = sys::private_descriptor_table()
        && plan.threads > 1
    {
        // With one table for all threads, the limit would apply to their sum, which the plan
        // ignores.
        return Err(error);
    }
    if !plan.cpus.is_empty() {
        sys::pin(&[plan.cpus[index % plan.cpus.len()]])?;
    }
    let mut worker = Worker::new(index, plan, shared)?;
    let mut events = Events::new(EVENTS_MAX);
    while !worker.shared.stop.load(Ordering::Acquire) {
        worker.turn(&mut events)?;
    }
    Ok(worker.close())
}

impl Worker {
    fn new(index: usize, plan: Arc<Plan>, shared: Arc<Shared>) -> io::Result<Self> {
        let threads = plan.threads as f64;
        Ok(Self {
            index,
            epoll: Epoll::new()?,
            slots: Vec::new(),
            begun: 0,
            partial: HashMap::new(),
            offsets: Vec::new(),
            epochs: vec![String::new(); plan.target.entries.len()],
            buffer: Vec::new(),
            heard: Heard::new(),
            handshakes: VecDeque::new(),
            handshakes_open: 0,
            pace: Pace::new(f64::from(plan.rate) / threads),
            churn: Pace::new(f64::from(plan.churn) / threads),
            churn_at: 0,
            dawdle_ns: 0,
            dawdle_rounds: 0,
            arrived: Vec::new(),
            cut: Cut::default(),
            outcome: Outcome::default(),
            plan,
            shared,
        })
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let begun_ns = sys::now_ns();
        let wait_ms = self.open_due(begun_ns).min(self.dawdle_due(begun_ns));
        let resting = self.shared.resting.load(Ordering::Relaxed);
        let spins = self.plan.waiting == Waiting::Spin && !resting;
        let count = self.epoll.wait(events, if spins { 0 } else { wait_ms })?;
        let woken_ns = if spins { begun_ns } else { sys::now_ns() };
        for index in 0..count {
            self.on_event(events.at(index));
        }
        self.share();
        self.expire(begun_ns);
        let turn_ns = if count > 0 { sys::now_ns() - woken_ns } else { 0 };
        self.cut.longest_turn_ns = self.cut.longest_turn_ns.max(turn_ns);
        if spins && count == 0 {
            sys::give_way();
        } else if spins {
            self.gauge().busy_ns.fetch_add(turn_ns, Ordering::Relaxed);
        }
        self.cut_due();
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        let Ok(index) = usize::try_from(event.token) else { return };
        let result = match self.slots[index].phase {
            Phase::Ended | Phase::Away => Ok(()),
            Phase::Connecting => self.on_connected(index, event.ended),
            Phase::Open if self.dawdle_ns > 0 => Ok(()),
            Phase::Upgrading | Phase::Subscribing | Phase::Open => self.receive(index, event.ended),
        };
        self.settle(index, result);
    }

    /// Ends a connection whose last step failed.
    pub(super) fn settle(&mut self, index: usize, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.fail(index, failure);
        }
    }

    /// Adds the receipts of this turn to the shared rounds.
    fn share(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        let mut complete = false;
        for arrived in self.arrived.drain(..) {
            let Arrived { number, count, last_ns } = arrived;
            complete |= self.shared.rounds.add(number, count, last_ns);
        }
        self.gauge().received.store(self.outcome.tally.received, Ordering::Release);
        if complete {
            self.shared.wake_controller();
        }
    }

    /// Hands over the latencies if the controller has requested them.
    fn cut_due(&mut self) {
        let wanted = self.gauge().cuts_wanted.load(Ordering::Acquire);
        if wanted == self.gauge().cuts_made.load(Ordering::Relaxed) {
            return;
        }
        let cut = mem::take(&mut self.cut);
        self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner).merge(&cut);
        self.gauge().cuts_made.store(wanted, Ordering::Release);
        self.shared.wake_controller();
    }

    pub(super) fn gauge(&self) -> &Gauge {
        &self.shared.gauges[self.index]
    }

    /// Returns the channel of a slot. Slots of all threads together use the channels in turn.
    pub(super) fn channel(&self, index: usize) -> usize {
        match self.plan.target.entries.len() {
            1 => 0,
            channels => (index * self.plan.threads + self.index) % channels,
        }
    }
}
