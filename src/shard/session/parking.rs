//! Parked input: bytes of a client that can't be handled yet. An earlier request waits for its
//! answer, the outbox has no room for further answers, or the client has exceeded a rate.

use super::clients::Clients;
use super::homes::Homes;
use super::replying::Flow;
use super::{closing, frames};
use crate::connection::{Flags, Parked, Rates, State};
use crate::kernel::{ConnectionKey, Sockets};
use crate::reason::CloseReason;

/// Continues with parked input after the answer that it waited for.
pub fn resume<S: Sockets>(clients: &mut Clients<S>, homes: &mut Homes, key: ConnectionKey) {
    clients.slots.connection(key).flags.clear(Flags::WAITING);
    go_on(clients, homes, key);
}

/// Continues with parked input, unless it still has to wait.
pub fn go_on<S: Sockets>(clients: &mut Clients<S>, homes: &mut Homes, key: ConnectionKey) {
    let connection = clients.slots.connection(key);
    if connection.flags.has(Flags::WAITING) {
        return;
    }
    let has_parked = connection.busy.as_ref().is_some_and(|busy| busy.parked.is_some());
    if has_parked && !connection.has_room_to_answer(clients.options.reading_bytes_max()) {
        return; // The connection is listed again when there is room.
    }
    let exceeds = frames::exceeds_rates(clients, key, Rates { frames: 0, pings: 0 });
    if exceeds && frames::pause(clients, key) != Flow::Continue {
        return;
    }
    let connection = clients.slots.connection(key);
    connection.flags.clear(Flags::PARKED);
    if let Some(busy) = connection.busy.as_mut() {
        // The server reads from the client again, so the time without reading ends.
        busy.unread = None;
    }
    let flow = match connection.take_parked() {
        // A client that had to wait for its rate may have nothing parked, and a released connection
        // loses its input but stays listed.
        None => Flow::Continue,
        Some(parked) => go_on_parked(clients, homes, key, parked),
    };
    charge_inbound(clients, key);
    let connection = clients.slots.connection(key);
    connection.shrink();
    if flow == Flow::Continue && connection.flags.has(Flags::READABLE) {
        clients.input.mark_readable(&mut clients.slots, key);
    }
}

fn go_on_parked<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    mut parked: Box<Parked>,
) -> Flow {
    if let Some(mut message) = parked.message.take() {
        let commands = &message.bytes[message.done..];
        let (flow, left) = frames::on_commands(clients, homes, key, message.kind, commands);
        if flow == Flow::Wait {
            message.done = message.bytes.len() - left.len();
            parked.message = (!left.is_empty()).then_some(message);
            let connection = clients.slots.connection(key);
            if connection.state != State::Closing {
                connection.busy().parked = Some(parked);
            }
            return flow;
        }
        if flow == Flow::Stop {
            return flow;
        }
    }
    frames::on_frames(clients, homes, key, &mut parked.input)
}

/// Updates the charge for unfinished input, and makes room if there is too much. Closing a
/// connection only updates charges. So many small connections are closed in a loop, and not
/// recursively from within each other's closing.
pub fn charge_inbound<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) {
    clients.input.account(&mut clients.slots, key);
    while let Some(oldest) = clients.input.take_beyond_bounds(&mut clients.slots) {
        closing::close(clients, oldest, CloseReason::InboundFull);
    }
    clients.counters.inbound_bytes.set(clients.input.unfinished_bytes() as u64);
}
