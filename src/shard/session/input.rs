//! Bytes from clients: request heads, frames, commands. Nothing here trusts them.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Sessions;
use super::inbound::{Begun, Unfinished};
use crate::connection::{Flags, PendingRequest, Rates, Slots, State};
use crate::handshake::{self, Progress, Unavailable};
use crate::ids::Tick;
use crate::kernel::{ConnectionKey, Ready, Received, Release, Sockets};
use crate::limits::{HANDSHAKE_RECEIVES_MAX, RECEIVE_BYTES_MAX};
use crate::protocol::{Codec, MessageKind};
use crate::reason::CloseReason;
use crate::ws::{self, Decoder, Incoming};

/// Input that has not been carried out, of all connections.
pub(super) struct Input {
    /// Connections with something to read, or with parked input that may go on.
    pub(super) readable: VecDeque<ConnectionKey>,
    /// Memory for input that is not complete.
    pub(super) unfinished: Unfinished,
    /// Clients that have been given more history than they may have for the time being.
    pub(super) owing: VecDeque<ConnectionKey>,
    /// What the next read goes into.
    buffer: Vec<u8>,
    /// What the next answer is encoded in; empty between two.
    pub(super) reply_buffer: Vec<u8>,
}

impl Input {
    /// None yet, and at most `unfinished_bytes_max` that is not complete.
    pub(super) fn new(unfinished_bytes_max: usize) -> Input {
        Input {
            readable: VecDeque::new(),
            unfinished: Unfinished::new(unfinished_bytes_max),
            owing: VecDeque::new(),
            buffer: vec![0; RECEIVE_BYTES_MAX],
            reply_buffer: Vec::new(),
        }
    }

    /// Puts a connection on the list of those that go on: with parked input, or by reading.
    pub(super) fn list(&mut self, slots: &mut Slots, key: ConnectionKey) {
        let flags = &mut slots.connection(key).flags;
        if !flags.has(Flags::LISTED) {
            flags.set(Flags::LISTED);
            self.readable.push_back(key);
        }
    }

    /// Notes that a socket may have bytes.
    pub(super) fn mark_readable(&mut self, slots: &mut Slots, key: ConnectionKey) {
        slots.connection(key).flags.set(Flags::READABLE);
        self.list(slots, key);
    }

    /// Whether a client may be given publications of a history now. If not, the command is to be
    /// parked, and goes on when the client has waited long enough.
    pub(super) fn may_replay(&mut self, slots: &mut Slots, key: ConnectionKey, now: Tick) -> bool {
        let connection = slots.connection(key);
        let may = connection.meter.may_replay(now);
        if !may {
            connection.flags.set(Flags::PARKED);
            if !connection.flags.has(Flags::OWING) {
                connection.flags.set(Flags::OWING);
                self.owing.push_back(key);
            }
        }
        may
    }

    /// Lets those try again who have been given too much history.
    pub(super) fn on_tick_owing(&mut self, slots: &mut Slots) {
        for key in std::mem::take(&mut self.owing) {
            // It may have left meanwhile.
            if let Some(connection) = slots.get(key) {
                connection.flags.clear(Flags::OWING);
                self.list(slots, key);
            }
        }
    }

    /// Brings the account of a connection's unfinished input up to date.
    pub(super) fn account(&mut self, slots: &mut Slots, key: ConnectionKey) {
        let connection = slots.connection(key);
        let Some(busy) = connection.busy.as_mut() else { return };
        let flags = &connection.flags;
        let left = [Flags::WAITING, Flags::PARKED, Flags::READABLE];
        if !left.iter().any(|flag| flags.has(*flag)) {
            busy.unserved = None;
        }
        let (before, after) = (busy.charged, busy.inbound_bytes());
        busy.charged = after;
        if let Some(begun) = self.unfinished.charge(key, before, after) {
            busy.begun = begun;
        }
        connection.shrink();
    }
}

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

impl<S: Sockets> Sessions<S> {
    /// News of a socket.
    pub(super) fn on_ready(&mut self, ready: Ready) {
        let key = ready.key;
        // The news of a released socket may come twice, the second time for nobody.
        let Some(connection) = self.slots.get(key) else { return };
        if ready.ended {
            return self.on_watch_ended(ready);
        }
        if ready.hangup {
            connection.flags.set(Flags::HUNG_UP);
        }
        let deaf = connection.flags.has(Flags::DEAF);
        if ready.writable && !deaf && connection.flags.clear(Flags::BLOCKED) {
            connection.heard = self.tick;
            self.delivery.mark_dirty(key.slot);
        }
        if ready.readable {
            self.input.mark_readable(&mut self.slots, key);
        }
    }

    fn on_watch_ended(&mut self, Ready { key, hangup: failed, .. }: Ready) {
        let connection = self.slots.connection(key);
        let socket = connection.socket;
        if failed || connection.state == State::Released {
            // A watch that can't be had is not asked for again: that would go on for ever.
            self.forget(key, CloseReason::InternalError);
            self.io.close(socket);
            let subnet = self.slots.remove(key.slot);
            self.subnets.leave(subnet);
        } else {
            // The kernel could not keep the watch, and news may have been lost with it.
            self.io.watch(socket, key);
            self.input.mark_readable(&mut self.slots, key);
            self.delivery.mark_dirty(key.slot);
        }
    }

