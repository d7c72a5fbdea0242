//! The home of channels. It assigns offsets to publications, keeps histories, and knows the shards
//! with subscribers.
//!
//! `Home` has no sockets and no connections. It receives `ToHome` messages, and sends all
//! resulting messages with `Post`. With a bus, the bus assigns offsets and the home follows it:
//! see `awaiting`.

mod answers;
mod awaiting;
mod channels;
mod replica;
mod replays;
mod request;
mod unverified;

use std::sync::Arc;

use crate::channel::{ChannelName, Namespace};
use crate::ids::{ConnectionId, Moment, Position, ShardId, Since};
use crate::limits::{FORGOTTEN_PER_TURN, LOCATES_PER_TICK, WALK_STEPS_MAX};
use crate::mesh::{
    Answer, Asker, Found, History, Post, Publish, Reader, Subscribe, Subscribed, ToHome, ToShard,
};
use crate::metrics::ShardCounters;
use crate::pool::Pool;
use crate::protocol::HistoryPage;
use crate::reason::ClientError;
use crate::settings::Settings;
use answers::Answers;
use awaiting::{Arrived, Awaiting, Question};
use channels::{Channels, Granted, PageBounds, Resolved};
use replays::Replays;
use replica::{Read, replicate, tell_replicated};
use request::{Request, shard_of};
use unverified::Unverified;

/// The parts of a home.
pub struct Parts {
    /// The settings of the node.
    pub settings: Arc<Settings>,
    /// Maximum number of bytes of history.
    pub history_bytes_max: usize,
    /// The limit of the node for channels with subscribers.
    pub channels: Pool,
    /// The limit of the node for kept answers to publications with idempotency keys, in bytes.
    pub idempotency: Pool,
    /// The counters of the shard.
    pub counters: Arc<ShardCounters>,
    /// A number that differs between homes and processes, for epochs.
    pub seed: u64,
}

/// The home of all channels of one shard.
pub struct Home {
    settings: Arc<Settings>,
    counters: Arc<ShardCounters>,
    now: Moment,
    channels: Channels,
    answers: Answers,
    awaiting: Awaiting,
    unverified: Unverified,
    replays: Replays,
    /// Whether expired publications, positions or answers may still be stored.
    forgetting: bool,
}

impl Home {
    /// Creates a home without channels.
    pub fn new(parts: Parts) -> Home {
        Home {
            counters: parts.counters,
            now: Moment::default(),
            channels: Channels::new(parts.history_bytes_max, parts.seed, parts.channels),
            answers: Answers::new(parts.idempotency),
            awaiting: Awaiting::new(&parts.settings.redis),
            unverified: Unverified::default(),
            replays: Replays::default(),
            forgetting: false,
            settings: parts.settings,
        }
    }

    /// Begins a turn at `now`. Requests for histories that the last turn postponed come first.
    pub fn begin_turn(&mut self, now: Moment, post: &mut Post) {
        self.now = now;
        self.replays.begin_turn();
        let (waiting, mut resting) = (self.replays.count_waiting(), 0);
        for _ in 0..waiting.min(WALK_STEPS_MAX) {
            if self.replays.is_spent() {
                break;
            }
            let Some(request) = self.replays.next() else {
                unreachable!("each step takes one of the requests that waited before")
            };
            if request.shard().is_some_and(|shard| post.is_crowded(shard)) {
                resting += 1;
                self.put_off(request, post);
            } else {
                self.on_request(request, post);
            }
        }
        self.replays.on_tried(waiting, resting);
    }

    /// Number of requests for histories that wait for a later turn.
    pub fn histories_waiting(&self) -> usize {
        self.replays.count_waiting()
    }

    /// Continues the walks over all channels, and removes some expired entries.
    pub fn turn_walks(&mut self) {
        self.unverified.hear_some(&mut self.channels);
        if self.forgetting {
            let channels = self.channels.forget_some(self.now, FORGOTTEN_PER_TURN);
            let answers = self.answers.forget_some(self.now, FORGOTTEN_PER_TURN);
            self.forgetting = channels || answers;
        }
    }

    /// Does the periodic work.
    pub fn on_tick(&mut self, post: &mut Post) {
        self.forgetting = true;
        while let Some((channel, over)) = self.awaiting.take_expired(self.now) {
            self.hear(&channel);
            self.give_up(&channel, over, post);
        }
        self.locate_unverified(post);
    }

    /// Whether there is more work to do immediately.
    pub fn has_more(&self) -> bool {
        self.forgetting || self.replays.has_waiting() || self.channels.has_losses()
    }

