//! Subscriptions: begun by the home shard's answer, which stands in the queue exactly where live
//! publications begin, so there is nothing to buffer and nothing to merge.

use super::Shard;
use super::input::Flow;
use super::locals::Subscriber;
use super::server_subscribe::Pending;
use crate::channel::ChannelName;
use crate::connection::{Delivery, PendingRequest, State, Subscription, WaitingSubscribe};
use crate::ids::Slot;
use crate::kernel::{ConnectionKey, Sockets};
use crate::mesh::{Subscribed, ToHome};
use crate::protocol::{self, Push, Reply};
use crate::reason::{ClientError, CloseReason, UnsubscribeReason};

impl<S: Sockets> Shard<S> {
    /// Whether a client without a key may subscribe to `channel`.
    ///
    /// # Errors
    /// The error to answer with.
    pub(super) fn check_subscribe(&self, channel: &str) -> Result<(), ClientError> {
        let namespace = self.options.namespaces().resolve(channel)?;
        // `$` marks channels that need a key, `#` channels of certain users.
        let open = namespace.allow_subscribe_for_client
            && namespace.allow_subscribe_for_anonymous
            && !channel.starts_with('$')
            && !channel.contains('#');
        if self.options.auth().insecure || open {
            Ok(())
        } else {
            Err(ClientError::PermissionDenied)
        }
    }

    pub(super) fn on_subscribe(
        &mut self,
        key: ConnectionKey,
        id: u32,
        request: &protocol::Subscribe<'_>,
    ) -> Flow {
        let channel = request.channel.as_ref();
        let id_of_connection = self.connection_id(key);
        let Some(connection) = self.slots.get(key) else { return Flow::Stop };
        let count = connection.subscriptions_count();
        let pending = self.server_subscribe.find(id_of_connection, channel);
        let error = if matches!(pending, Some(Pending::Cancelled(_))) {
            Some(ClientError::Internal) // The next answer is not for this request.
        } else if pending.is_some() || self.is_subscribed(key, channel) {
            Some(ClientError::AlreadySubscribed)
        } else if count >= self.options.client().channels_max {
            Some(ClientError::LimitExceeded)
        } else {
            self.check_subscribe(channel).err().or(request.refused)
        };
        if let Some(error) = error {
            return self.fail(key, id, error);
        }
        let Ok(namespace) = self.options.namespaces().resolve(channel) else { return Flow::Stop };
        let has_history = namespace.has_history();
        let allowed = |asked, allow, force| has_history && (force || asked && allow);
        let insecure = self.options.auth().insecure;
        let recoverable = allowed(
            request.recoverable || request.recover.is_some(),
            namespace.allow_recovery || insecure,
            namespace.force_recovery,
        );
        let positioned = recoverable
            || allowed(
                request.positioned,
                namespace.allow_positioning || insecure,
                namespace.force_positioning,
            );
        let recover = request.recover.filter(|_| recoverable);
        let waiting = WaitingSubscribe {
            request: id,
            channel: ChannelName::new(channel),
            positioned,
            recoverable,
            recovering: request.recover.is_some(),
            reject_unrecovered: request.reject_unrecovered && recover.is_some(),
        };
        self.subscribe(key, waiting, recover)
    }

    fn subscribe(
        &mut self,
        key: ConnectionKey,
        waiting: WaitingSubscribe,
        recover: Option<crate::ids::Since>,
    ) -> Flow {
        let channel = waiting.channel.clone();
        if self.options.namespaces().resolve(channel.as_str()).is_err() {
            return self.fail(key, waiting.request, ClientError::UnknownChannel);
        }
        if let Err(error) = self.check_creating(key, channel.as_str()) {
            return self.fail(key, waiting.request, error);
        }
        self.request_subscription(key, &channel, (recover, 0));
        self.wait(key, PendingRequest::Subscribe(waiting))
    }

    /// The home shard's answer: the subscription begins here and now.
    pub(super) fn on_subscribed(&mut self, answer: Subscribed) {
        let key = Self::key_of(answer.connection);
        let Some(place) = self.locals.find(answer.channel.as_str()) else { return };
        self.seal_channel(place);
        self.check_continuity(place, answer.top);
        let Some(local) = self.locals.at(place) else { return };
        local.waiting -= 1;
        // The home's own: the node keeps the name once.
        local.name = answer.channel.clone();
        if let Some(pending) = self.server_subscribe.take(answer.connection, &answer.channel) {
            return self.on_pending_answer(key, place, (pending, Ok(answer)));
        }
        let waiting = self.take_waiting_subscribe(key, &answer.channel);
        match waiting {
            None => self.leave_if_unused(place),
            Some(waiting) => self.begin_subscription(key, place, (waiting, answer)),
        }
    }

