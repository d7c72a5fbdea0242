//! Subscriptions: begun by the home shard's answer, which stands in the queue exactly where live
//! publications begin, so there is nothing to buffer and nothing to merge.

use super::Sessions;
use super::closing::Farewell;
use super::input::Flow;
use super::server_subscribe::{Pending, Start};
use crate::auth::{Permissions, Role, Wish};
use crate::channel::ChannelName;
use crate::connection::{
    Charge, Maker, PendingRequest, Recovery, State, Subscription, Terms, WaitingSubscribe,
};
use crate::ids::Slot;
use crate::kernel::{ConnectionKey, Sockets};
use crate::mesh::{Subscribed, ToHome};
use crate::protocol::{self, Push, Reply};
use crate::reason::{ClientError, CloseReason, UnsubscribeReason};
use crate::shard::delivery::Pace;

impl<S: Sockets> Sessions<S> {
    /// Whether a client with `permissions` may subscribe to `channel`.
    ///
    /// # Errors
    /// The error to answer with.
    pub(super) fn check_subscribe(
        &self,
        permissions: Permissions,
        channel: &str,
    ) -> Result<(), ClientError> {
        let namespace = self.options.namespaces().resolve(channel)?;
        permissions.check_subscribe(channel, namespace)
    }

    /// How a client stands to `channel`.
    pub(super) fn role(&mut self, key: ConnectionKey, channel: &str) -> Role {
        if self.is_subscribed(key, channel) { Role::Subscriber } else { Role::Client }
    }

    pub(super) fn on_subscribe(
        &mut self,
        key: ConnectionKey,
        id: u32,
        request: &protocol::Subscribe<'_>,
    ) -> Flow {
        let channel = request.channel.as_ref();
        let id_of_connection = self.connection_id(key);
        let connection = self.slots.connection(key);
        let (count, permissions) = (connection.subscriptions_count(), connection.permissions);
        let pending = self.server_subscribe.find(id_of_connection, channel);
        let error = if matches!(pending, Some(Pending::Cancelled(_))) {
            Some(ClientError::Internal) // The next answer is not for this request.
        } else if pending.is_some() || self.is_subscribed(key, channel) {
            Some(ClientError::AlreadySubscribed)
        } else if count >= self.options.client().channels_max {
            Some(ClientError::LimitExceeded)
        } else {
            self.check_subscribe(permissions, channel).err().or(request.refused)
        };
        if let Some(error) = error {
            return self.fail(key, id, error);
        }
        let Ok(namespace) = self.options.namespaces().resolve(channel) else {
            unreachable!("the name was resolved when it was checked")
        };
        let grant = permissions.grant(namespace, wish(request));
        let recover = request.recover.filter(|_| grant.recoverable);
        let recovery = match (request.recover, recover) {
            (None, _) => Recovery::Unasked,
            (Some(_), Some(_)) if request.reject_unrecovered => Recovery::Required,
            (Some(_), _) => Recovery::Asked,
        };
        let channel = ChannelName::new(channel);
        let waiting =
            WaitingSubscribe { request: id, channel, grant, recovery, charge: Charge::Free };
        self.subscribe(key, waiting, recover)
    }

    fn subscribe(
        &mut self,
        key: ConnectionKey,
        mut waiting: WaitingSubscribe,
        recover: Option<crate::ids::Since>,
    ) -> Flow {
        let channel = waiting.channel.clone();
        if self.options.namespaces().resolve(channel.as_str()).is_err() {
            return self.fail(key, waiting.request, ClientError::UnknownChannel);
        }
        if let Err(error) = self.check_creating(key, channel.as_str(), 0) {
            return self.fail(key, waiting.request, error);
        }
        waiting.charge = self.ask_creating(key, channel.as_str());
        let start = recover.map_or(Start::Live, Start::After);
        self.request_subscription(key, &channel, start);
        self.wait(key, PendingRequest::Subscribe(waiting))
    }

