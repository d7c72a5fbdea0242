//! Request heads, and the connections that they become.

use super::clients::Clients;
use super::homes::Homes;
use super::replying::Flow;
use super::{closing, frames, heartbeat, parking, proxied, refusing, reporting, upgrading};
use crate::connection::{Flags, State};
use crate::handshake::{self, Endpoint, Progress, Unavailable, Upgrade};
use crate::kernel::{ConnectionKey, Release, Sockets};
use crate::limits::HANDSHAKE_RECEIVES_MAX;
use crate::readiness::Phase;
use crate::reason::{CloseReason, Refusal};
use crate::wire::Wire;

/// Turns a request head into a connection.
fn open<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    upgrade: Upgrade,
) -> Flow {
    let connection = clients.slots.connection(key);
    connection.wire = Wire::of(&upgrade.endpoint);
    connection.state = match upgrade.endpoint {
        Endpoint::Centrifugo { frame_pings, .. } => {
            if frame_pings {
                connection.flags.set(Flags::FRAME_PINGS);
            }
            State::Opened
        }
        Endpoint::Plain(request) => {
            return upgrading::begin(clients, homes, key, request, upgrade.acceptance);
        }
        Endpoint::Echo => State::Connected,
    };
    let (protocol, opened) = (connection.wire.protocol, connection.state == State::Opened);
    clients.counters.handshaking.subtract(1);
    clients.counters.connections[protocol as usize].add(1);
    clients.counters.handshakes_ok.add(1);
    reporting::opened(clients, key);
    clients.send_own(key, &upgrade.acceptance.head());
    if opened {
        let deadline = clients.clock.tick().after(clients.options.client().stale_timeout);
        clients.slots.set_deadline(key.slot, deadline);
        return Flow::Continue;
    }
    heartbeat::begin(clients, key);
    reporting::connected(clients, key);
    Flow::Continue
}

/// Handles bytes of a request head.
pub fn on_head<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    bytes: &mut [u8],
) {
    let connection = clients.slots.connection(key);
    let mut head = Vec::new();
    if let Some(busy) = connection.busy.as_mut() {
        head = std::mem::take(&mut busy.head);
    }
    head.extend_from_slice(bytes);
    let Ok(progress) = proxied::read(clients, key, &mut head) else {
        clients.counters.panics.add(1);
        return closing::release(clients, key, CloseReason::InternalError, Release::Graceful);
    };
    match progress {
        Progress::Incomplete => {
            let busy = clients.slots.connection(key).busy();
            head.shrink_to_fit();
            busy.head = head;
            busy.head_receives += 1;
            // Each part causes the head to be parsed again, so a head that arrives byte by byte
            // would be expensive.
            if busy.head_receives > HANDSHAKE_RECEIVES_MAX {
                return closing::release(clients, key, CloseReason::Refused, Release::Graceful);
            }
        }
        Progress::Respond(response) => {
            refusing::refused(clients, key, response.reason, &head);
            closing::respond(clients, key, &response.bytes);
        }
        Progress::Health(probe) => {
            let phase = clients.readiness.phase(clients.clock.now());
            closing::respond(clients, key, &handshake::health_response(phase, probe));
        }
        Progress::Upgrade(_)
            if clients.ending.is_draining() || !clients.readiness.takes_clients() =>
        {
            let phase = clients.readiness.phase(clients.clock.now());
            let starts = phase == Phase::Starting;
            let reason = if starts { Refusal::Starting } else { Refusal::Draining };
            refusing::refused(clients, key, reason, &head);
            closing::respond(clients, key, &handshake::unavailable(Unavailable::Phase(phase)));
        }
        Progress::Upgrade(upgrade) => {
            let consumed = upgrade.consumed;
            match open(clients, homes, key, upgrade) {
                Flow::Continue => {
                    // A client may send frames right behind its request head.
                    frames::on_frames(clients, homes, key, &mut head[consumed..]);
                }
                Flow::Wait => clients.slots.connection(key).park_input(&head[consumed..]),
                Flow::Stop => {}
            }
        }
    }
    parking::charge_inbound(clients, key);
}
