//! One thread of connections: it opens them at the pace asked for, gives up on those that hang,
//! and takes events as they come. What the bytes say is read in `receive`.

use super::shared::{Gauge, Shared};
use super::{Ending, Outcome, Plan, Waiting};
use crate::failure::{Failure, Fault};
use crate::sequence::Received;
use crate::sys::{self, Epoll, Event, Events};
use crate::wire::dialect::Heard;
use crate::wire::frame::{self, Opcode};
use crate::wire::upgrade;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Events taken in one turn.
const EVENTS_MAX: usize = 1024;
/// Handshakes under way at once: enough to hide their round trips, few enough for any backlog.
const HANDSHAKES_MAX: usize = 256;
/// Connections begun in one turn, so that events are not kept waiting.
const OPENS_MAX: usize = 64;
/// Connections from one source address. The kernel's default range has 28,232 ports, and it tries
/// half of them first, one by one: near 14,000 each connect costs 200 µs of search.
const SOURCE_CONNECTIONS_MAX: usize = 8_000;
/// First of the source addresses towards a server on loopback.
const SOURCE_FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Wait of a thread that has nothing to open: how late it may notice a new target.
const WAIT_IDLE_MS: i32 = 50;
/// Wait of a thread that is to open more, but not yet.
const WAIT_PACED_MS: i32 = 1;

/// Where one connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Upgrading,
    Subscribing,
    Open,
    Ended,
}

/// One connection. Bytes of an incomplete frame are kept elsewhere: few connections have any.
pub(super) struct Slot {
    pub(super) stream: Option<TcpStream>,
    pub(super) phase: Phase,
    /// Bytes wait in [`Worker::partial`].
    pub(super) has_partial: bool,
    pub(super) started_ns: u64,
    pub(super) received: Received,
}

const _: () = assert!(mem::size_of::<Slot>() <= 32, "a million slots must stay small");

/// Receipts of one publication in this turn, not yet shared.
pub(super) struct Arrived {
    pub(super) sequence: u32,
    pub(super) count: u64,
    pub(super) last_ns: u64,
}

/// The thread's state.
pub(super) struct Worker {
    index: usize,
    pub(super) plan: Arc<Plan>,
    pub(super) shared: Arc<Shared>,
    epoll: Epoll,
    pub(super) slots: Vec<Slot>,
    pub(super) partial: HashMap<usize, Vec<u8>>,
    /// Where every socket is read.
    pub(super) buffer: Vec<u8>,
    pub(super) heard: Heard,
    request: Vec<u8>,
    pub(super) opening: Option<Vec<u8>>,
    /// Handshakes in the order in which they began, with their deadlines.
    handshakes: VecDeque<(usize, u64)>,
    handshakes_open: usize,
    pace: Pace,
    pub(super) arrived: Vec<Arrived>,
    pub(super) outcome: Outcome,
}

