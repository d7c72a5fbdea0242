//! Bytes from clients: request heads, frames, commands. Nothing here trusts them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Ready, Received, Release, Shard, Sockets, Token};
use crate::connection::{Flags, Slots, State, Waiting};
use crate::handshake::{self, Progress, Unavailable};
use crate::limits::HANDSHAKE_RECEIVES_MAX;
use crate::reason::CloseReason;
use crate::ws::{self, Decoder, Event, Opcode};

/// What became of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It has been carried out; more may follow.
    Continue,
    /// A request waits for its answer, or what follows waits for room.
    Wait,
    /// The connection closes; what follows is of no interest.
    Stop,
}

impl<S: Sockets> Shard<S> {
    /// News of a socket.
    pub(super) fn on_ready(&mut self, ready: Ready) {
        let token = ready.token;
        let Some(connection) = self.slots.get(token) else { return };
        if ready.ended {
            return self.on_watch_ended(token, ready.hangup);
        }
        if ready.hangup {
            connection.flags.set(Flags::HUNG_UP);
        }
        let deaf = connection.flags.has(Flags::DEAF);
        if ready.writable && !deaf && connection.flags.clear(Flags::BLOCKED) {
            connection.heard = self.tick;
            self.mark_dirty(token.slot);
        }
        if ready.readable {
            self.mark_readable(token);
        }
    }

    fn on_watch_ended(&mut self, token: Token, failed: bool) {
        let Some(connection) = self.slots.get(token) else { return };
        let socket = connection.socket;
        if failed || connection.state == State::Released {
            // A watch that can't be had is not asked for again: that would go on for ever.
            self.forget(token, CloseReason::InternalError);
            self.io.close(socket);
            let subnet = self.slots.remove(token.slot);
            self.subnets.leave(subnet);
        } else {
            // The kernel could not keep the watch, and news may have been lost with it.
            self.io.watch(socket, token);
            self.mark_readable(token);
            self.mark_dirty(token.slot);
        }
    }

    /// Notes that a socket may have bytes.
    pub(super) fn mark_readable(&mut self, token: Token) {
        if let Some(connection) = self.slots.get(token) {
            connection.flags.set(Flags::READABLE);
        }
        self.list(token);
    }

    /// Puts a connection on the list of those that go on: with parked input, or by reading.
    pub(super) fn list(&mut self, token: Token) {
        let Some(connection) = self.slots.get(token) else { return };
        if !connection.flags.has(Flags::LISTED) {
            connection.flags.set(Flags::LISTED);
            self.readable.push_back(token);
        }
    }

    /// Goes on with parked input, or reads once from a socket that may have bytes; it stays on the
    /// list while it may have more.
    pub(super) fn on_listed(&mut self, token: Token) {
        let Some(connection) = self.slots.get(token) else { return };
        connection.flags.clear(Flags::LISTED);
        if connection.flags.has(Flags::PARKED) {
            return self.go_on(token);
        }
        if connection.state == State::Released || !connection.flags.has(Flags::READABLE) {
            return;
        }
        let closing = connection.state == State::Closing;
        if connection.is_upgrade_abandoned() {
            return self.release(token, CloseReason::PeerGone, Release::Graceful);
        }
        if !closing && !connection.may_read(self.options.reading_bytes_max()) {
            return; // It is listed again when that has changed.
        }
        let socket = connection.socket;
        let mut buffer = std::mem::take(&mut self.buffer);
        match self.io.receive(socket, &mut buffer) {
            Received::Bytes(count) => {
                // A full buffer may leave bytes behind, of which no new event will speak.
                let all = count < buffer.len() && !connection.flags.has(Flags::HUNG_UP);
                if all {
                    connection.flags.clear(Flags::READABLE);
                }
                self.on_bytes(token, &mut buffer[..count]);
                if !all {
                    self.mark_readable(token);
                }
            }
            Received::Nothing => {
                connection.flags.clear(Flags::READABLE);
                self.account_inbound(token);
            }
            Received::End => self.on_end(token),
            Received::Gone => self.release(token, CloseReason::PeerGone, Release::Abort),
        }
        self.buffer = buffer;
    }

    fn on_bytes(&mut self, token: Token, bytes: &mut [u8]) {
        let Some(connection) = self.slots.get(token) else { return };
        connection.heard = self.tick;
        if let Some(extra) = connection.extra.as_mut() {
            extra.unread = None;
        }
        match connection.state {
            State::Handshaking => self.on_head(token, bytes),
            State::Opened | State::Connected => {
                self.on_frames(token, bytes);
                self.charge_inbound(token);
            }
            // What comes before the response is not read yet.
            State::Upgrading => {}
            State::Vacant | State::Closing | State::Released => {}
        }
    }

