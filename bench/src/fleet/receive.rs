//! What a connection's bytes say, and what that changes. All sockets of a thread are read into one
//! buffer; only what is left of an incomplete frame is copied and kept.

use super::Frames;
use super::worker::{Arrived, Phase, Worker};
use crate::failure::{Failure, Fault};
use crate::sequence::Arrival;
use crate::sys;
use crate::wire::dialect::EMPTY_COMMAND;
use crate::wire::frame::{self, Opcode};
use crate::wire::mark::Mark;
use crate::wire::upgrade;
use std::io::{self, Read};
use std::mem;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

impl Worker {
    /// Reads a socket until it is empty, or to its end if that has come (`ended`).
    pub(super) fn receive(&mut self, index: usize, ended: bool) -> Result<(), Failure> {
        let mut buffer = mem::take(&mut self.buffer);
        let result = self.receive_into(index, ended, &mut buffer);
        self.buffer = buffer;
        result
    }

    fn receive_into(
        &mut self,
        index: usize,
        ended: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        loop {
            let held = self.receive_held(index, buffer);
            let Some(mut stream) = self.slots[index].stream.as_ref() else { return Ok(()) };
            let result = stream.read(&mut buffer[held..held + READ_BYTES]);
            let count = match result {
                Ok(0) => return Err(Failure::new(Fault::Closed, "end of stream")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.receive_keep(index, &buffer[..held]);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            let bytes = &buffer[..held + count];
            let used = self.take(index, bytes, sys::now_ns())?;
            self.receive_keep(index, &bytes[used..]);
            // A short read has emptied the socket. Only an end that had already come is told once.
            if count > 0 && count < READ_BYTES && !ended {
                return Ok(());
            }
        }
    }

    /// Puts what was kept at the front of `buffer`, with room to read behind it; its bytes.
    fn receive_held(&mut self, index: usize, buffer: &mut Vec<u8>) -> usize {
        let mut held = 0;
        if mem::take(&mut self.slots[index].has_partial)
            && let Some(partial) = self.partial.remove(&index)
        {
            held = partial.len();
            buffer.resize(buffer.len().max(held + READ_BYTES), 0);
            buffer[..held].copy_from_slice(&partial);
        }
        if buffer.len() < READ_BYTES {
            buffer.resize(READ_BYTES, 0);
        }
        held
    }

    fn receive_keep(&mut self, index: usize, rest: &[u8]) {
        if !rest.is_empty() {
            self.partial.insert(index, rest.to_vec());
            self.slots[index].has_partial = true;
        }
    }

    /// Takes everything that is complete in `bytes`; how many bytes that was.
    fn take(&mut self, index: usize, bytes: &[u8], now_ns: u64) -> Result<usize, Failure> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            if self.slots[index].phase == Phase::Upgrading {
                let Some(head_bytes) = upgrade::check(rest)? else { return Ok(used) };
                used += head_bytes;
                self.on_upgraded(index, now_ns)?;
                continue;
            }
            let next = frame::next(rest);
            let next = next.map_err(|error| Failure::new(Fault::Protocol, error.to_string()))?;
            let Some(frame) = next else { return Ok(used) };
            used += frame.used;
            match frame.opcode {
                Opcode::Text | Opcode::Binary => self.on_message(index, frame.payload, now_ns)?,
                Opcode::Ping => self.send(index, &frame::encode(Opcode::Pong, frame.payload))?,
                Opcode::Pong => {}
                Opcode::Close => {
                    return Err(Failure::new(Fault::Closed, frame::close_text(frame.payload)));
                }
            }
        }
    }

    fn on_upgraded(&mut self, index: usize, now_ns: u64) -> Result<(), Failure> {
        let Some(opening) = self.opening.take() else {
            self.opened(index, now_ns);
            return Ok(());
        };
        self.slots[index].phase = Phase::Subscribing;
        let sent = self.send(index, &opening);
        self.opening = Some(opening);
        sent
    }

    fn on_message(&mut self, index: usize, message: &[u8], now_ns: u64) -> Result<(), Failure> {
        if self.plan.frames == Frames::Canned && self.opening.is_none() {
            let sequence = self.slots[index].received.following();
            let sent_ns = self.shared.rounds.sent_ns(sequence);
            self.arrive(index, Mark { sequence, sent_ns }, now_ns);
            return Ok(());
        }
        self.heard.read(message)?;
        if self.heard.subscribed && self.slots[index].phase == Phase::Subscribing {
            self.opened(index, now_ns);
        }
        for _ in 0..self.heard.pings {
            self.send(index, &frame::encode(Opcode::Text, EMPTY_COMMAND))?;
        }
        for at in 0..self.heard.marks.len() {
            self.arrive(index, self.heard.marks[at], now_ns);
        }
        Ok(())
    }

    /// Notes that a publication reached one subscriber.
    fn arrive(&mut self, index: usize, mark: Mark, now_ns: u64) {
        let Mark { sequence, sent_ns } = mark;
        let tally = &mut self.outcome.tally;
        if sequence > self.shared.rounds.published() {
            tally.duplicates += 1;
            return;
        }
        match self.slots[index].received.arrive(sequence) {
            Arrival::New => {}
            Arrival::Late => tally.reordered += 1,
            Arrival::Repeated => {
                tally.duplicates += 1;
                return;
            }
        }
        tally.received += 1;
        if sequence > self.plan.warmup {
            self.outcome.deliveries.record(now_ns.saturating_sub(sent_ns));
        }
        match self.arrived.iter_mut().rfind(|arrived| arrived.sequence == sequence) {
            Some(arrived) => {
                arrived.count += 1;
                arrived.last_ns = now_ns;
            }
            None => self.arrived.push(Arrived { sequence, count: 1, last_ns: now_ns }),
        }
    }
}
