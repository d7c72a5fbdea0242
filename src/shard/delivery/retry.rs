//! Sockets that the kernel had no memory for. It says that there is room again when the peer
//! acknowledges something; where nothing is on its way to the peer that never happens, so the next
//! tick tries such a socket again.

use crate::connection::{Connection, Flags, State};
use crate::ids::Tick;
use crate::kernel::{ConnectionKey, Sockets};

/// Connections of which the kernel took nothing since the last tick, each once for every write.
#[derive(Default)]
pub(super) struct Retries(Vec<ConnectionKey>);

impl Retries {
    /// The kernel took nothing of a write.
    pub(super) fn note(&mut self, key: ConnectionKey) {
        self.0.push(key);
    }

    /// Takes all of them.
    pub(super) fn take(&mut self) -> Vec<ConnectionKey> {
        std::mem::take(&mut self.0)
    }
}

/// Lets a connection be sent to again of which no news would come. Returns whether it is one.
pub(super) fn retry(connection: &mut Connection, io: &impl Sockets, now: Tick) -> bool {
    let again = connection.flags.has(Flags::BLOCKED)
        && !connection.flags.has(Flags::DEAF)
        && connection.state != State::Released
        && io.has_sent_all(connection.socket)
        && !crate::sabotage!(ForgottenRetry);
    if again {
        connection.flags.clear(Flags::BLOCKED);
        // It was not pinged meanwhile, and has nothing to answer.
        connection.heard = now;
    }
    again
}
