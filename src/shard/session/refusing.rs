//! Requests and sockets that do not become connections. Each one is counted, and a log line tells
//! of it.

use super::clients::Clients;
use crate::handshake;
use crate::kernel::{ConnectionKey, Sockets};
use crate::reason::{CloseReason, Refusal};
use crate::repeats::RefusalLine;

/// Counts a refusal. `head` has the request, as far as it was received.
pub fn refused<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    reason: Refusal,
    head: &[u8],
) {
    clients.counters.refuse(reason);
    if let Some(line) = RefusalLine::admit(reason, clients.clock.now()) {
        let address = clients.address(key);
        line.write(handshake::named_origin(head).as_deref(), address);
    }
}

/// Counts a socket that is released before it has had a response.
pub fn released<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, reason: CloseReason) {
    let refusal = match reason {
        CloseReason::Shutdown => Refusal::Draining,
        CloseReason::InternalError => Refusal::Internal,
        CloseReason::Refused => Refusal::Pieces,
        // Nothing else ends such a socket before the client does.
        _ => Refusal::Left,
    };
    refused(clients, key, refusal, &[]);
}