    /// The home shard's answer: the subscription begins here and now.
    pub(super) fn on_subscribed(&mut self, answer: Subscribed) {
        let key = Self::key_of(answer.connection);
        let place = self.awaited(&answer.channel);
        self.delivery.seal_channel(place);
        self.delivery.stand_at(place, answer.top);
        let local = self.delivery.local(place);
        local.answered();
        // The home's own: the node keeps the name once.
        local.name = answer.channel.clone();
        if let Some(pending) = self.server_subscribe.take(answer.connection, &answer.channel) {
            return self.on_pending_answer(key, place, pending, Ok(answer));
        }
        let waiting = self.take_waiting_subscribe(key, &answer.channel);
        match waiting {
            None => self.leave_if_unused(place),
            Some(waiting) => self.begin_subscription(key, place, &waiting, answer),
        }
    }

    /// The home shard can't grant a subscription at present.
    pub(super) fn on_refused(
        &mut self,
        channel: &ChannelName,
        key: ConnectionKey,
        error: ClientError,
    ) {
        let place = self.awaited(channel);
        self.delivery.local(place).answered();
        if let Some(pending) = self.server_subscribe.take(self.connection_id(key), channel) {
            return self.on_pending_answer(key, place, pending, Err(error));
        }
        let waiting = self.take_waiting_subscribe(key, channel);
        self.leave_if_unused(place);
        let Some(waiting) = waiting else { return };
        if self.slots.connection(key).state == State::Upgrading {
            return self.refuse_plain(key, error, channel.as_str());
        }
        if self.fail(key, waiting.request, error) != Flow::Stop {
            self.resume(key);
        }
    }

    /// The place of a channel whose home has answered: the request keeps it in the table.
    #[expect(clippy::expect_used, reason = "a home answers each request once")]
    fn awaited(&self, channel: &ChannelName) -> u32 {
        self.delivery.find(channel.as_str()).expect("a channel stays until its home has answered")
    }

    /// The wish that the answer is for, unless the connection has ended meanwhile.
    fn take_waiting_subscribe(
        &mut self,
        key: ConnectionKey,
        channel: &ChannelName,
    ) -> Option<WaitingSubscribe> {
        // The client may have left.
        let connection = self.slots.get(key)?;
        let waiting = match connection.state {
            State::Upgrading => connection.take_wish(channel)?,
            State::Connected => match *connection.busy.as_mut()?.waiting.take()? {
                PendingRequest::Subscribe(waiting) => waiting,
                PendingRequest::Answer(_) | PendingRequest::Room | PendingRequest::Publications => {
                    return None;
                }
            },
            _ => return None,
        };
        if waiting.charge == Charge::Charged {
            self.on_answered_creating(key);
        }
        Some(waiting)
    }

    fn begin_subscription(
        &mut self,
        key: ConnectionKey,
        place: u32,
        waiting: &WaitingSubscribe,
        mut answer: Subscribed,
    ) {
        let upgrading = self.slots.connection(key).state == State::Upgrading;
        if upgrading {
            self.send_response(key);
            self.limit_replay(key, &mut answer);
        }
        let recovered = answer.recovered.is_some();
        if waiting.recovery.is_asked() {
            let counters = &self.counters;
            let counter =
                if recovered { &counters.recoveries_ok } else { &counters.recoveries_failed };
            counter.add(1);
        }
        if waiting.recovery == Recovery::Required && !recovered {
            self.leave_if_unused(place);
            self.fail(key, waiting.request, ClientError::UnrecoverablePosition);
            return self.resume(key);
        }
        let local = self.delivery.local(place);
        let publications = answer.recovered.unwrap_or_default();
        let mut position = answer.top;
        position.offset -= publications.len() as u64;
        let reply = Reply::Subscribed(protocol::Subscribed {
            channel: local.view(),
            recoverable: waiting.grant.recoverable,
            positioned: waiting.grant.positioned,
            was_recovering: waiting.recovery.is_asked(),
            recovered,
            publications: &publications,
            position,
        });
        let connection = self.slots.connection(key);
        if let Some(busy) = connection.busy.as_mut() {
            busy.unserved = busy.unserved.and(Some(self.now));
        }
        let mut frames = std::mem::take(&mut self.input.reply_buffer);
        let encoded = connection.wire.encode_reply(waiting.request, &reply, &mut frames);
        let terms = Terms { positioned: waiting.grant.positioned, made_by: Maker::Client };
        self.add_subscription(key, place, terms);
        if let Err(reason) = encoded {
            return self.close(key, reason);
        }
        if !publications.is_empty() {
            self.slots.connection(key).meter.count_replay(self.tick, frames.len());
        }
        self.send_reply(key, frames);
        if !upgrading || self.end_upgrade(key) {
            self.resume(key);
        }
    }

