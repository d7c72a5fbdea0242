//! Reading of sockets, and the effects of received bytes. All sockets of a thread are read into one
//! buffer. Only the rest of an incomplete frame is copied and kept.

use super::plan::Frames;
use super::worker::{Arrived, Phase, Worker};
use crate::failure::{Failure, Fault};
use crate::sequence::Arrival;
use crate::sys;
use crate::wire::frame::{self, Opcode};
use crate::wire::mark::Mark;
use crate::wire::upgrade;
use std::io::{self, Read};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Maximum number of bytes per read.
const READ_BYTES: usize = 64 * 1024;
/// Reads per second of a connection that dawdles.
const DAWDLE_READS: u64 = 10;
const DAWDLE_INTERVAL_NS: u64 = 1_000_000_000 / DAWDLE_READS;
/// A dawdling connection sends a pong after this number of reads, because the server's ping is far
/// behind in its unread bytes. RFC 6455 §5.5.3 allows unsolicited pongs.
const DAWDLE_READS_PER_PONG: u32 = 50;

/// Whether a socket may hold further bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Perhaps,
}

impl Worker {
    /// Reads a socket until it is empty, or to its end if the end has been reported (`ended`).
    pub(super) fn receive(&mut self, index: usize, ended: bool) -> Result<(), Failure> {
        // A short read has emptied the socket. An end that was already reported is not reported
        // again.
        while self.receive_some(index, READ_BYTES, ended)? == Left::Perhaps {}
        Ok(())
    }

    /// Reads once, up to `bytes_max`.
    fn receive_some(
        &mut self,
        index: usize,
        bytes_max: usize,
        ended: bool,
    ) -> Result<Left, Failure> {
        let mut buffer = mem::take(&mut self.buffer);
        let result = self.receive_into(index, bytes_max, ended, &mut buffer);
        self.buffer = buffer;
        result
    }

    fn receive_into(
        &mut self,
        index: usize,
        bytes_max: usize,
        ended: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<Left, Failure> {
        let held = self.receive_held(index, buffer);
        let Some(mut stream) = self.slots[index].stream.as_ref() else { return Ok(Left::Nothing) };
        let result = stream.read(&mut buffer[held..held + bytes_max]);
        let count = match result {
            Ok(0) => return Err(Failure::new(Fault::Closed, "end of stream")),
            Ok(count) => count,
            Err(error) => {
                self.receive_keep(index, &buffer[..held]);
                return match error.kind() {
                    io::ErrorKind::Interrupted => Ok(Left::Perhaps),
                    io::ErrorKind::WouldBlock => Ok(Left::Nothing),
                    _ => Err(error.into()),
                };
            }
        };
        let bytes = &buffer[..held + count];
        let used = self.take(index, bytes, sys::now_ns())?;
        self.receive_keep(index, &bytes[used..]);
        Ok(if count < bytes_max && !ended { Left::Nothing } else { Left::Perhaps })
    }

    /// Copies the kept bytes to the front of `buffer`, with room to read behind them. Returns their
    /// number.
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

    /// Handles all complete frames in `bytes`. Returns the number of bytes used.
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
        self.slots[index].phase = Phase::Subscribing;
        self.advance(index, now_ns)
    }

    fn on_message(&mut self, index: usize, message: &[u8], now_ns: u64) -> Result<(), Failure> {
        if self.plan.frames == Frames::Canned && self.slots[index].phase == Phase::Open {
            let sequence = self.slots[index].received.following();
            let sent_ns = self.shared.rounds.sent_ns(sequence);
            self.arrive(index, Mark { sequence, sent_ns }, now_ns);
            return Ok(());
        }
        let plan = Arc::clone(&self.plan);
        let script = &plan.target.script;
        self.heard.read(message, script);
        if self.slots[index].phase == Phase::Subscribing {
            self.on_opening(index, message, now_ns)?;
        }
        if let Some(offset) = self.heard.offset {
            self.keep_offset(index, offset);
        }
        if let Some(pong) = &script.pong {
            for _ in 0..self.heard.pings {
                self.send(index, pong)?;
            }
        }
        if plan.frames == Frames::Marked {
            for at in 0..self.heard.marks.len() {
                self.arrive(index, self.heard.marks[at], now_ns);
            }
        }
        Ok(())
    }

