//! Sends requests to shards, and hands each answer to the caller that waits for it.
//!
//! Everything here runs on the control thread. The lock is never contended and never held across an
//! await; it exists because axum requires handlers to be `Send`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::ApiError;
use crate::channel::ChannelName;
use crate::ids::ShardId;
use crate::limits::{ANSWER_TIMEOUT, API_PENDING_MAX};
use crate::mesh::{
    Addressed, Answer, ControlRequest, Publish, ShardMail, Ticket, ToBridge, ToBus, ToHome,
};
use crate::settings::Redis;

/// The queue to a shard is full. The message was not sent, so there will be no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard's inbox and the spill for it are full")]
pub struct Full;

/// Sends a message to its thread, or fails if there is no room. It must not block, and must not
/// call [`Courier::deliver`]: answers arrive through the inbox in a later turn.
pub type SendMessage = Box<dyn FnMut(Addressed) -> Result<(), Full> + Send>;

/// Maps a channel to the shard that keeps its history.
pub type Home = Box<dyn Fn(&str) -> ShardId + Send + Sync>;

/// The requests of the control thread to shards.
pub struct Courier {
    shards: usize,
    /// Whether the bus orders publications. Otherwise home shards do.
    bus: bool,
    home: Home,
    inner: Mutex<Inner>,
}

struct Inner {
    send: SendMessage,
    /// The waiting caller of each ticket; at most [`API_PENDING_MAX`].
    pending: HashMap<Ticket, oneshot::Sender<Answer>>,
    next: u64,
}

impl Courier {
    /// Creates a courier to `shards` shards, and to the bridge if there is one. `send` delivers its
    /// messages.
    pub fn new(shards: usize, redis: &Redis, home: Home, send: SendMessage) -> Arc<Courier> {
        assert!(shards > 0, "a node has at least one shard");
        let inner = Mutex::new(Inner { send, pending: HashMap::new(), next: 0 });
        Arc::new(Courier { shards, bus: redis.is_on(), home, inner })
    }

    /// Wakes the caller that waits for this answer. The answer is dropped if the caller has given
    /// up.
    pub fn deliver(&self, ticket: Ticket, answer: Answer) {
        if let Some(waiting) = self.inner().pending.remove(&ticket) {
            // The caller may have given up in this very turn.
            drop(waiting.send(answer));
        }
    }

    /// Sends the bridge the reply to another node. If there is no room, that node gets no reply,
    /// and reports that.
    pub fn answer_bridge(&self, ticket: Ticket, body: Box<str>) {
        let message = Addressed::Bridge(ToBridge::Remote { ticket, body });
        if (self.inner().send)(message).is_err() {
            tracing::warn!("dropped a reply to another node: the inbox of the bridge is full");
        }
    }

    /// Whether the bridge can reach other nodes.
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

    /// Addresses a publication to the bus or to the home of the channel.
    pub(super) fn publish(&self, publish: Publish) -> Addressed {
        let publish = Box::new(publish);
        if self.bus {
            return Addressed::Bridge(ToBus::Publish(publish).into());
        }
        let home = self.home(publish.channel.as_str());
        Addressed::Shard(home, ToHome::Publish(publish).into())
    }

    /// Addresses the removal of a history to the bus or to the home of the channel.
    pub(super) fn history_remove(&self, channel: ChannelName, ticket: Ticket) -> Addressed {
        if self.bus {
            return Addressed::Bridge(ToBus::HistoryRemove { channel, ticket }.into());
        }
        let home = self.home(channel.as_str());
        let ticket = Some(ticket);
        Addressed::Shard(home, ToHome::HistoryRemove { channel, ticket }.into())
    }

    /// Sends the message that `make` returns, and waits for the answer.
    ///
    /// # Errors
    /// `Busy` if too many requests are in progress; internal if no answer arrives within
    /// [`ANSWER_TIMEOUT`]; otherwise the error from the shard.
    pub async fn request(
        self: &Arc<Courier>,
        make: impl FnOnce(Ticket) -> Addressed,
    ) -> Result<Answer, ApiError> {
        self.send(make)?.answer(ANSWER_TIMEOUT).await
    }

    /// Sends `request` to every shard, and waits for all answers, in the order of shards.
    ///
    /// # Errors
    /// As [`Courier::request`], with `timeout` for all of them together. Some shards may have
    /// carried out the request.
    pub async fn request_all(
        self: &Arc<Courier>,
        request: &ControlRequest,
        timeout: Duration,
    ) -> Result<Vec<Answer>, ApiError> {
        let deadline = Instant::now() + timeout;
        let mut waiting = Vec::with_capacity(self.shards);
        // All requests are sent before the first answer is awaited, so that shards work in
        // parallel.
        for index in 0..self.shards {
            let make = |ticket| {
                let message = ShardMail::Control { ticket, request: request.clone() };
                Addressed::Shard(ShardId::new(index), message)
            };
            waiting.push(self.send(make)?);
        }
        let mut answers = Vec::with_capacity(self.shards);
        for one in waiting {
            let left = deadline.saturating_duration_since(Instant::now());
            answers.push(one.answer(left).await?);
        }
        Ok(answers)
    }

    /// Sends the message that `make` returns, without waiting for the answer. Messages arrive in
    /// the order in which they are sent.
    ///
    /// # Errors
    /// `Busy` if too many requests are in progress.
    pub(super) fn send(
        self: &Arc<Courier>,
        make: impl FnOnce(Ticket) -> Addressed,
    ) -> Result<PendingAnswer, ApiError> {
        let mut inner = self.inner();
        if inner.pending.len() >= API_PENDING_MAX {
            return Err(ApiError::Busy);
        }
        let ticket = Ticket(inner.next);
        inner.next += 1;
        (inner.send)(make(ticket)).map_err(|Full| ApiError::Busy)?;
        let (sender, receiver) = oneshot::channel();
        inner.pending.insert(ticket, sender);
        drop(inner);
        Ok(PendingAnswer { courier: Arc::clone(self), ticket, receiver })
    }

    /// Number of requests that wait for an answer.
    #[cfg(test)]
    pub(super) fn pending_count(&self) -> usize {
        self.inner().pending.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that has not arrived yet. Dropping this value forgets the ticket.
pub(super) struct PendingAnswer {
    courier: Arc<Courier>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Answer>,
}

impl PendingAnswer {
    /// Waits for the answer.
    ///
    /// # Errors
    /// See [`Courier::request`].
    pub(super) async fn answer(mut self, timeout: Duration) -> Result<Answer, ApiError> {
        match tokio::time::timeout(timeout, &mut self.receiver).await {
            Ok(Ok(Answer::Error(error))) => Err(ApiError::from(error)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(ApiError::internal("a shard did not respond in time")),
        }
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        self.courier.inner().pending.remove(&self.ticket);
    }
}