    /// The home shard can't grant a subscription at present.
    pub(super) fn on_refused(
        &mut self,
        channel: &ChannelName,
        key: ConnectionKey,
        error: ClientError,
    ) {
        let Some(place) = self.locals.find(channel.as_str()) else { return };
        let Some(local) = self.locals.at(place) else { return };
        local.waiting -= 1;
        if let Some(pending) = self.server_subscribe.take(self.connection_id(key), channel) {
            return self.on_pending_answer(key, place, (pending, Err(error)));
        }
        let waiting = self.take_waiting_subscribe(key, channel);
        self.leave_if_unused(place);
        let Some(waiting) = waiting else { return };
        if self.slots.get(key).is_some_and(|connection| connection.state == State::Upgrading) {
            return self.refuse_plain(key, error, channel.as_str());
        }
        if self.fail(key, waiting.request, error) != Flow::Stop {
            self.resume(key);
        }
    }

    /// The wish that the answer is for, unless the connection has ended meanwhile.
    fn take_waiting_subscribe(
        &mut self,
        key: ConnectionKey,
        channel: &ChannelName,
    ) -> Option<WaitingSubscribe> {
        let connection = self.slots.get(key)?;
        if connection.state == State::Upgrading {
            return self.take_plain_wish(key, channel);
        }
        if connection.state != State::Connected {
            return None;
        }
        match *connection.busy.as_mut()?.waiting.take()? {
            PendingRequest::Subscribe(waiting) => Some(waiting),
            PendingRequest::Answer | PendingRequest::Room | PendingRequest::Publications => None,
        }
    }

    fn begin_subscription(
        &mut self,
        key: ConnectionKey,
        place: u32,
        (waiting, mut answer): (WaitingSubscribe, Subscribed),
    ) {
        let upgrading = self.slots.get(key).is_some_and(|one| one.state == State::Upgrading);
        if upgrading {
            self.send_response(key);
            self.limit_replay(key, &mut answer);
        }
        let recovered = answer.recovered.is_some();
        if waiting.recovering {
            let counters = &self.counters;
            let counter =
                if recovered { &counters.recoveries_ok } else { &counters.recoveries_failed };
            counter.add(1);
        }
        if waiting.reject_unrecovered && !recovered {
            self.leave_if_unused(place);
            self.fail(key, waiting.request, ClientError::UnrecoverablePosition);
            return self.resume(key);
        }
        let Some(local) = self.locals.at(place) else { return };
        let publications = answer.recovered.unwrap_or_default();
        let mut position = answer.top;
        position.offset -= publications.len() as u64;
        let reply = Reply::Subscribed(protocol::Subscribed {
            channel: local.view(),
            recoverable: waiting.recoverable,
            positioned: waiting.positioned,
            was_recovering: waiting.recovering,
            recovered,
            publications: &publications,
            position,
        });
        let Some(connection) = self.slots.get(key) else { return };
        if let Some(busy) = connection.busy.as_mut() {
            busy.unserved = busy.unserved.and(Some(self.now));
        }
        let mut frames = std::mem::take(&mut self.reply_buffer);
        let encoded = connection.wire.encode_reply(waiting.request, &reply, &mut frames);
        self.add_subscription(key, place, (waiting.positioned, false));
        if let Err(reason) = encoded {
            return self.close(key, reason);
        }
        if !publications.is_empty() {
            self.count_replay(key, frames.len());
        }
        self.send_own(key, &frames);
        self.keep_reply_buffer(frames);
        if !upgrading || self.end_upgrade(key) {
            self.resume(key);
        }
    }

    /// Makes a connection one of a channel's subscribers.
    pub(super) fn add_subscription(
        &mut self,
        key: ConnectionKey,
        place: u32,
        (positioned, server_side): (bool, bool),
    ) {
        let Some(local) = self.locals.at(place) else { return };
        let Some(connection) = self.slots.get(key) else { return };
        let subscription = Subscription {
            channel: place,
            place: local.subscribers.as_slice().len() as u32,
            cursor: local.head(),
            positioned,
            delivery: Delivery::Live,
            server_side,
        };
        let index = connection.add_subscription(subscription);
        local.subscribers.push(Subscriber::new(key.slot, index));
        self.counters.subscriptions.add(1);
        self.report_subscribe(key, place);
    }

