//! Answers of the bus for those who publish from the bridge's own thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::mesh::{Answer, Ticket};

/// Where the answers for one of them arrive.
#[derive(Default)]
pub(crate) struct Mailbox {
    arrived: RefCell<Vec<(Ticket, Answer)>>,
    news: Notify,
}

impl Mailbox {
    /// Takes the answers that are there.
    pub(crate) fn take(&self) -> Vec<(Ticket, Answer)> {
        self.arrived.take()
    }

    /// Waits for an answer.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    fn put(&self, ticket: Ticket, answer: Answer) {
        self.arrived.borrow_mut().push((ticket, answer));
        self.news.notify_one();
    }
}

/// Which mailbox awaits which answer.
#[derive(Default)]
pub(super) struct Mailboxes {
    awaiting: RefCell<HashMap<Ticket, Rc<Mailbox>>>,
    /// How many tickets there were.
    tickets: Cell<u64>,
}

impl Mailboxes {
    /// A number for a request that has not been made yet.
    pub(super) fn ticket(&self) -> Ticket {
        self.tickets.set(self.tickets.get() + 1);
        Ticket(self.tickets.get())
    }

    /// The answer with `ticket` goes to `mailbox`.
    pub(super) fn await_answer(&self, ticket: Ticket, mailbox: &Rc<Mailbox>) {
        let before = self.awaiting.borrow_mut().insert(ticket, Rc::clone(mailbox));
        assert!(before.is_none(), "{ticket:?} is used twice");
    }

    /// An answer of the bus; nobody may be left who awaits it.
    pub(super) fn deliver(&self, ticket: Ticket, answer: Answer) {
        let mailbox = self.awaiting.borrow_mut().remove(&ticket);
        if let Some(mailbox) = mailbox {
            mailbox.put(ticket, answer);
        }
    }
}
