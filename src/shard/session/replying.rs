//! Answers to requests of clients. Each answer decides whether more of the client's input is
//! handled.

use super::clients::Clients;
use super::closing;
use super::ending::Farewell;
use crate::connection::{Flags, PendingRequest};
use crate::kernel::{ConnectionKey, Sockets};
use crate::protocol::{Connected, Reply};
use crate::reason::{ClientError, CloseReason};

/// The result of handling input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The input has been handled, and more may follow.
    Continue,
    /// A request waits for its answer, or the rest of the input waits for room.
    Wait,
    /// The connection is closing, and the rest of its input is ignored.
    Stop,
}

/// Puts an answer into the outbox of the client.
pub fn reply<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    id: u32,
    reply: &Reply<'_>,
) -> Flow {
    let connection = clients.slots.connection(key);
    let mut frames = clients.input.take_reply_buffer();
    match connection.wire.encode_reply(id, reply, &mut frames) {
        Ok(()) => {
            if !reply.publications().is_empty() {
                connection.meter.count_replay(clients.clock.tick(), frames.len());
            }
            clients.send_reply(key, frames);
            Flow::Continue
        }
        Err(reason) => {
            // The text of an error says more than that of the most similar close code.
            let text = match reply {
                Reply::Error(error) => error.details().text,
                _ => reason.details().text,
            };
            closing::close_with(
                clients,
                key,
                reason,
                Farewell { code: reason.details().code, text },
            );
            Flow::Stop
        }
    }
}

/// Returns the reply to `connect`, without subscriptions.
pub fn connected<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) -> Connected<'static> {
    let client = clients.client_id(key);
    let own_pings = !clients.slots.connection(key).flags.has(Flags::FRAME_PINGS);
    let ping = own_pings.then_some(clients.options.client().ping_interval);
    Connected { client, ping, pong: own_pings, subs: &[] }
}

/// Answers a request with an error.
pub fn fail<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    id: u32,
    error: ClientError,
) -> Flow {
    reply(clients, key, id, &Reply::Error(error))
}

/// Makes further input wait for the answer to a request.
pub fn wait<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    waiting: PendingRequest,
) -> Flow {
    let connection = clients.slots.connection(key);
    connection.flags.set(Flags::WAITING);
    let busy = connection.busy();
    assert!(busy.waiting.is_none(), "a client waits for one answer at a time");
    busy.waiting = Some(Box::new(waiting));
    if clients.options.has_bus() {
        // A later request does not restart the time, so a client that sends many requests gets all
        // answers in time.
        busy.unserved.get_or_insert(clients.clock.now());
    }
    Flow::Wait
}

/// Closes the connection of a request.
pub fn stop<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, reason: CloseReason) -> Flow {
    closing::close(clients, key, reason);
    Flow::Stop
}