    /// Handles a message received before the subscription, line by line.
    fn on_opening(&mut self, index: usize, message: &[u8], now_ns: u64) -> Result<(), Failure> {
        let plan = Arc::clone(&self.plan);
        let (script, channel) = (&plan.target.script, self.channel(index));
        for line in message.split(|byte| *byte == b'\n') {
            if self.slots[index].phase != Phase::Subscribing || script.is_ping(line) {
                continue;
            }
            if let Some(failure) = script.refusal(line) {
                return Err(failure);
            }
            if let Some(epoch) = script.epoch(line) {
                epoch.clone_into(&mut self.epochs[channel]);
            }
            let steps = &plan.target.entries[channel].opening.steps;
            let Some(turn) = steps.get(usize::from(self.slots[index].step)) else { continue };
            let awaited = turn.wait.as_deref();
            if awaited.is_none_or(|awaited| memchr::memmem::find(line, awaited).is_none()) {
                continue;
            }
            if let Some(frame) = &turn.send {
                self.send(index, frame)?;
            }
            self.slots[index].step += 1;
            self.advance(index, now_ns)?;
        }
        Ok(())
    }

    fn keep_offset(&mut self, index: usize, offset: u64) {
        if self.offsets.len() <= index {
            self.offsets.resize(index + 1, 0);
        }
        self.offsets[index] = offset;
    }

    /// Reads a little from every connection if the fleet dawdles and a read is due. Returns the
    /// maximum duration of the next wait, in milliseconds.
    pub(super) fn dawdle_due(&mut self, now_ns: u64) -> i32 {
        const INTERVAL_MS: i32 = (DAWDLE_INTERVAL_NS / 1_000_000) as i32;
        let dawdles = self.shared.dawdling.load(Ordering::Relaxed);
        if !dawdles && self.dawdle_ns > 0 {
            // Events for bytes that arrived in the meantime were ignored, so read all connections
            // now.
            self.dawdle_ns = 0;
            for index in 0..self.begun {
                // Some connections may have ended.
                let read = self.receive(index, true);
                self.settle(index, read);
            }
        }
        if !dawdles {
            return i32::MAX;
        }
        if now_ns >= self.dawdle_ns {
            self.dawdle_ns = now_ns + DAWDLE_INTERVAL_NS;
            self.dawdle_rounds = self.dawdle_rounds.wrapping_add(1);
            for index in 0..self.begun {
                let read = self.dawdle(index);
                self.settle(index, read);
            }
        }
        INTERVAL_MS / 2
    }

    fn dawdle(&mut self, index: usize) -> Result<(), Failure> {
        if self.slots[index].phase != Phase::Open {
            return Ok(());
        }
        if self.dawdle_rounds.is_multiple_of(DAWDLE_READS_PER_PONG) {
            self.send(index, &frame::encode(Opcode::Pong, b""))?;
        }
        let bytes = self.plan.dawdle_bytes / DAWDLE_READS as usize;
        self.receive_some(index, bytes.clamp(1, READ_BYTES), false)?;
        Ok(())
    }

    /// Records that a publication reached one subscriber.
    fn arrive(&mut self, index: usize, mark: Mark, now_ns: u64) {
        let Mark { sequence, sent_ns } = mark;
        let number = self.number(index, sequence);
        let tally = &mut self.outcome.tally;
        if number > u64::from(self.shared.rounds.published()) {
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
        self.cut.deliveries.record(now_ns.saturating_sub(sent_ns));
        let number = number as u32; // At most `published`, as checked above.
        match self.arrived.iter_mut().rfind(|arrived| arrived.number == number) {
            Some(arrived) => {
                arrived.count += 1;
                arrived.last_ns = now_ns;
            }
            None => self.arrived.push(Arrived { number, count: 1, last_ns: now_ns }),
        }
    }

    /// Returns a publication's number across all channels, which are published in turn.
    fn number(&self, index: usize, sequence: u32) -> u64 {
        let channels = self.plan.target.entries.len() as u64;
        (u64::from(sequence).saturating_sub(1)) * channels + self.channel(index) as u64 + 1
    }
}
