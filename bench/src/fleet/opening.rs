//! The start and end of connections. They start at the requested pace, from source addresses with
//! free ports, and are given up when they hang.

use super::plan::{Ending, Outcome};
use super::worker::{Phase, Slot, Worker};
use crate::failure::{Failure, Fault};
use crate::sequence::Received;
use crate::sys;
use crate::wire::frame::{self, Opcode};
use std::io::{self, Write};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Maximum number of concurrent handshakes: enough to hide round trips, few enough for any backlog.
const HANDSHAKES_MAX: usize = 256;
/// Maximum number of connections started in a turn, so that events don't wait for long.
const OPENS_MAX: usize = 64;
/// Maximum number of connections ended in a turn.
const ENDS_MAX: usize = 256;
/// Maximum number of connections from one source address. The kernel's default range has 28,232
/// ports, and it tries half of them first, one by one: near 14,000 each connect costs 200 µs of
/// search.
const SOURCE_CONNECTIONS_MAX: usize = 8_000;
/// First source address for a server on loopback.
const SOURCE_FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Maximum wait of a thread that has nothing to open: it notices a new target after this time.
const WAIT_IDLE_MS: i32 = 50;
/// Maximum wait of a thread whose next connection is not due yet.
const WAIT_PACED_MS: i32 = 1;

impl Worker {
    /// Starts and ends the connections that are due. Returns the maximum duration of the next wait,
    /// in milliseconds.
    pub(super) fn open_due(&mut self, now_ns: u64) -> i32 {
        let target = self.gauge().target.load(Ordering::Acquire);
        if self.begun > target {
            for _ in 0..ENDS_MAX.min(self.begun - target) {
                self.begun -= 1;
                self.end(self.begun);
            }
            return 0;
        }
        let due = self.pace.due(target, self.begun, now_ns);
        let room = (HANDSHAKES_MAX - self.handshakes_open).min(OPENS_MAX);
        for _ in 0..room.min(due - self.begun) {
            self.open(self.begun, sys::now_ns());
            self.begun += 1;
        }
        let churning = self.churn_due(now_ns);
        match self.begun {
            count if count == target && churning => WAIT_PACED_MS,
            count if count == target => WAIT_IDLE_MS,
            count if count == due || self.handshakes_open == HANDSHAKES_MAX => WAIT_PACED_MS,
            _ => 0,
        }
    }