    /// Updates the gauges.
    pub fn count(&self) {
        let counters = &self.counters;
        counters.history_bytes.set(self.channels.bytes() as u64);
        counters.channels_home.set(self.channels.count() as u64);
        counters.idempotency_bytes.set(self.answers.bytes() as u64);
        counters.channels_in_use.set(self.channels.in_use() as u64);
        for (cell, count) in counters.evictions.iter().zip(self.channels.evictions()) {
            cell.set(*count);
        }
    }

    /// Recounts all sums of channels. Returns the number of wrong sums. For tests.
    pub fn audit(&self) -> usize {
        self.channels.audit()
    }

    /// Whether `shard` is counted as interested in a channel. Only for audits.
    pub fn is_interested(&self, name: &str, shard: ShardId) -> bool {
        self.channels.is_interested(name, shard)
    }

    /// Handles one message.
    pub fn on_message(&mut self, message: ToHome, post: &mut Post) {
        if self.channels.has_losses()
            && let Some(channel) = message.channel()
        {
            self.hear(channel);
        }
        match message {
            ToHome::Publish(publish) => self.on_publish(*publish, post),
            ToHome::Subscribe(subscribe) => self.on_request(Request::Subscribe(subscribe), post),
            ToHome::Leave { shard, channel } => self.channels.leave(self.now, &channel, shard),
            ToHome::History(history) => self.on_request(Request::History(history), post),
            ToHome::HistoryRemove { channel, ticket } => {
                self.channels.history_remove(self.now, &channel);
                if let Some(ticket) = ticket {
                    post.answer(ticket, Answer::HistoryRemoved);
                }
            }
            ToHome::Read { channel, epoch, publications } => {
                self.on_read(&channel, Read { epoch, publications }, post);
            }
            ToHome::Lost { channel } => self.unverified.on_lost(&mut self.channels, &channel),
            ToHome::Located { channel, position } => self.on_located(&channel, position, post),
            ToHome::Older { channel, before, found } => {
                self.on_older(&channel, before, found, post);
            }
            ToHome::Loaded => self.awaiting.end_loading(post),
            ToHome::Unverified { stream, streams } => {
                self.unverified.on_loss(&mut self.channels, stream, streams);
            }
            ToHome::Late { stream, streams, late } => self.awaiting.set_late(stream, streams, late),
        }
    }

    fn on_request(&mut self, request: Request, post: &mut Post) {
        // The request may have waited while publications were lost.
        self.hear(request.channel());
        match request {
            Request::Subscribe(subscribe) => self.on_subscribe(subscribe, post),
            Request::History(history) => self.on_history(history, post),
        }
    }

    fn on_publish(&mut self, publish: Publish, post: &mut Post) {
        let Publish { channel, publication, history, idempotency_key, asker } = publish;
        let namespace = match self.namespace(channel.as_str()) {
            Ok(namespace) => namespace,
            Err(error) => return post.published(asker, Err(error)),
        };
        // The key is checked before the publication gets an offset, so that a repeat changes
        // nothing.
        let key = idempotency_key.map(|key| self.answers.fingerprint(channel.as_str(), &key));
        if let Some(key) = key {
            match self.answers.repeated(key) {
                Ok(None) => {}
                Ok(Some(position)) => return post.published(asker, Ok(position)),
                Err(error) => return post.published(asker, Err(error)),
            }
        }
        if matches!(asker, Asker::Control(_)) {
            self.counters.publications_api.add(1);
        }
        // The check comes first, because publishing creates the channel.
        if let Asker::Connection { connection, .. } = asker
            && namespace.has_history()
            && !self.channels.contains(channel.as_str())
        {
            tell_created(connection, post);
        }
        let ordered = self.channels.publish(
            self.now,
            Resolved { name: &channel, namespace: &namespace },
            publication,
            history,
        );
        for &shard in ordered.interested {
            post.publication(shard, &channel, &ordered.publication);
        }
        let position = ordered.position;
        if let Some(key) = key {
            self.answers.remember(self.now, key, position);
        }
        post.published(asker, Ok(position));
    }