    /// Makes a connection one of a channel's subscribers.
    pub(super) fn add_subscription(&mut self, key: ConnectionKey, place: u32, terms: Terms) {
        self.delivery.subscribe(&mut self.slots, key, place, terms);
        self.report_subscribe(key, place);
    }

    pub(super) fn is_subscribed(&mut self, key: ConnectionKey, channel: &str) -> bool {
        let Some(place) = self.delivery.find(channel) else { return false };
        let connection = self.slots.get(key);
        connection.is_some_and(|connection| connection.find_subscription(place).is_some())
    }

    /// Ends a client's subscription, if it has one, after all that was published before. Nothing is
    /// said to the client.
    pub(super) fn unsubscribe(&mut self, key: ConnectionKey, channel: &str) -> Pace {
        let Some(place) = self.delivery.find(channel) else { return Pace::KeepsUp };
        let Some(index) = self.slots.connection(key).find_subscription(place) else {
            return Pace::KeepsUp;
        };
        let pace = self.delivery.collect_of_leaving(&mut self.slots, key.slot, index);
        let farewell = Farewell { code: 0, text: "client" };
        self.report_unsubscribe(key.slot, index, farewell);
        self.remove_subscription(key.slot, index);
        pace
    }

    /// Ends all of a client's subscriptions, and the one that it waits for.
    pub(super) fn unsubscribe_all(&mut self, slot: Slot) {
        let count = self.slots.tenant(slot).subscriptions_count();
        for index in (0..count).rev() {
            let farewell = Farewell { code: 0, text: "disconnect" };
            self.report_unsubscribe(slot, index, farewell);
            self.remove_subscription(slot, index);
        }
    }

    /// Ends the subscription with number `index` of a connection; nothing is said to the client.
    pub(super) fn remove_subscription(&mut self, slot: Slot, index: usize) {
        let place = self.delivery.unsubscribe(&mut self.slots, slot, index);
        self.leave_if_unused(place);
    }

    /// Tells the home shard when nobody here wants a channel any more.
    pub(super) fn leave_if_unused(&mut self, place: u32) {
        let Some(unused) = self.delivery.take_if_unused(place) else { return };
        self.subnets.remove_channel(unused.brought_by);
        if !crate::sabotage!(LeakedInterest) {
            let leave = ToHome::Leave { shard: self.id, channel: unused.channel };
            self.post.to_shard(unused.home, leave);
        }
    }

    /// Ends a subscription and tells the client why.
    pub(super) fn end_subscription(&mut self, slot: Slot, index: usize, reason: UnsubscribeReason) {
        let connection = self.slots.tenant(slot);
        let key = ConnectionKey { slot, generation: connection.generation };
        let wire = connection.wire;
        let Subscription { channel: place, made_by, .. } = *connection.subscribed(index);
        if made_by == Maker::Application && reason == UnsubscribeReason::InsufficientState {
            // The client would not subscribe again by itself.
            return self.close(key, CloseReason::InsufficientState);
        }
        let channel = self.delivery.local(place).name.as_str();
        let push = Push::Unsubscribed { channel, reason };
        let mut frames = Vec::new();
        match wire.encode_push(&push, &mut frames) {
            Ok(()) => {
                self.report_unsubscribe(slot, index, Farewell::of_subscription(reason));
                self.remove_subscription(slot, index);
                self.send_event(key, &frames);
            }
            Err(reason) => self.close(key, reason),
        }
    }
}

/// The features that a client's command asks for. One that recovers may be recovered again.
fn wish(request: &protocol::Subscribe<'_>) -> Wish {
    if request.recoverable || request.recover.is_some() {
        Wish::Recoverable
    } else if request.positioned {
        Wish::Positioned
    } else {
        Wish::Plain
    }
}