    fn on_head(&mut self, token: Token, bytes: &mut [u8]) {
        let Some(connection) = self.slots.get(token) else { return };
        let mut head = Vec::new();
        if let Some(extra) = connection.extra.as_mut() {
            head = std::mem::take(&mut extra.head);
        }
        head.extend_from_slice(bytes);
        let rules = &self.options.rules;
        let Ok(progress) = guarded(|| handshake::read(&head, rules)) else {
            self.cells.panics.add(1);
            return self.release(token, CloseReason::InternalError, Release::Graceful);
        };
        match progress {
            Progress::Incomplete => {
                let extra = connection.extra();
                head.shrink_to_fit();
                extra.head = head;
                extra.head_receives += 1;
                if extra.head_receives > HANDSHAKE_RECEIVES_MAX {
                    return self.release(token, CloseReason::Refused, Release::Graceful);
                }
            }
            Progress::Respond(response) => {
                self.cells.handshakes_refused.add(1);
                self.respond(token, &response.bytes);
            }
            Progress::Health { head_only } => {
                let phase = self.readiness.phase(self.now);
                self.respond(token, &handshake::health_response(phase, head_only));
            }
            Progress::Upgrade(_) if self.draining || !self.readiness.takes_clients() => {
                self.cells.handshakes_refused.add(1);
                let phase = self.readiness.phase(self.now);
                self.respond(token, &handshake::unavailable(Unavailable::Phase(phase)));
            }
            Progress::Upgrade(upgrade) => {
                let consumed = upgrade.consumed;
                match self.open(token, upgrade) {
                    Flow::Continue => drop(self.on_frames(token, &mut head[consumed..])),
                    Flow::Wait => self.park_input(token, &head[consumed..]),
                    Flow::Stop => {}
                }
            }
        }
        self.charge_inbound(token);
    }

    /// Decodes frames and carries out what they ask for.
    pub(super) fn on_frames(&mut self, token: Token, mut input: &mut [u8]) -> Flow {
        let limits = ws::Limits {
            message_bytes_max: self.options.client().message_bytes_max,
            fragments_max: self.options.client().fragments_max,
        };
        // The decoder leaves its connection for as long as an event may borrow from it.
        let mut decoder = self.take_decoder(token);
        while !input.is_empty() {
            if !self.has_room_to_answer(token) {
                self.park_input(token, input);
                self.restore_decoder(token, decoder);
                return Flow::Wait;
            }
            let step = parse(&mut decoder, input, &limits);
            let step = match step {
                Ok(Ok(step)) => step,
                Ok(Err(reason)) => {
                    self.close(token, reason);
                    return Flow::Stop;
                }
                Err(Panicked) => return self.on_parse_panic(token),
            };
            let consumed = step.consumed;
            let pings = u32::from(matches!(step.event, Some(Event::Ping(_))));
            if self.exceeds_rates(token, step.frames, pings) {
                self.close(token, CloseReason::TooManyRequests);
                return Flow::Stop;
            }
            let flow = step.event.map_or(Flow::Continue, |event| self.on_event(token, &event));
            input = &mut input[consumed..];
            match flow {
                Flow::Continue => {}
                Flow::Stop => return flow,
                Flow::Wait => {
                    self.park_input(token, input);
                    self.restore_decoder(token, decoder);
                    return flow;
                }
            }
        }
        self.restore_decoder(token, decoder);
        Flow::Continue
    }

    fn take_decoder(&mut self, token: Token) -> Decoder {
        let extra = self.slots.get(token).and_then(|connection| connection.extra.as_mut());
        extra.map(|extra| std::mem::take(&mut extra.decoder)).unwrap_or_default()
    }

    fn restore_decoder(&mut self, token: Token, decoder: Decoder) {
        if let Some(connection) = self.slots.get(token) {
            if !decoder.is_idle() {
                connection.extra().decoder = decoder;
            }
            connection.shrink();
        }
    }

    fn on_parse_panic(&mut self, token: Token) -> Flow {
        self.cells.panics.add(1);
        self.close(token, CloseReason::InternalError);
        Flow::Stop
    }

    fn exceeds_rates(&mut self, token: Token, frames: u32, pings: u32) -> bool {
        let limits = (
            self.options.client().frames_per_second_max,
            self.options.client().pings_per_second_max,
        );
        let tick = self.tick;
        let connection = self.slots.get(token);
        connection.is_some_and(|connection| connection.meter.count(tick, frames, pings, limits))
    }