    fn on_subscribe(&mut self, subscribe: Box<Subscribe>, post: &mut Post) {
        let channel = &subscribe.channel;
        if self.is_new(channel) {
            tell_created(subscribe.connection, post);
        }
        // The client may have received publications from another node that this node has not read.
        let behind = subscribe.recover.is_some_and(|since| {
            !subscribe.confirmed && self.may_be_behind(channel.as_str(), since)
        });
        let late = !subscribe.confirmed && self.awaiting.is_late(channel.as_str());
        if behind || late || self.is_unknown(channel.as_str()) {
            return self.keep_waiting(Question::Position, Request::Subscribe(subscribe), post);
        }
        let older = match subscribe.recover {
            Some(since) => self.channels.lacks_to_recover(self.now, channel.as_str(), since),
            None => {
                let page = HistoryPage::newest(subscribe.last);
                self.channels.lacks_of_page(self.now, channel.as_str(), page)
            }
        };
        if let Some(before) = older {
            let question = Question::Older(before);
            return self.keep_waiting(question, Request::Subscribe(subscribe), post);
        }
        // Without kept publications, there is nothing to return.
        let replays = (subscribe.recover.is_some() || subscribe.last > 0)
            && self.channels.keeps(channel.as_str());
        if replays && (self.replays.is_spent() || post.is_crowded(subscribe.connection.shard)) {
            return self.put_off(Request::Subscribe(subscribe), post);
        }
        let Subscribe { channel, connection, recover, last, .. } = *subscribe;
        let namespace = self.known_namespace(channel.as_str());
        let granted = self.channels.subscribe(
            self.now,
            Resolved { name: &channel, namespace: &namespace },
            connection.shard,
            recover,
        );
        let answer = match granted {
            Ok(Granted { name: channel, top, recovered }) => {
                let recovered = match last {
                    0 => recovered,
                    last => Some(self.channels.newest(self.now, &channel, last)),
                };
                self.replays.count(recovered.as_deref().unwrap_or_default());
                ToShard::Subscribed(Box::new(Subscribed { channel, connection, top, recovered }))
            }
            Err(error) => {
                self.counters.channels_refused.add(1);
                ToShard::Refused { channel, connection, error }
            }
        };
        post.to_shard(connection.shard, answer);
    }

    /// Whether a channel is unused, as far as this shard knows.
    fn is_new(&self, channel: &ChannelName) -> bool {
        let awaited = self.awaiting.is_judging() || self.awaiting.is_asked(channel);
        !awaited && !self.channels.contains(channel.as_str())
    }

    fn on_history(&mut self, history: Box<History>, post: &mut Post) {
        let channel = &history.channel;
        if let Reader::Connection { connection, .. } = history.reader
            && self.is_new(channel)
        {
            tell_created(connection, post);
        }
        // A page must include all publications that were acknowledged before the request, so the
        // bus is asked how far this node must have read.
        if self.has_bus() && !history.confirmed || self.is_unknown(channel.as_str()) {
            return self.keep_waiting(Question::Position, Request::History(history), post);
        }
        let older = self.channels.lacks_of_page(self.now, channel.as_str(), history.page);
        if let Some(before) = older {
            return self.keep_waiting(Question::Older(before), Request::History(history), post);
        }
        let client_shard = shard_of(history.reader);
        if let Some(shard) = client_shard
            && self.channels.keeps(channel.as_str())
            && (self.replays.is_spent() || post.is_crowded(shard))
        {
            return self.put_off(Request::History(history), post);
        }
        let History { channel, page, publications_max, bytes_max, reader, .. } = *history;
        let bounds = PageBounds { publications_max, bytes_max };
        let namespace = self.namespace(channel.as_str());
        let page = namespace.and_then(|_| self.channels.history(self.now, &channel, page, bounds));
        self.retire(&channel);
        if let (Ok(page), Some(_)) = (&page, client_shard) {
            self.replays.count(&page.publications);
        }
        post.page(reader, page);
    }

    /// Postpones a request to the next turn. It is refused if too many wait. Requests of clients
    /// that have left are among the waiting ones.
    fn put_off(&mut self, request: Request, post: &mut Post) {
        if let Some(request) = self.replays.put_off(request) {
            request.refuse(ClientError::TooManyRequests, post);
        }
    }

    /// Keeps a request until the bus has answered a question about its channel, unless its client
    /// has already waited long enough.
    fn keep_waiting(&mut self, question: Question, request: Request, post: &mut Post) {
        if let Some(over) = self.awaiting.keep(self.now, question, request, post) {
            let channel = over.request.channel().clone();
            self.give_up(&channel, vec![over], post);
        }
    }

    fn on_read(&mut self, channel: &ChannelName, read: Read, post: &mut Post) {
        let namespace = self.known_namespace(channel.as_str());
        let epoch = read.epoch;
        let last = read.publications.iter().rev().find(|publication| publication.offset > 0);
        let last = last.map(|publication| Position { epoch, offset: publication.offset });
        let resolved = Resolved { name: channel, namespace: &namespace };
        replicate(&mut self.channels, self.now, resolved, read, post);
        // If nothing is kept, the answer may be older than the publications read in the meantime.
        if let Some(last) = last.filter(|_| self.awaiting.is_asked(channel)) {
            self.channels.expect(resolved, last);
        }
    }

