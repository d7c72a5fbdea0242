//! Retries for sockets that the kernel had no memory for. Usually the kernel reports room when the
//! peer acknowledges data. If nothing is on its way to the peer that never happens, so the next
//! tick tries the socket again.

use crate::connection::{Connection, Flags, State};
use crate::ids::Tick;
use crate::kernel::{ConnectionKey, Sockets};

/// Connections with writes since the last tick of which the kernel took nothing, once for each
/// write.
#[derive(Default)]
pub(super) struct Retries(Vec<ConnectionKey>);

impl Retries {
    /// Records a write of which the kernel took nothing.
    pub(super) fn note(&mut self, key: ConnectionKey) {
        self.0.push(key);
    }

    /// Takes all keys.
    pub(super) fn take(&mut self) -> Vec<ConnectionKey> {
        std::mem::take(&mut self.0)
    }
}

/// Unblocks a connection if the kernel would never report room for it. Returns true if it did.
pub(super) fn retry(connection: &mut Connection, io: &impl Sockets, now: Tick) -> bool {
    let again = connection.flags.has(Flags::BLOCKED)
        && !connection.flags.has(Flags::DEAF)
        && connection.state != State::Released
        && io.has_sent_all(connection.socket)
        && !crate::sabotage!(ForgottenRetry);
    if again {
        connection.flags.clear(Flags::BLOCKED);
        // The client got no pings while it was blocked, so its silence is no reason to close it.
        connection.heard = now;
    }
    again
}
