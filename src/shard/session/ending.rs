//! Codes and texts for ends of connections and subscriptions, and the state of the drain.

use crate::connection::WaitingSubscribe;
use crate::ids::Tick;
use crate::limits::UPGRADE_TIMEOUT;
use crate::reason::{ClientError, CloseReason, UnsubscribeReason};

/// The code and text that a client and the application get at the end of a connection or
/// subscription.
#[derive(Clone, Copy, Debug)]
pub struct Farewell<'a> {
    /// The numeric code, as in a close frame.
    pub code: u16,
    /// The text that explains the code.
    pub text: &'a str,
}

impl Farewell<'static> {
    /// The code and text of a close reason.
    pub fn of(reason: CloseReason) -> Farewell<'static> {
        Farewell { code: reason.details().code, text: reason.details().text }
    }

    /// The code and text for the end of a subscription.
    pub fn of_subscription(reason: UnsubscribeReason) -> Farewell<'static> {
        let (code, text) = reason.code_and_text();
        Farewell { code, text }
    }
}

/// Returns the text for a client whose connection can't begin because of an error in `channel`.
pub fn text_of_refusal(error: ClientError, channel: &str) -> String {
    // Escaped, because a name may contain anything that a namespace allows.
    format!("{}; channel {channel:?}", error.details().text)
}

/// Returns the text for a client whose connection has waited for [`UPGRADE_TIMEOUT`] and still
/// waits for these subscriptions.
pub fn text_of_timeout(waiting: &[WaitingSubscribe]) -> String {
    match waiting {
        [] => "subscribing took too long".to_owned(),
        [first, others @ ..] => format!(
            "subscribing took longer than {UPGRADE_TIMEOUT:?}; channel {:?} and {} others",
            first.channel.as_str(),
            others.len()
        ),
    }
}

/// The drain: all connections end before the process does.
pub struct Ending {
    draining: bool,
    /// Time after which no closing connection may linger.
    last_end: Tick,
}

impl Default for Ending {
    fn default() -> Ending {
        Ending { draining: false, last_end: Tick::NEVER }
    }
}

impl Ending {
    /// Begins the drain. No connection may linger after `last_end`.
    pub fn begin(&mut self, last_end: Tick) {
        self.draining = true;
        // A second drain may only shorten the first one.
        self.last_end = self.last_end.min(last_end);
    }

    /// Whether connections are being closed, and no more are accepted.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Time after which no closing connection may linger.
    pub fn last_end(&self) -> Tick {
        self.last_end
    }
}