    pub(super) fn is_subscribed(&mut self, key: ConnectionKey, channel: &str) -> bool {
        let Some(place) = self.locals.find(channel) else { return false };
        let connection = self.slots.get(key);
        connection.is_some_and(|connection| connection.find_subscription(place).is_some())
    }

    /// Ends a client's subscription, if it has one; nothing is said to the client.
    pub(super) fn unsubscribe(&mut self, key: ConnectionKey, channel: &str) -> bool {
        let Some(place) = self.locals.find(channel) else { return false };
        let index = self.slots.get(key).and_then(|connection| connection.find_subscription(place));
        match index {
            Some(index) => {
                self.report_unsubscribe(key.slot, index, (0, "client"));
                self.remove_subscription(key.slot, index);
                true
            }
            None => false,
        }
    }

    /// Ends all of a client's subscriptions, and the one that it waits for.
    pub(super) fn unsubscribe_all(&mut self, slot: Slot) {
        while let Some(connection) = self.slots.at(slot) {
            let count = connection.subscriptions_count();
            if count == 0 {
                break;
            }
            self.report_unsubscribe(slot, count - 1, (0, "disconnect"));
            self.remove_subscription(slot, count - 1);
        }
    }

    pub(super) fn remove_subscription(&mut self, slot: Slot, index: usize) {
        let Some(connection) = self.slots.at(slot) else { return };
        let Some(&mut removed) = connection.subscription(index) else { return };
        let moved = connection.remove_subscription(index);
        if let Some(moved) = moved
            && let Some(local) = self.locals.at(moved.channel)
        {
            local.subscribers.set(moved.place as usize, Subscriber::new(slot, index));
        }
        self.counters.subscriptions.subtract(1);
        let Some(local) = self.locals.at(removed.channel) else { return };
        let place = removed.place as usize;
        let listed = local.subscribers.as_slice()[place];
        assert_eq!(listed.slot(), slot, "lists and subscriptions agree");
        local.subscribers.swap_remove(place);
        if let Some(&last) = local.subscribers.as_slice().get(place)
            && let Some(connection) = self.slots.at(last.slot())
            && let Some(subscription) = connection.subscription(last.index())
        {
            subscription.place = removed.place;
        }
        self.leave_if_unused(removed.channel);
    }

    /// Tells the home shard when nobody here wants a channel any more.
    pub(super) fn leave_if_unused(&mut self, place: u32) {
        let Some(local) = self.locals.at(place).filter(|local| local.is_unused()) else { return };
        let (home, channel) = (local.home, local.name.clone());
        // `unsealed` and `holding` may go on naming the place, even when another channel has it:
        // sealing what is not open and forgetting twice do nothing.
        let brought_by = self.locals.remove(place);
        self.subnets.remove_channel(brought_by);
        self.counters.channels_local.set(self.locals.count() as u64);
        if !crate::sabotage!(LeakedInterest) {
            self.post.to_shard(home, ToHome::Leave { shard: self.id, channel });
        }
    }

    /// Ends a subscription and tells the client why.
    pub(super) fn end_subscription(&mut self, slot: Slot, index: usize, reason: UnsubscribeReason) {
        let Some(key) = self.slots.key(slot) else { return };
        let Some(connection) = self.slots.at(slot) else { return };
        let wire = connection.wire;
        let Some(&mut Subscription { channel: place, server_side, .. }) =
            connection.subscription(index)
        else {
            return;
        };
        if server_side && reason == UnsubscribeReason::InsufficientState {
            // The client would not subscribe again by itself.
            return self.close(key, CloseReason::InsufficientState);
        }
        let Some(local) = self.locals.at(place) else { return };
        let push = Push::Unsubscribed { channel: local.name.as_str(), reason };
        let mut frames = Vec::new();
        match wire.encode_push(&push, &mut frames) {
            Ok(()) => {
                self.report_unsubscribe(slot, index, reason.code_and_text());
                self.remove_subscription(slot, index);
                self.send_event(key, &frames);
            }
            Err(reason) => self.close(key, reason),
        }
    }
}
