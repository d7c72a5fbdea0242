//! The home of channels. It assigns offsets to publications, keeps histories, and knows the shards
//! with subscribers.
//!
//! `Home` has no sockets and no connections. It receives `ToHome` messages, and sends all
//! resulting messages with `Post`. With a bus, the bus assigns offsets and the home follows it:
//! see `awaiting`.

mod answers;
mod awaiting;
mod channels;
mod replays;

use std::sync::Arc;

use crate::channel::{ChannelName, Namespace};
use crate::ids::{ConnectionId, Moment, ShardId};
use crate::limits::{FORGOTTEN_PER_TURN, WALK_STEPS_MAX};
use crate::mesh::{Answer, Asker, History, Post, Publish, Subscribe, Subscribed, ToHome, ToShard};
use crate::metrics::ShardCounters;
use crate::pool::Pool;
use crate::protocol::HistoryPage;
use crate::reason::ClientError;
use crate::settings::Settings;
use answers::Answers;
use awaiting::Awaiting;
use channels::{Channels, Granted, Page, PageBounds, Resolved};
use replays::Replays;

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

/// A request that may have to wait.
enum Request {
    Subscribe(Box<Subscribe>),
    History(Box<History>),
}

impl Request {
    fn channel(&self) -> &ChannelName {
        match self {
            Request::Subscribe(subscribe) => &subscribe.channel,
            Request::History(history) => &history.channel,
        }
    }

    /// The shard of its client.
    fn shard(&self) -> Option<ShardId> {
        match self {
            Request::Subscribe(subscribe) => Some(subscribe.connection.shard),
            Request::History(history) => shard_of(history.asker),
        }
    }

    /// Returns the time since which the client has waited for the bus, including earlier requests.
    fn unserved(&self) -> Option<Moment> {
        match self {
            Request::Subscribe(subscribe) => subscribe.unserved,
            Request::History(history) => history.unserved,
        }
    }
}