    /// Handles the answer about the position of a channel. Without a position, existing
    /// subscriptions stay, and the question is asked again.
    fn on_located(&mut self, channel: &ChannelName, position: Option<Position>, post: &mut Post) {
        if let Some(position) = position {
            let namespace = self.known_namespace(channel.as_str());
            let resolved = Resolved { name: channel, namespace: &namespace };
            tell_replicated(channel, &self.channels.locate(resolved, position), post);
            return self.serve_waiting(channel, post);
        }
        if let Some(requests) = self.awaiting.take_unanswered(channel) {
            self.give_up(channel, requests, post);
        }
        let known = self.channels.is_known(channel.as_str());
        if !known && self.channels.has_listeners(channel.as_str()) {
            self.unverified.add(channel.clone());
        }
    }

    /// Handles the answer of Redis about publications of a channel before an offset, or its
    /// failure.
    fn on_older(
        &mut self,
        channel: &ChannelName,
        before: u64,
        found: Option<Found>,
        post: &mut Post,
    ) {
        match found {
            Some(found) => self.channels.prepend(self.now, channel, before, found),
            None => self.channels.ask_later(self.now, channel),
        }
        self.serve_waiting(channel, post);
    }

    /// Rechecks waiting requests after the answer to the question about their channel.
    fn serve_waiting(&mut self, channel: &ChannelName, post: &mut Post) {
        for arrived in self.awaiting.take_answered(channel).into_iter().flatten() {
            self.judge(arrived, post);
        }
        self.end_judging(channel);
    }

    /// Serves requests from memory if possible. The others fail, and clients may retry.
    fn give_up(&mut self, channel: &ChannelName, requests: Vec<Arrived>, post: &mut Post) {
        let known = !self.awaiting.is_loading() && self.channels.is_known(channel.as_str());
        // The requests must not cause another question, for which they would wait again.
        self.channels.ask_later(self.now, channel);
        for mut arrived in requests {
            let behind = |since| self.may_be_behind(channel.as_str(), since);
            let beyond = match &arrived.request {
                Request::Subscribe(subscribe) => subscribe.recover.is_some_and(behind),
                // Publications acknowledged before the request may be missing here.
                Request::History(history) => !history.confirmed,
            };
            if known && !beyond {
                arrived.request.confirm();
                self.judge(arrived, post);
            } else {
                arrived.request.refuse(ClientError::BusAway, post);
            }
        }
        self.end_judging(channel);
    }

    fn judge(&mut self, arrived: Arrived, post: &mut Post) {
        self.awaiting.judge(arrived.came);
        self.on_request(arrived.request, post);
    }

    /// Ends a recheck of waiting requests. The channel may be unused now, because clients have left
    /// or asked only for its position.
    fn end_judging(&mut self, channel: &ChannelName) {
        self.awaiting.end_judging();
        self.retire(channel);
    }

    /// Removes a channel if it is unused. It stays while waiting requests are rechecked, because
    /// the next one would have to ask again.
    fn retire(&mut self, channel: &ChannelName) {
        if !self.awaiting.is_judging() {
            self.channels.retire_named(self.now, channel);
        }
    }

    /// Applies losses to a channel before it is used.
    fn hear(&mut self, channel: &ChannelName) {
        self.unverified.hear(&mut self.channels, channel);
    }

    /// Requests the positions of channels that may have missed publications. The number per tick is
    /// bounded, because clients of affected channels reconnect.
    fn locate_unverified(&mut self, post: &mut Post) {
        for _ in 0..LOCATES_PER_TICK {
            let Some(channel) = self.unverified.next() else { return };
            let wanted = self.channels.has_listeners(channel.as_str());
            // A publication read in the meantime may have verified the position.
            if wanted && !self.channels.is_known(channel.as_str()) {
                self.awaiting.ask(self.now, channel, Question::Position, post);
            }
        }
    }

    /// Whether the position of `channel` must be requested before it is told to any client.
    fn is_unknown(&self, channel: &str) -> bool {
        self.has_bus() && (self.awaiting.is_loading() || !self.channels.is_known(channel))
    }

    /// Whether a client has received newer publications on another node than this node has read.
    fn may_be_behind(&self, channel: &str, since: Since) -> bool {
        self.has_bus() && self.channels.is_before(channel, since)
    }

    /// Whether a bus orders publications.
    fn has_bus(&self) -> bool {
        self.settings.redis.is_on()
    }

    fn namespace(&self, channel: &str) -> Result<Arc<Namespace>, ClientError> {
        self.settings.channel.namespaces.resolve(channel).map(Arc::clone)
    }

    /// The namespace of a channel whose name another thread of this node has resolved.
    fn known_namespace(&self, channel: &str) -> Arc<Namespace> {
        let Ok(namespace) = self.namespace(channel) else {
            unreachable!("the sender of a message has resolved the name of its channel")
        };
        namespace
    }
}

/// Tells the shard of a client that its request created a channel.
fn tell_created(connection: ConnectionId, post: &mut Post) {
    post.to_shard(connection.shard, ToShard::Created { connection });
}
