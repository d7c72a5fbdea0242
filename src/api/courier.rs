//! Asks shards, and finds the waiting caller for each answer.
//!
//! Everything here runs on the control thread; the lock is never contended and never held across
//! an await. It is there so that handlers may be `Send`, as axum wants them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::ApiError;
use crate::ids::ShardId;
use crate::limits::{ANSWER_TIMEOUT, API_PENDING_MAX};
use crate::mesh::{Answer, Asker, ControlRequest, Message, Recipient, Ticket};

/// The way to a shard has no room: the message was not taken, and nobody will answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard's inbox and the spill for it are full")]
pub struct Full;

/// Hands a message to a thread, or says that there is no room. It must not block, and must not call
/// [`Courier::deliver`] itself: answers come by the inbox, in a later turn.
pub type Send = Box<dyn FnMut(Recipient, Message) -> Result<(), Full> + std::marker::Send>;

/// Which shard has a channel's history.
pub type Home = Box<dyn Fn(&str) -> ShardId + std::marker::Send + Sync>;

/// Control's requests to shards.
pub struct Courier {
    shards: usize,
    /// Whether a bus orders publications; if not, home shards do.
    bus: bool,
    home: Home,
    inner: Mutex<Inner>,
}

struct Inner {
    send: Send,
    /// Who waits for which ticket; at most [`API_PENDING_MAX`].
    pending: HashMap<Ticket, oneshot::Sender<Answer>>,
    next: u64,
}

impl Courier {
    /// A courier to `shards` shards, and with `bus` to the bridge, which reaches them by `send`.
    pub fn new(shards: usize, bus: bool, home: Home, send: Send) -> Arc<Courier> {
        assert!(shards > 0, "there is somebody to ask");
        let inner = Inner { send, pending: HashMap::new(), next: 0 };
        Arc::new(Courier { shards, bus, home, inner: Mutex::new(inner) })
    }

    /// Takes a message from control's inbox: wakes the caller that waits for this answer. Answers
    /// that nobody waits for any more, and messages that are none, are dropped.
    pub fn deliver(&self, message: Message) {
        if let Message::Answer { asker: Asker::Control(ticket), answer } = message
            && let Some(waiting) = self.inner().pending.remove(&ticket)
        {
            // The caller may have given up in this very turn; then the answer is nobody's.
            drop(waiting.send(answer));
        }
    }

    /// Hands the bridge what another node asked for. Without room for it that node hears nothing,
    /// and says so.
    pub fn answer_bridge(&self, ticket: Ticket, body: Box<str>) {
        let answer = Answer::Remote(body);
        let message = Message::Answer { asker: Asker::Bridge(ticket), answer };
        if (self.inner().send)(Recipient::Bridge, message).is_err() {
            tracing::warn!("no room for an answer to another node");
        }
    }

    /// Whether there are other nodes to ask, by the bridge.
    pub(super) fn has_bus(&self) -> bool {
        self.bus
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The shard that orders `channel`.
    pub fn home(&self, channel: &str) -> ShardId {
        (self.home)(channel)
    }

    /// Who orders the publications of `channel`.
    pub(super) fn orderer(&self, channel: &str) -> Recipient {
        if self.bus { Recipient::Bridge } else { Recipient::Shard(self.home(channel)) }
    }

    /// Sends what `make` makes to `recipient`, and waits for the answer.
    ///
    /// # Errors
    /// `Busy` if too much is under way already, internal if no answer came within
    /// [`ANSWER_TIMEOUT`], and whatever error the shard answers.
    pub async fn request(
        self: &Arc<Courier>,
        recipient: Recipient,
        make: impl FnOnce(Ticket) -> Message,
    ) -> Result<Answer, ApiError> {
        self.send(recipient, make)?.answer(ANSWER_TIMEOUT).await
    }

    /// Sends `request` to every shard, and waits for all answers, in the order of shards.
    ///
    /// # Errors
    /// As [`Courier::request`], with `timeout` for all of them together. Some shards may have done
    /// what was asked for.
    pub async fn request_all(
        self: &Arc<Courier>,
        request: &ControlRequest,
        timeout: Duration,
    ) -> Result<Vec<Answer>, ApiError> {
        let deadline = Instant::now() + timeout;
        let mut waiting = Vec::with_capacity(self.shards);
        for index in 0..self.shards {
            let make = |ticket| Message::Control { ticket, request: request.clone() };
            waiting.push(self.send(Recipient::Shard(ShardId::new(index)), make)?);
        }
        let mut answers = Vec::with_capacity(self.shards);
        for one in waiting {
            let left = deadline.saturating_duration_since(Instant::now());
            answers.push(one.answer(left).await?);
        }
        Ok(answers)
    }

    /// Sends what `make` makes to `recipient`, without waiting yet: what is sent in a row arrives
    /// in that order.
    ///
    /// # Errors
    /// `Busy` if too much is under way already.
    pub(super) fn send(
        self: &Arc<Courier>,
        recipient: Recipient,
        make: impl FnOnce(Ticket) -> Message,
    ) -> Result<Waiting, ApiError> {
        let mut inner = self.inner();
        if inner.pending.len() >= API_PENDING_MAX {
            return Err(ApiError::Busy);
        }
        let ticket = Ticket(inner.next);
        inner.next += 1;
        (inner.send)(recipient, make(ticket)).map_err(|Full| ApiError::Busy)?;
        let (sender, receiver) = oneshot::channel();
        inner.pending.insert(ticket, sender);
        drop(inner);
        Ok(Waiting { courier: Arc::clone(self), ticket, receiver })
    }

    /// Requests that wait for an answer.
    #[cfg(test)]
    pub(super) fn pending_count(&self) -> usize {
        self.inner().pending.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is to come. Dropping it forgets the ticket: callers hang up.
pub(super) struct Waiting {
    courier: Arc<Courier>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Answer>,
}

impl Waiting {
    /// The answer.
    ///
    /// # Errors
    /// See [`Courier::request`].
    pub(super) async fn answer(mut self, timeout: Duration) -> Result<Answer, ApiError> {
        match tokio::time::timeout(timeout, &mut self.receiver).await {
            Ok(Ok(Answer::Error(error))) => Err(ApiError::from(error)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(ApiError::internal("a shard did not answer in time")),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.courier.inner().pending.remove(&self.ticket);
    }
}