    /// Goes on with parked input, or reads once from a socket that may have bytes; it stays on the
    /// list while it may have more.
    pub(super) fn on_listed(&mut self, key: ConnectionKey) {
        // It may have left since it was listed.
        let Some(connection) = self.slots.get(key) else { return };
        connection.flags.clear(Flags::LISTED);
        if connection.flags.has(Flags::PARKED) {
            return self.go_on(key);
        }
        if connection.state == State::Released || !connection.flags.has(Flags::READABLE) {
            return;
        }
        let closing = connection.state == State::Closing;
        if connection.is_upgrade_abandoned() {
            return self.release(key, CloseReason::PeerGone, Release::Graceful);
        }
        if !closing && !connection.may_read(self.options.reading_bytes_max()) {
            return; // It is listed again when that has changed.
        }
        let socket = connection.socket;
        let mut buffer = std::mem::take(&mut self.input.buffer);
        match self.io.receive(socket, &mut buffer) {
            Received::Bytes(count) => {
                // A full buffer may leave bytes behind, of which no new event will speak.
                let all = count < buffer.len() && !connection.flags.has(Flags::HUNG_UP);
                if all {
                    connection.flags.clear(Flags::READABLE);
                }
                self.on_bytes(key, &mut buffer[..count]);
                if !all {
                    self.input.mark_readable(&mut self.slots, key);
                }
            }
            Received::Nothing => {
                connection.flags.clear(Flags::READABLE);
                self.input.account(&mut self.slots, key);
            }
            Received::End => self.on_end(key),
            Received::Gone => self.release(key, CloseReason::PeerGone, Release::Abort),
        }
        self.input.buffer = buffer;
    }

    fn on_bytes(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let connection = self.slots.connection(key);
        connection.heard = self.tick;
        if let Some(busy) = connection.busy.as_mut() {
            busy.unread = None;
        }
        match connection.state {
            State::Handshaking => self.on_head(key, bytes),
            State::Opened | State::Connected => {
                self.on_frames(key, bytes);
                self.charge_inbound(key);
            }
            // What comes before the response is not read yet.
            State::Upgrading => {}
            State::Vacant | State::Closing | State::Released => {}
        }
    }

    fn on_head(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let connection = self.slots.connection(key);
        let mut head = Vec::new();
        if let Some(busy) = connection.busy.as_mut() {
            head = std::mem::take(&mut busy.head);
        }
        head.extend_from_slice(bytes);
        let rules = &self.options.rules;
        let Ok(progress) = guarded(|| handshake::read(&head, rules)) else {
            self.counters.panics.add(1);
            return self.release(key, CloseReason::InternalError, Release::Graceful);
        };
        match progress {
            Progress::Incomplete => {
                let busy = connection.busy();
                head.shrink_to_fit();
                busy.head = head;
                busy.head_receives += 1;
                if busy.head_receives > HANDSHAKE_RECEIVES_MAX {
                    return self.release(key, CloseReason::Refused, Release::Graceful);
                }
            }
            Progress::Respond(response) => {
                self.counters.handshakes_refused.add(1);
                self.respond(key, &response.bytes);
            }
            Progress::Health { head_only } => {
                let phase = self.readiness.phase(self.now);
                self.respond(key, &handshake::health_response(phase, head_only));
            }
            Progress::Upgrade(_) if self.ending.draining || !self.readiness.takes_clients() => {
                self.counters.handshakes_refused.add(1);
                let phase = self.readiness.phase(self.now);
                self.respond(key, &handshake::unavailable(Unavailable::Phase(phase)));
            }
            Progress::Upgrade(upgrade) => {
                let consumed = upgrade.consumed;
                match self.open(key, upgrade) {
                    Flow::Continue => drop(self.on_frames(key, &mut head[consumed..])),
                    Flow::Wait => self.slots.connection(key).park_input(&head[consumed..]),
                    Flow::Stop => {}
                }
            }
        }
        self.charge_inbound(key);
    }

    /// Decodes frames and carries out what they ask for.
    pub(super) fn on_frames(&mut self, key: ConnectionKey, mut input: &mut [u8]) -> Flow {
        let limits = ws::Limits {
            message_bytes_max: self.options.client().message_bytes_max,
            fragments_max: self.options.client().fragments_max,
        };
        let reading_bytes_max = self.options.reading_bytes_max();
        // The decoder leaves its connection for as long as an event may borrow from it.
        let mut decoder = self.slots.connection(key).take_decoder();
        while !input.is_empty() {
            if !self.slots.connection(key).has_room_to_answer(reading_bytes_max) {
                self.slots.connection(key).park_input(input);
                self.slots.connection(key).restore_decoder(decoder);
                return Flow::Wait;
            }
            let step = parse(&mut decoder, input, &limits);
            let step = match step {
                Ok(Ok(step)) => step,
                Ok(Err(reason)) => {
                    self.close(key, reason);
                    return Flow::Stop;
                }
                Err(Panicked) => return self.on_parse_panic(key),
            };
            let consumed = step.consumed;
            let pings = u32::from(matches!(step.event, Some(Incoming::Ping(_))));
            if self.exceeds_rates(key, step.frames, pings) {
                self.close(key, CloseReason::TooManyRequests);
                return Flow::Stop;
            }
            let flow = step.event.map_or(Flow::Continue, |event| self.on_event(key, &event));
            input = &mut input[consumed..];
            match flow {
                Flow::Continue => {}
                Flow::Stop => return flow,
                Flow::Wait => {
                    self.slots.connection(key).park_input(input);
                    self.slots.connection(key).restore_decoder(decoder);
                    return flow;
                }
            }
        }
        self.slots.connection(key).restore_decoder(decoder);
        Flow::Continue
    }

