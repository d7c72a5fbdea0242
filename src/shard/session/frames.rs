//! Frames from clients, and the commands in them. Nothing here trusts its input.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::clients::Clients;
use super::homes::Homes;
use super::replying::{self, Flow};
use super::{closing, commands};
use crate::connection::{Flags, PendingRequest, Rates};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::EXCESS_SECONDS_MAX;
use crate::protocol::{Codec, MessageKind};
use crate::reason::CloseReason;
use crate::ws::{self, Decoder, Incoming};

/// Decodes frames and handles their commands.
pub fn on_frames<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    mut input: &mut [u8],
) -> Flow {
    let limits = ws::Limits {
        message_bytes_max: clients.options.client().message_bytes_max,
        fragments_max: clients.options.client().fragments_max,
    };
    let reading_bytes_max = clients.options.reading_bytes_max();
    // The decoder is taken out of its connection, because events borrow from it while the
    // connection changes.
    let mut decoder = clients.slots.connection(key).take_decoder();
    while !input.is_empty() {
        if !clients.slots.connection(key).has_room_to_answer(reading_bytes_max) {
            clients.slots.connection(key).park_input(input);
            clients.slots.connection(key).restore_decoder(decoder);
            return Flow::Wait;
        }
        let step = parse(&mut decoder, input, &limits);
        let step = match step {
            Ok(Ok(step)) => step,
            Ok(Err(reason)) => {
                closing::close(clients, key, reason);
                return Flow::Stop;
            }
            Err(Panicked) => return on_parse_panic(clients, key),
        };
        let consumed = step.consumed;
        let pings = u32::from(matches!(step.event, Some(Incoming::Ping(_))));
        let exceeds = exceeds_rates(clients, key, Rates { frames: step.frames, pings });
        let flow = step.event.map_or(Flow::Continue, |event| on_event(clients, homes, key, &event));
        let flow = if exceeds && flow == Flow::Continue { pause(clients, key) } else { flow };
        input = &mut input[consumed..];
        match flow {
            Flow::Continue => {}
            Flow::Stop => return flow,
            Flow::Wait => {
                clients.slots.connection(key).park_input(input);
                clients.slots.connection(key).restore_decoder(decoder);
                return flow;
            }
        }
    }
    clients.slots.connection(key).restore_decoder(decoder);
    Flow::Continue
}

/// Handles one event of the decoder.
fn on_event<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    event: &Incoming<'_>,
) -> Flow {
    match *event {
        Incoming::Message { opcode, data } => {
            let kind = opcode.into();
            let (flow, left) = on_commands(clients, homes, key, kind, data);
            if flow == Flow::Wait {
                clients.slots.connection(key).park_message(kind, left);
            }
            flow
        }
        Incoming::Ping(payload) => {
            let mut frame = Vec::new();
            clients.slots.connection(key).wire.encode_pong(payload, &mut frame);
            clients.send_own(key, &frame);
            Flow::Continue
        }
        // Clients may send unsolicited pongs, as .NET does. Only the pong command answers the
        // protocol's own ping, and only that one is an error without a ping.
        Incoming::Pong => Flow::Continue,
        Incoming::Close(code) => {
            closing::on_close_frame(clients, key, code);
            Flow::Stop
        }
    }
}

/// Handles the commands of a message in order, until one has to wait. Returns the rest of the
/// message.
pub fn on_commands<'m, S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    kind: MessageKind,
    mut message: &'m [u8],
) -> (Flow, &'m [u8]) {
    let reading_bytes_max = clients.options.reading_bytes_max();
    loop {
        let connection = clients.slots.connection(key);
        let protocol = connection.wire.protocol;
        let decoded = guarded(|| protocol.decode(kind, message));
        let flow = match decoded {
            Err(Panicked) => on_parse_panic(clients, key),
            Ok(Err(reason)) => {
                closing::close(clients, key, reason);
                Flow::Stop
            }
            Ok(Ok((request, _)))
                if commands::relies_on_publications(clients, homes, key, &request) =>
            {
                return (replying::wait(clients, key, PendingRequest::Publications), message);
            }
            Ok(Ok((request, _))) if commands::needs_empty_outbox(clients, key, &request) => {
                // The connection is listed again when the outbox has been sent.
                clients.slots.connection(key).flags.set(Flags::PARKED);
                return (Flow::Wait, message);
            }
            Ok(Ok((request, _)))
                if request.command.asks_for_history()
                    && !clients.input.may_replay(&mut clients.slots, key, clients.clock.tick()) =>
            {
                return (Flow::Wait, message);
            }
            Ok(Ok((request, rest))) => {
                message = rest;
                commands::on_request(clients, homes, key, request)
            }
        };
        if flow == Flow::Stop || message.is_empty() {
            return (flow, message);
        }
        // Each further command counts as a frame. Otherwise one frame could carry thousands of
        // commands without limit.
        let exceeds = exceeds_rates(clients, key, Rates { frames: 1, pings: 0 });
        if flow == Flow::Wait
            || !clients.slots.connection(key).has_room_to_answer(reading_bytes_max)
        {
            return (Flow::Wait, message);
        }
        if exceeds {
            return (pause(clients, key), message);
        }
    }
}

/// Stops reading from a client that has exceeded its rates until it may send again. One that
/// exceeds them second after second is closed.
pub fn pause<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) -> Flow {
    if clients.slots.connection(key).meter.note_excess() >= EXCESS_SECONDS_MAX {
        return replying::stop(clients, key, CloseReason::TooManyRequests);
    }
    clients.input.owe(&mut clients.slots, key);
    Flow::Wait
}

/// Counts frames of a client. Returns true if it may send no more in this second.
pub fn exceeds_rates<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    more: Rates,
) -> bool {
    let client = clients.options.client();
    let most = Rates { frames: client.frames_per_second_max, pings: client.pings_per_second_max };
    clients.slots.connection(key).meter.count(clients.clock.tick(), more, most)
}

fn on_parse_panic<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) -> Flow {
    clients.counters.panics.add(1);
    closing::close(clients, key, CloseReason::InternalError);
    Flow::Stop
}

/// Parsing has panicked. The cause is the bytes of one connection or a bug in this program; other
/// connections have lost nothing.
pub struct Panicked;

thread_local! {
    static PARSING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is parsing the bytes of one connection, apart from all shared state. A panic
/// then ends only that connection.
pub fn is_parsing() -> bool {
    PARSING.with(Cell::get)
}

/// Runs a pure function of one connection's bytes, and catches its panics.
pub fn guarded<T>(parse: impl FnOnce() -> T) -> Result<T, Panicked> {
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
