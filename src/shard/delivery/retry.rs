//! Sockets that the kernel had no memory for. It says that there is room again when the peer
//! acknowledges something; where nothing is on its way to the peer that never happens, so the next
//! tick tries such a socket again.

use crate::connection::{Flags, State};
use crate::kernel::{ConnectionKey, Sockets};
use crate::shard::Shard;

/// Connections of which the kernel took nothing since the last tick, each once for every write.
#[derive(Default)]
pub(in crate::shard) struct Retries(Vec<ConnectionKey>);

impl Retries {
    /// The kernel took nothing of a write.
    pub(in crate::shard) fn note(&mut self, key: ConnectionKey) {
        self.0.push(key);
    }
}

impl<S: Sockets> Shard<S> {
    /// Sends again to those of whom no news would come.
    pub(in crate::shard) fn on_tick_retries(&mut self) {
        for key in std::mem::take(&mut self.retries.0) {
            let Some(connection) = self.slots.get(key) else { continue };
            let blocked = connection.flags.has(Flags::BLOCKED);
            if blocked
                && !connection.flags.has(Flags::DEAF)
                && connection.state != State::Released
                && self.io.has_sent_all(connection.socket)
                && !crate::sabotage!(ForgottenRetry)
            {
                connection.flags.clear(Flags::BLOCKED);
                // It was not pinged meanwhile, and has nothing to answer.
                connection.heard = self.tick;
                self.mark_dirty(key.slot);
            }
        }
    }
}