    /// Carries out one event.
    fn on_event(&mut self, token: Token, event: &Event<'_>) -> Flow {
        match *event {
            Event::Message { opcode, data } => {
                let (flow, left) = self.on_commands(token, opcode, data);
                if flow == Flow::Wait {
                    self.park_message(token, opcode, left);
                }
                flow
            }
            Event::Ping(payload) => {
                let mut frame = Vec::new();
                ws::encode_pong(payload, &mut frame);
                self.send_own(token, &frame);
                Flow::Continue
            }
            // Clients may send pongs unasked (.NET's does). Only the protocol's own pong answers
            // the protocol's own ping: without one outstanding it would be an error.
            Event::Pong => Flow::Continue,
            Event::Close(code) => {
                self.on_close_frame(token, code);
                Flow::Stop
            }
        }
    }

    /// Carries out the commands of a message, one after another, until one has to wait. Answers
    /// what is left of the message.
    pub(super) fn on_commands<'m>(
        &mut self,
        token: Token,
        opcode: Opcode,
        mut message: &'m [u8],
    ) -> (Flow, &'m [u8]) {
        loop {
            let Some(connection) = self.slots.get(token) else { return (Flow::Stop, &[]) };
            let codec = connection.protocol.codec();
            let decoded = guarded(|| codec.decode(opcode, message));
            let flow = match decoded {
                Err(Panicked) => self.on_parse_panic(token),
                Ok(Err(reason)) => {
                    self.close(token, reason);
                    Flow::Stop
                }
                Ok(Ok((request, _))) if self.relies_on_publications(token, &request) => {
                    return (self.wait(token, Waiting::Publications), message);
                }
                Ok(Ok((request, _)))
                    if request.command.asks_for_history() && !self.may_replay(token) =>
                {
                    return (Flow::Wait, message);
                }
                Ok(Ok((request, rest))) => {
                    message = rest;
                    self.on_request(token, request)
                }
            };
            if flow == Flow::Stop || message.is_empty() {
                return (flow, message);
            }
            // Each further command is worth a frame, or one frame could carry thousands unlimited.
            if self.exceeds_rates(token, 1, 0) {
                self.close(token, CloseReason::TooManyRequests);
                return (Flow::Stop, &[]);
            }
            if flow == Flow::Wait || !self.has_room_to_answer(token) {
                return (Flow::Wait, message);
            }
        }
    }

    /// Brings the account of unfinished input up to date.
    pub(super) fn account_inbound(&mut self, token: Token) {
        if let Some(connection) = self.slots.get(token)
            && let Some(extra) = connection.extra.as_mut()
        {
            let flags = &connection.flags;
            let left = [Flags::WAITING, Flags::PARKED, Flags::READABLE];
            if !left.iter().any(|flag| flags.has(*flag)) {
                extra.unserved = None;
            }
            let (before, after) = (extra.charged, extra.inbound_bytes());
            extra.charged = after;
            if let Some(begun) = self.unfinished.charge(token, before, after) {
                extra.begun = begun;
            }
            connection.shrink();
        }
    }

    /// The same, and makes room if there is too much. Closing a connection only accounts, so that
    /// thousands of small ones are closed in a loop and not each from within the other's closing.
    pub(super) fn charge_inbound(&mut self, token: Token) {
        self.account_inbound(token);
        while self.unfinished.is_full() {
            let Some(oldest) = self.unfinished.take_oldest() else { break };
            if is_unfinished(&mut self.slots, oldest) {
                self.close(oldest.0, CloseReason::InboundFull);
            }
        }
        let slots = &mut self.slots;
        self.unfinished.compact(|begun| is_unfinished(slots, *begun));
        self.cells.inbound_bytes.set(self.unfinished.bytes() as u64);
    }
}

/// Whether the input of a connection that began with number `begun` is still not finished.
fn is_unfinished(slots: &mut Slots, (token, begun): (Token, u64)) -> bool {
    let extra = slots.get(token).and_then(|connection| connection.extra.as_ref());
    extra.is_some_and(|extra| extra.charged > 0 && extra.begun == begun)
}

/// Parsing panicked. The connection's bytes are at fault or this program is; its other
/// connections have lost nothing.
struct Panicked;

thread_local! {
    static PARSING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread parses one connection's bytes, apart from all state that others share: a
/// panic then ends that connection and nothing else.
pub fn is_parsing() -> bool {
    PARSING.with(Cell::get)
}

/// Runs a pure function of one connection's bytes.
fn guarded<T>(parse: impl FnOnce() -> T) -> Result<T, Panicked> {
    PARSING.with(|parsing| parsing.set(true));
    let result = catch_unwind(AssertUnwindSafe(parse));
    PARSING.with(|parsing| parsing.set(false));
    result.map_err(|_| Panicked)
}

/// Decodes one step of a connection's bytes.
fn parse<'a>(
    decoder: &'a mut Decoder,
    input: &'a mut [u8],
    limits: &ws::Limits,
) -> Result<Result<ws::Step<'a>, CloseReason>, Panicked> {
    guarded(move || {
        assert!(!crate::sabotage!(PanicInParse), "sabotage: parsing panics");
        decoder.next(input, limits)
    })
}
