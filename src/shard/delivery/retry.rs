//! Sockets that the kernel had no memory for. It says that there is room again when the peer
//! acknowledges something; where nothing is on its way to the peer that never happens, so the next
//! tick tries such a socket again.

use super::Delivery;
use crate::connection::{Flags, Slots, State};
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
}

impl Delivery {
    /// Sends again to those of whom no news would come.
    pub fn on_tick(&mut self, slots: &mut Slots, io: &impl Sockets, now: Tick) {
        for key in std::mem::take(&mut self.retries.0) {
            // The client may have left since the write.
            let Some(connection) = slots.get(key) else { continue };
            let blocked = connection.flags.has(Flags::BLOCKED);
            if blocked
                && !connection.flags.has(Flags::DEAF)
                && connection.state != State::Released
                && io.has_sent_all(connection.socket)
                && !crate::sabotage!(ForgottenRetry)
            {
                connection.flags.clear(Flags::BLOCKED);
                // It was not pinged meanwhile, and has nothing to answer.
                connection.heard = now;
                self.dirty.insert(key.slot.index());
            }
        }
    }
}
