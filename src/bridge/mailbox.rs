//! Answers of the bus to requests from the bridge's own thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::mesh::{Published, Ticket};
use crate::reason::ClientError;

/// Collects the answers to the requests of one task.
#[derive(Default)]
pub(crate) struct Mailbox {
    arrived: RefCell<Vec<(Ticket, Result<Published, ClientError>)>>,
    news: Notify,
}

impl Mailbox {
    /// Takes the answers that have arrived.
    pub(crate) fn take(&self) -> Vec<(Ticket, Result<Published, ClientError>)> {
        self.arrived.take()
    }

    /// Waits until an answer has arrived.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    fn put(&self, ticket: Ticket, answer: Result<Published, ClientError>) {
        self.arrived.borrow_mut().push((ticket, answer));
        self.news.notify_one();
    }
}

/// The mailbox of each answer that is awaited.
#[derive(Default)]
pub(super) struct Mailboxes {
    awaiting: RefCell<HashMap<Ticket, Rc<Mailbox>>>,
    /// Number of tickets so far.
    tickets: Cell<u64>,
}

impl Mailboxes {
    /// Returns the ticket for a new request.
    pub(super) fn ticket(&self) -> Ticket {
        self.tickets.set(self.tickets.get() + 1);
        Ticket(self.tickets.get())
    }

    /// Directs the answer to `ticket` to `mailbox`.
    pub(super) fn await_answer(&self, ticket: Ticket, mailbox: &Rc<Mailbox>) {
        let before = self.awaiting.borrow_mut().insert(ticket, Rc::clone(mailbox));
        assert!(before.is_none(), "{ticket:?} is used twice");
    }

    /// Delivers an answer of the bus. If its task has started over in the meantime, the answer is
    /// dropped.
    pub(super) fn deliver(&self, ticket: Ticket, answer: Result<Published, ClientError>) {
        let mailbox = self.awaiting.borrow_mut().remove(&ticket);
        if let Some(mailbox) = mailbox {
            mailbox.put(ticket, answer);
        }
    }
}
