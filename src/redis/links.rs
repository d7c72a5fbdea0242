//! Generations of connections. All connections can be given up together, and their users make new
//! ones.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// The current generation of connections.
#[derive(Default)]
pub(super) struct Links {
    generation: Cell<u64>,
    given_up: Notify,
}

/// Membership of a connection in its generation.
pub(super) struct Membership {
    links: Rc<Links>,
    generation: u64,
}

impl Links {
    /// Returns the membership of a new connection.
    pub(super) fn join(self: &Rc<Links>) -> Membership {
        Membership { links: Rc::clone(self), generation: self.generation.get() }
    }

    /// Gives up all connections.
    pub(super) fn renew(&self) {
        self.generation.set(self.generation.get() + 1);
        self.given_up.notify_waiters();
    }
}

impl Membership {
    /// Whether the connection was given up.
    pub(super) fn is_over(&self) -> bool {
        self.generation != self.links.generation.get()
    }

    /// Waits until the connection is given up.
    pub(super) async fn over(&self) {
        loop {
            // The waiter is registered before the check, because a renewal between the two would be
            // missed.
            let given_up = self.links.given_up.notified();
            if self.is_over() {
                return;
            }
            given_up.await;
        }
    }
}