/// The home of all channels of one shard.
pub struct Home {
    settings: Arc<Settings>,
    counters: Arc<ShardCounters>,
    now: Moment,
    channels: Channels,
    answers: Answers,
    awaiting: Awaiting,
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
            let Some(request) = self.replays.next() else { break };
            if request.shard().is_some_and(|shard| post.is_crowded(shard)) {
                resting += 1;
                self.put_off(request, post);
            } else {
                self.on_request(request, post);
            }
        }
        self.replays.set_resting(resting > 0 && resting == waiting);
    }

    /// Number of requests for histories that wait for a later turn.
    pub fn histories_waiting(&self) -> usize {
        self.replays.count_waiting()
    }

    /// Goes on with walks over all channels, and forgets some of what has expired.
    pub fn turn_walks(&mut self) {
        self.turn_losses();
        if self.forgetting {
            let channels = self.channels.forget_some(self.now, FORGOTTEN_PER_TURN);
            let answers = self.answers.forget_some(self.now, FORGOTTEN_PER_TURN);
            self.forgetting = channels || answers;
        }
    }

    /// Carries out periodic work.
    pub fn on_tick(&mut self, post: &mut Post) {
        self.forgetting = true;
        self.on_tick_awaiting(post);
    }

    /// Whether there is more work to do at once.
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

    /// Carries out one message.
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
            ToHome::HistoryRemove { channel, asker } => {
                self.channels.history_remove(self.now, &channel);
                post.answer(asker, Answer::HistoryRemoved);
            }
            ToHome::Read { channel, epoch, publications } => {
                self.on_read(&channel, epoch, publications, post);
            }
            ToHome::Lost { channel } => self.on_lost(&channel),
            ToHome::Located { channel, position } => self.on_located(&channel, position, post),
            ToHome::Older { channel, before, found } => {
                self.on_older(&channel, before, found, post);
            }
            ToHome::Loaded => self.on_loaded(post),
            ToHome::Adrift { stream, streams } => self.on_adrift(stream, streams),
            ToHome::Late { stream, streams, late } => self.on_late(stream, streams, late),
        }
    }

    fn on_request(&mut self, request: Request, post: &mut Post) {
        // It may have waited while something was lost.
        self.hear(request.channel());
        match request {
            Request::Subscribe(subscribe) => self.on_subscribe(subscribe, post),
            Request::History(history) => self.on_history(history, post),
        }
    }

    fn on_publish(&mut self, publish: Publish, post: &mut Post) {
        let Publish { channel, publication, skip_history, idempotency_key, asker } = publish;
        let namespace = match self.namespace(channel.as_str()) {
            Ok(namespace) => namespace,
            Err(error) => return post.answer(asker, Answer::Error(error)),
        };
        let key = idempotency_key.map(|key| self.answers.fingerprint(channel.as_str(), &key));
        if let Some(key) = key {
            match self.answers.repeated(key) {
                Ok(None) => {}
                Ok(Some(position)) => return post.answer(asker, Answer::Published(position)),
                Err(error) => return post.answer(asker, Answer::Error(error)),
            }
        }
        if matches!(asker, Asker::Control(_)) {
            self.counters.publications_api.add(1);
        }
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
            skip_history,
        );
        for &shard in ordered.interested {
            post.publication(shard, &channel, &ordered.publication);
        }
        let position = ordered.position;
        if let Some(key) = key {
            self.answers.remember(self.now, key, position);
        }
        post.answer(asker, Answer::Published(position));
    }

    fn on_subscribe(&mut self, subscribe: Box<Subscribe>, post: &mut Post) {
        let channel = &subscribe.channel;
        if self.is_new(channel) {
            tell_created(subscribe.connection, post);
        }
        let behind = subscribe.recover.is_some_and(|since| {
            !subscribe.confirmed && self.may_be_behind(channel.as_str(), since)
        });
        let late = !subscribe.confirmed && self.is_late(channel.as_str());
        if behind || late || self.is_unknown(channel.as_str()) {
            return self.await_position(channel.clone(), Request::Subscribe(subscribe), post);
        }
        let older = match subscribe.recover {
            Some(since) => self.channels.lacks_to_recover(self.now, channel.as_str(), since),
            None => {
                let page = HistoryPage::newest(subscribe.last);
                self.channels.lacks_of_page(self.now, channel.as_str(), page)
            }
        };
        if let Some(before) = older {
            return self.await_older(channel.clone(), before, Request::Subscribe(subscribe), post);
        }
        // Without kept publications, there is nothing to return.
        let replays = (subscribe.recover.is_some() || subscribe.last > 0)
            && self.channels.keeps(channel.as_str());
        if replays && (self.replays.is_spent() || post.is_crowded(subscribe.connection.shard)) {
            return self.put_off(Request::Subscribe(subscribe), post);
        }
        let Subscribe { channel, connection, recover, last, .. } = *subscribe;
        // The asking shard has resolved the name against the same namespaces.
        let Ok(namespace) = self.namespace(channel.as_str()) else { return };
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
        !self.channels.contains(channel.as_str()) && !self.is_awaited(channel)
    }

    fn on_history(&mut self, history: Box<History>, post: &mut Post) {
        let channel = &history.channel;
        if let Asker::Connection { connection, .. } = history.asker
            && self.is_new(channel)
        {
            tell_created(connection, post);
        }
        if self.has_bus() && !history.confirmed || self.is_unknown(channel.as_str()) {
            return self.await_position(channel.clone(), Request::History(history), post);
        }
        let older = self.channels.lacks_of_page(self.now, channel.as_str(), history.page);
        if let Some(before) = older {
            return self.await_older(channel.clone(), before, Request::History(history), post);
        }
        let client_shard = shard_of(history.asker);
        if let Some(shard) = client_shard
            && self.channels.keeps(channel.as_str())
            && (self.replays.is_spent() || post.is_crowded(shard))
        {
            return self.put_off(Request::History(history), post);
        }
        let History { channel, page, publications_max, bytes_max, asker, .. } = *history;
        let bounds = PageBounds { publications_max, bytes_max };
        let answer = self.namespace(channel.as_str());
        let answer = answer.and_then(|_| self.channels.history(self.now, &channel, page, bounds));
        self.retire(&channel);
        let answer = match answer {
            Ok(Page { publications, omitted, top }) => {
                if client_shard.is_some() {
                    self.replays.count(&publications);
                }
                Answer::History { channel, publications, omitted, top }
            }
            Err(error) => Answer::Error(error),
        };
        post.answer(asker, answer);
    }

    /// Postpones a request to the next turn. It is refused if too many wait. Requests of clients
    /// that have left are among the waiting ones.
    fn put_off(&mut self, request: Request, post: &mut Post) {
        if let Some(request) = self.replays.put_off(request) {
            awaiting::refuse(request, ClientError::TooManyRequests, post);
        }
    }

    /// Whether a bus orders publications.
    fn has_bus(&self) -> bool {
        self.settings.redis.is_on()
    }

    fn namespace(&self, channel: &str) -> Result<Arc<Namespace>, ClientError> {
        self.settings.channel.namespaces.resolve(channel).map(Arc::clone)
    }
}

/// The shard of the client that asks, if it is one.
fn shard_of(asker: Asker) -> Option<ShardId> {
    match asker {
        Asker::Connection { connection, .. } => Some(connection.shard),
        Asker::Control(_) | Asker::Bridge(_) | Asker::Nobody => None,
    }
}

/// Tells the shard of a client that its request created a channel.
fn tell_created(connection: ConnectionId, post: &mut Post) {
    post.to_shard(connection.shard, ToShard::Created { connection });
}
