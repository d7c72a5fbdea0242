//! Ends: what is said at them, and the drain, after which no connection is left.

use crate::ids::Tick;
use crate::reason::{CloseReason, UnsubscribeReason};

/// What a client is told at the end of its connection or subscription, and the application of it.
#[derive(Clone, Copy, Debug)]
pub struct Farewell<'a> {
    /// The code.
    pub code: u16,
    /// The text.
    pub text: &'a str,
}

impl Farewell<'static> {
    /// The words for a close reason.
    pub fn of(reason: CloseReason) -> Farewell<'static> {
        Farewell { code: reason.row().code, text: reason.row().text }
    }

    /// The words for the end of a subscription.
    pub fn of_subscription(reason: UnsubscribeReason) -> Farewell<'static> {
        let (code, text) = reason.code_and_text();
        Farewell { code, text }
    }
}

/// The end of all connections, before the process ends.
pub struct Ending {
    draining: bool,
    /// When no closing connection may linger any longer.
    last_end: Tick,
}

impl Default for Ending {
    fn default() -> Ending {
        Ending { draining: false, last_end: Tick::NEVER }
    }
}

impl Ending {
    /// Takes no more connections. None may linger beyond `last_end` from now on.
    pub fn begin(&mut self, last_end: Tick) {
        self.draining = true;
        self.last_end = self.last_end.min(last_end);
    }

    /// Whether connections are closed, and no more are taken.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// When no closing connection may linger any longer.
    pub fn last_end(&self) -> Tick {
        self.last_end
    }
}