/// Runs worker `index` until the fleet is told to stop.
pub(super) fn run(index: usize, plan: Arc<Plan>, shared: Arc<Shared>) -> io::Result<Outcome> {
    if let Err(error) = sys::private_descriptor_table()
        && plan.threads > 1
    {
        // With one table for all threads the limit holds for their sum, which was not planned for.
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
        let target = &plan.target;
        let opening = target.dialect.opening(&target.channel);
        Ok(Self {
            index,
            epoll: Epoll::new()?,
            slots: Vec::new(),
            partial: HashMap::new(),
            buffer: Vec::new(),
            heard: Heard::new(target.dialect),
            request: upgrade::request(target),
            opening: opening.map(|text| frame::encode(Opcode::Text, text.as_bytes())),
            handshakes: VecDeque::new(),
            handshakes_open: 0,
            pace: Pace::new(f64::from(plan.rate) / plan.threads as f64),
            arrived: Vec::new(),
            outcome: Outcome::default(),
            plan,
            shared,
        })
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let begun_ns = sys::now_ns();
        let wait_ms = self.open_due(begun_ns);
        let spins = self.plan.waiting == Waiting::Spin;
        let count = self.epoll.wait(events, if spins { 0 } else { wait_ms })?;
        for index in 0..count {
            self.on_event(events.at(index));
        }
        self.share();
        self.expire(begun_ns);
        if spins && count == 0 {
            sys::give_way();
        } else if spins {
            self.gauge().busy_ns.fetch_add(sys::now_ns() - begun_ns, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Begins the connections that are due; how long the next wait may be, in milliseconds.
    fn open_due(&mut self, now_ns: u64) -> i32 {
        let target = self.gauge().target.load(Ordering::Acquire);
        let due = self.pace.due(target, self.slots.len(), now_ns);
        let room = (HANDSHAKES_MAX - self.handshakes_open).min(OPENS_MAX);
        for _ in 0..room.min(due - self.slots.len()) {
            self.open(sys::now_ns());
        }
        match self.slots.len() {
            count if count == target => WAIT_IDLE_MS,
            count if count == due || self.handshakes_open == HANDSHAKES_MAX => WAIT_PACED_MS,
            _ => 0,
        }
    }

    fn open(&mut self, now_ns: u64) {
        let index = self.slots.len();
        self.slots.push(Slot {
            stream: None,
            phase: Phase::Connecting,
            has_partial: false,
            started_ns: now_ns,
            received: Received::default(),
        });
        self.handshakes_open += 1;
        match self.open_socket(index) {
            Ok(stream) => {
                self.slots[index].stream = Some(stream);
                let timeout_ns = u64::try_from(self.plan.timeout.as_nanos()).unwrap_or(u64::MAX);
                self.handshakes.push_back((index, now_ns.saturating_add(timeout_ns)));
            }
            Err(error) => self.fail(index, error.into()),
        }
    }

    fn open_socket(&self, index: usize) -> io::Result<TcpStream> {
        let address = self.plan.target.address;
        let source = source_address(address, self.index, index);
        let stream = sys::connect(address, source, self.plan.receive_bytes)?;
        self.epoll.add(&stream, index as u64)?;
        Ok(stream)
    }

    fn on_event(&mut self, event: Event) {
        let Ok(index) = usize::try_from(event.token) else { return };
        let result = match self.slots[index].phase {
            Phase::Ended => Ok(()),
            Phase::Connecting => self.on_connected(index, event.ended),
            Phase::Upgrading | Phase::Subscribing | Phase::Open => self.receive(index, event.ended),
        };
        if let Err(failure) = result {
            self.fail(index, failure);
        }
    }

    fn on_connected(&mut self, index: usize, ended: bool) -> Result<(), Failure> {
        let slot = &mut self.slots[index];
        if let Some(stream) = &slot.stream
            && let Some(error) = stream.take_error()?
        {
            return Err(error.into());
        }
        slot.phase = Phase::Upgrading;
        let request = mem::take(&mut self.request);
        let sent = self.send(index, &request);
        self.request = request;
        // The end came with this event, so no later one will tell of it.
        if ended { self.receive(index, ended) } else { sent }
    }

    /// Sends all of `bytes`. They are few, so a socket that does not take them is stuck.
    pub(super) fn send(&self, index: usize, bytes: &[u8]) -> Result<(), Failure> {
        let Some(mut stream) = self.slots[index].stream.as_ref() else { return Ok(()) };
        match stream.write(bytes)? {
            count if count == bytes.len() => Ok(()),
            count => {
                let text = format!("{count} of {} bytes sent", bytes.len());
                Err(Failure::new(Fault::Stalled, text))
            }
        }
    }

    /// Notes that the subscription stands.
    pub(super) fn opened(&mut self, index: usize, now_ns: u64) {
        let slot = &mut self.slots[index];
        slot.phase = Phase::Open;
        self.handshakes_open -= 1;
        self.outcome.handshakes.record(now_ns.saturating_sub(slot.started_ns));
        self.gauge().established.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends a connection that failed, once.
    fn fail(&mut self, index: usize, failure: Failure) {
        let slot = &mut self.slots[index];
        slot.stream = None;
        slot.has_partial = false;
        let phase = mem::replace(&mut slot.phase, Phase::Ended);
        self.partial.remove(&index);
        match phase {
            Phase::Ended => return,
            Phase::Open => {
                self.gauge().lost.fetch_add(1, Ordering::AcqRel);
                self.shared.wake_controller();
            }
            Phase::Connecting | Phase::Upgrading | Phase::Subscribing => {
                self.handshakes_open -= 1;
                self.gauge().failed.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.outcome.failures.add(failure);
    }

    /// Gives up the handshakes that take too long. All have the same time, so the oldest are due
    /// first.
    fn expire(&mut self, now_ns: u64) {
        while let Some((index, deadline_ns)) = self.handshakes.front().copied() {
            let settled = matches!(self.slots[index].phase, Phase::Open | Phase::Ended);
            if !settled && deadline_ns > now_ns {
                return;
            }
            self.handshakes.pop_front();
            if !settled {
                let text = format!("still {:?}", self.slots[index].phase).to_lowercase();
                self.fail(index, Failure::new(Fault::Timeout, text));
            }
        }
    }

    /// Adds this turn's receipts to the shared rounds.
    fn share(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        let mut complete = false;
        for arrived in self.arrived.drain(..) {
            let Arrived { sequence, count, last_ns } = arrived;
            complete |= self.shared.rounds.add(sequence, count, last_ns);
        }
        self.gauge().received.store(self.outcome.tally.received, Ordering::Release);
        if complete {
            self.shared.wake_controller();
        }
    }

    fn close(mut self) -> Outcome {
        let farewell = frame::encode(Opcode::Close, &1000_u16.to_be_bytes());
        for slot in self.slots.drain(..) {
            let Some(mut stream) = slot.stream else { continue };
            let said = match self.plan.ending {
                Ending::Abort => sys::reset_on_close(&stream),
                Ending::Close => stream.write(&farewell).map(|_| ()),
            };
            // An error means that the server was faster; the connection ends either way.
            drop(said);
        }
        self.outcome
    }

    fn gauge(&self) -> &Gauge {
        &self.shared.gauges[self.index]
    }
}

/// Address from which a thread's connection is made: several towards loopback, so that there are
/// ports for all; the kernel's choice otherwise.
fn source_address(target: SocketAddr, thread: usize, connection: usize) -> Option<Ipv4Addr> {
    const THREAD_SOURCES: usize = 256;
    if !(target.is_ipv4() && target.ip().is_loopback()) {
        return None;
    }
    let offset = thread * THREAD_SOURCES + connection / SOURCE_CONNECTIONS_MAX;
    Some(Ipv4Addr::from_bits(SOURCE_FIRST.to_bits() + u32::try_from(offset).ok()?))
}

/// When connections are due.
struct Pace {
    /// 0 is at once.
    per_second: f64,
    target: usize,
    /// Connections and time when the present target was set.
    base: usize,
    since_ns: u64,
}

impl Pace {
    fn new(per_second: f64) -> Self {
        Self { per_second, target: 0, base: 0, since_ns: 0 }
    }

    /// How many connections should have begun by now: from `begun` to `target`.
    fn due(&mut self, target: usize, begun: usize, now_ns: u64) -> usize {
        if target != self.target {
            *self = Self { target, base: begun, since_ns: now_ns, ..*self };
        }
        if self.per_second == 0.0 {
            return target.max(begun);
        }
        let seconds = (now_ns - self.since_ns) as f64 / 1e9;
        let due = self.base + (seconds * self.per_second) as usize;
        due.min(target).max(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_at_the_pace_asked_for() {
        let mut pace = Pace::new(1000.0);
        assert_eq!(pace.due(0, 0, 5_000_000_000), 0);
        assert_eq!(pace.due(100, 0, 6_000_000_000), 0);
        assert_eq!(pace.due(100, 0, 6_050_000_000), 50);
        assert_eq!(pace.due(100, 50, 9_000_000_000), 100);
        assert_eq!(pace.due(200, 100, 10_000_000_000), 100);
        assert_eq!(pace.due(200, 100, 10_001_000_000), 101);
        assert_eq!(Pace::new(0.0).due(70, 3, 0), 70);
    }

    #[test]
    fn sources_differ_by_thread_and_by_ports_used() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 8000));
        let source = |thread, connection| source_address(loopback, thread, connection).unwrap();
        assert_eq!(source(0, 0), Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(source(0, 8_000), Ipv4Addr::new(127, 0, 0, 3));
        assert_eq!(source(1, 0), Ipv4Addr::new(127, 0, 1, 2));
        assert_eq!(source_address(SocketAddr::from(([10, 0, 0, 1], 80)), 0, 0), None);
    }
}