    fn on_parse_panic(&mut self, key: ConnectionKey) -> Flow {
        self.counters.panics.add(1);
        self.close(key, CloseReason::InternalError);
        Flow::Stop
    }

    fn exceeds_rates(&mut self, key: ConnectionKey, frames: u32, pings: u32) -> bool {
        let client = self.options.client();
        let most =
            Rates { frames: client.frames_per_second_max, pings: client.pings_per_second_max };
        let (tick, more) = (self.tick, Rates { frames, pings });
        self.slots.connection(key).meter.count(tick, more, most)
    }

    /// Carries out one event.
    fn on_event(&mut self, key: ConnectionKey, event: &Incoming<'_>) -> Flow {
        match *event {
            Incoming::Message { opcode, data } => {
                let kind = opcode.into();
                let (flow, left) = self.on_commands(key, kind, data);
                if flow == Flow::Wait {
                    self.slots.connection(key).park_message(kind, left);
                }
                flow
            }
            Incoming::Ping(payload) => {
                let mut frame = Vec::new();
                self.slots.connection(key).wire.encode_pong(payload, &mut frame);
                self.send_own(key, &frame);
                Flow::Continue
            }
            // Clients may send pongs unasked (.NET's does). Only the protocol's own pong answers
            // the protocol's own ping: without one outstanding it would be an error.
            Incoming::Pong => Flow::Continue,
            Incoming::Close(code) => {
                self.on_close_frame(key, code);
                Flow::Stop
            }
        }
    }

    /// Carries out the commands of a message, one after another, until one has to wait. Answers
    /// what is left of the message.
    pub(super) fn on_commands<'m>(
        &mut self,
        key: ConnectionKey,
        kind: MessageKind,
        mut message: &'m [u8],
    ) -> (Flow, &'m [u8]) {
        let reading_bytes_max = self.options.reading_bytes_max();
        loop {
            let connection = self.slots.connection(key);
            let protocol = connection.wire.protocol;
            let decoded = guarded(|| protocol.decode(kind, message));
            let flow = match decoded {
                Err(Panicked) => self.on_parse_panic(key),
                Ok(Err(reason)) => {
                    self.close(key, reason);
                    Flow::Stop
                }
                Ok(Ok((request, _))) if self.relies_on_publications(key, &request) => {
                    return (self.wait(key, PendingRequest::Publications), message);
                }
                Ok(Ok((request, _)))
                    if request.command.asks_for_history()
                        && !self.input.may_replay(&mut self.slots, key, self.tick) =>
                {
                    return (Flow::Wait, message);
                }
                Ok(Ok((request, rest))) => {
                    message = rest;
                    self.on_request(key, request)
                }
            };
            if flow == Flow::Stop || message.is_empty() {
                return (flow, message);
            }
            // Each further command is worth a frame, or one frame could carry thousands unlimited.
            if self.exceeds_rates(key, 1, 0) {
                self.close(key, CloseReason::TooManyRequests);
                return (Flow::Stop, &[]);
            }
            if flow == Flow::Wait
                || !self.slots.connection(key).has_room_to_answer(reading_bytes_max)
            {
                return (Flow::Wait, message);
            }
        }
    }

    /// Brings the account of unfinished input up to date, and makes room if there is too much.
    /// Closing a connection only accounts, so that thousands of small ones are closed in a loop and
    /// not each from within the other's closing.
    pub(super) fn charge_inbound(&mut self, key: ConnectionKey) {
        self.input.account(&mut self.slots, key);
        while self.input.unfinished.is_full() {
            let Some(oldest) = self.input.unfinished.take_oldest() else { break };
            if is_unfinished(&mut self.slots, oldest) {
                self.close(oldest.key, CloseReason::InboundFull);
            }
        }
        let slots = &mut self.slots;
        self.input.unfinished.compact(|begun| is_unfinished(slots, *begun));
        self.counters.inbound_bytes.set(self.input.unfinished.bytes() as u64);
    }
}

/// Whether input that has begun is still not finished.
fn is_unfinished(slots: &mut Slots, Begun { key, number }: Begun) -> bool {
    let busy = slots.get(key).and_then(|connection| connection.busy.as_ref());
    busy.is_some_and(|busy| busy.charged > 0 && busy.begun == number)
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