    /// Closes and reopens connections that are due. Returns whether the fleet churns.
    fn churn_due(&mut self, now_ns: u64) -> bool {
        if !self.shared.churning.load(Ordering::Relaxed) || self.begun == 0 {
            self.churn.restart(now_ns);
            return false;
        }
        let room = (HANDSHAKES_MAX - self.handshakes_open).min(OPENS_MAX);
        let recycled = self.churn.taken;
        let due = self.churn.due(usize::MAX, recycled, now_ns);
        for _ in 0..room.min(due - recycled) {
            let index = self.churn_at % self.begun;
            if !matches!(self.slots[index].phase, Phase::Open | Phase::Ended) {
                break;
            }
            self.churn_at = index + 1;
            self.churn.taken += 1;
            self.end(index);
            self.open(index, sys::now_ns());
            self.gauge().recycled.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Starts the connection of a slot: a new one, or one that reconnects.
    fn open(&mut self, index: usize, now_ns: u64) {
        if index == self.slots.len() {
            self.slots.push(Slot {
                stream: None,
                phase: Phase::Connecting,
                has_partial: false,
                step: 0,
                started_ns: now_ns,
                received: Received::default(),
            });
        }
        let slot = &mut self.slots[index];
        (slot.phase, slot.step, slot.started_ns) = (Phase::Connecting, 0, now_ns);
        self.handshakes_open += 1;
        if self.gauge().first_begun_ns.load(Ordering::Relaxed) == 0 {
            self.gauge().first_begun_ns.store(now_ns, Ordering::Release);
        }
        match self.open_socket(index) {
            Ok(stream) => {
                self.slots[index].stream = Some(stream);
                self.handshakes.push_back((index, now_ns));
            }
            Err(error) => self.fail(index, error.into()),
        }
    }

    fn open_socket(&self, index: usize) -> io::Result<TcpStream> {
        let plan = &self.plan;
        let turn = index * plan.threads + self.index;
        let address = match turn % (plan.destinations.len() + 1) {
            0 => plan.target.address,
            other => plan.destinations[other - 1],
        };
        // Combine every source with every destination.
        let source = match plan.sources.len() {
            0 => source_address(address, plan.sources_from + self.index, index),
            sources => Some(plan.sources[turn / (plan.destinations.len() + 1) % sources]),
        };
        let stream = sys::connect(address, source, self.plan.receive_bytes)?;
        self.epoll.add(&stream, index as u64)?;
        Ok(stream)
    }

    pub(super) fn on_connected(&mut self, index: usize, ended: bool) -> Result<(), Failure> {
        let slot = &mut self.slots[index];
        if let Some(stream) = &slot.stream
            && let Some(error) = stream.take_error()?
        {
            return Err(error.into());
        }
        slot.phase = Phase::Upgrading;
        let plan = Arc::clone(&self.plan);
        let sent = self.send(index, &plan.target.entries[self.channel(index)].request);
        // This event also reported the end, so no later event will.
        if ended { self.receive(index, ended) } else { sent }
    }

    /// Takes all steps of the opening that don't wait for a message. After the last one, the client
    /// is subscribed.
    pub(super) fn advance(&mut self, index: usize, now_ns: u64) -> Result<(), Failure> {
        let plan = Arc::clone(&self.plan);
        let channel = self.channel(index);
        let opening = &plan.target.entries[channel].opening;
        loop {
            let step = usize::from(self.slots[index].step);
            let Some(turn) = opening.steps.get(step) else {
                self.opened(index, now_ns);
                return Ok(());
            };
            if turn.wait.is_some() {
                return Ok(());
            }
            let offset = self.offsets.get(index).copied().filter(|offset| *offset > 0);
            let recovery = offset.filter(|_| step == 0);
            let recovery =
                recovery.and_then(|offset| opening.recovery(&self.epochs[channel], offset));
            if let Some(frame) = recovery.as_ref().or(turn.send.as_ref()) {
                self.send(index, frame)?;
            }
            self.slots[index].step += 1;
        }
    }

    /// Sends all of `bytes`. They are few, so a socket that does not accept them is stuck.
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

    /// Records that the client is subscribed.
    fn opened(&mut self, index: usize, now_ns: u64) {
        let slot = &mut self.slots[index];
        slot.phase = Phase::Open;
        self.handshakes_open -= 1;
        self.cut.handshakes.record(now_ns.saturating_sub(slot.started_ns));
        self.gauge().last_opened_ns.store(now_ns, Ordering::Release);
        self.gauge().established.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends a connection that failed. Does nothing if it has already ended.
    pub(super) fn fail(&mut self, index: usize, failure: Failure) {
        match self.take_down(index, Phase::Ended) {
            Phase::Ended | Phase::Away => return,
            Phase::Open => {
                self.gauge().established.fetch_sub(1, Ordering::AcqRel);
                self.gauge().lost.fetch_add(1, Ordering::AcqRel);
                self.gauge().failed.fetch_add(1, Ordering::AcqRel);
                self.shared.wake_controller();
            }
            Phase::Connecting | Phase::Upgrading | Phase::Subscribing => {
                self.handshakes_open -= 1;
                self.gauge().failed.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.outcome.failures.add(failure);
    }

    /// Ends a connection because the scenario requires it.
    fn end(&mut self, index: usize) {
        if let Some(stream) = &self.slots[index].stream {
            farewell(stream, self.plan.ending);
        }
        match self.take_down(index, Phase::Away) {
            Phase::Away => {}
            Phase::Ended => drop(self.gauge().failed.fetch_sub(1, Ordering::AcqRel)),
            Phase::Open => drop(self.gauge().established.fetch_sub(1, Ordering::AcqRel)),
            Phase::Connecting | Phase::Upgrading | Phase::Subscribing => self.handshakes_open -= 1,
        }
    }

    /// Closes a slot's socket and sets its phase. Returns the previous phase.
    fn take_down(&mut self, index: usize, phase: Phase) -> Phase {
        let slot = &mut self.slots[index];
        slot.stream = None;
        slot.has_partial = false;
        self.partial.remove(&index);
        mem::replace(&mut slot.phase, phase)
    }

    /// Gives up handshakes that take too long. All have the same timeout, so the oldest ones expire
    /// first.
    pub(super) fn expire(&mut self, now_ns: u64) {
        let timeout_ns = u64::try_from(self.plan.timeout.as_nanos()).unwrap_or(u64::MAX);
        while let Some((index, started_ns)) = self.handshakes.front().copied() {
            let Slot { phase, started_ns: current_ns, .. } = self.slots[index];
            let settled = matches!(phase, Phase::Open | Phase::Ended | Phase::Away)
                || current_ns != started_ns;
            if !settled && started_ns.saturating_add(timeout_ns) > now_ns {
                return;
            }
            self.handshakes.pop_front();
            if !settled {
                let text = format!("still {phase:?}").to_lowercase();
                self.fail(index, Failure::new(Fault::Timeout, text));
            }
        }
    }

    /// Ends all connections, and returns the outcome of this worker.
    pub(super) fn close(mut self) -> Outcome {
        for slot in self.slots.drain(..) {
            if let Some(stream) = slot.stream {
                farewell(&stream, self.plan.ending);
            }
        }
        self.outcome.handshakes.merge(&self.cut.handshakes);
        self.outcome
    }
}

/// Sends a close frame, or makes the drop of `stream` reset the connection.
fn farewell(mut stream: &TcpStream, ending: Ending) {
    let said = match ending {
        Ending::Abort => sys::reset_on_close(stream),
        Ending::Close => {
            stream.write(&frame::encode(Opcode::Close, &1000_u16.to_be_bytes())).map(|_| ())
        }
    };
    // An error means that the server closed first. The connection ends in either case.
    drop(said);
}

/// Returns the source address of a connection. On loopback several addresses provide enough ports;
/// otherwise the kernel chooses.
fn source_address(target: SocketAddr, thread: usize, connection: usize) -> Option<Ipv4Addr> {
    const THREAD_SOURCES: usize = 256;
    if !(target.is_ipv4() && target.ip().is_loopback()) {
        return None;
    }
    let offset = thread * THREAD_SOURCES + connection / SOURCE_CONNECTIONS_MAX;
    Some(Ipv4Addr::from_bits(SOURCE_FIRST.to_bits() + u32::try_from(offset).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
