//! Messages from other threads: requests to channels at home here, and what home shards send.

use std::sync::Arc;

use super::homes::{Granted, Page};
use super::{Shard, Sockets};
use crate::channel::{ChannelName, Namespace, Publication};
use crate::mesh::{Answer, Asker, History, Message, Publish, Subscribe, Subscribed};
use crate::protocol::HistoryPage;
use crate::reason::ClientError;

impl<S: Sockets> Shard<S> {
    /// Carries out one message.
    pub(super) fn on_message(&mut self, message: Message) {
        match message {
            Message::Publish(publish) => self.on_home_publish(*publish),
            Message::Subscribe(subscribe) => self.on_home_subscribe(*subscribe),
            Message::Created { connection } => self.on_created(connection),
            Message::Leave { shard, channel } => self.homes.leave(self.now, &channel, shard),
            Message::History(history) => self.on_home_history(*history),
            Message::HistoryRemove { channel, asker } => {
                self.homes.history_remove(self.now, &channel);
                self.answer(asker, Answer::HistoryRemoved);
            }
            Message::Read { channel, epoch, publications } => {
                self.on_read(&channel, epoch, publications);
            }
            Message::Loaded => self.on_loaded(),
            Message::Lost { channel } => self.on_lost(&channel),
            Message::Late { stream, streams, late } => self.on_late((stream, streams), late),
            Message::Adrift { stream, streams } => self.on_adrift(stream, streams),
            Message::Located { channel, position } => self.on_located(&channel, position),
            Message::Older { channel, before, found } => self.on_older(&channel, before, found),
            Message::Repeated { .. }
            | Message::Locate { .. }
            | Message::ReadOlder { .. }
            | Message::Cluster { .. }
            | Message::Remote { .. }
            | Message::Event(_) => {
                unreachable!("the bridge is asked")
            }
            Message::Subscribed(answer) => self.on_subscribed(*answer),
            Message::Live { channel, publications } => self.on_live(&channel, publications),
            Message::Gap { channel, next, .. } => self.on_gap(&channel, next),
            Message::Moved { channel, top } => self.on_moved(&channel, top),
            Message::Refused { channel, connection, error } => {
                self.on_refused(&channel, Self::token_of(connection), error);
            }
            Message::Answer { asker, answer } => match asker {
                Asker::Connection { connection, request, pipelined: false } => {
                    self.on_answer(Self::token_of(connection), request, answer);
                }
                Asker::Connection { connection, request, pipelined: true } => {
                    self.on_published(Self::token_of(connection), request, &answer);
                }
                Asker::Control(_) | Asker::Bridge(_) | Asker::Nobody => {
                    unreachable!("a shard gets the answers for its connections")
                }
            },
            Message::Control { ticket, request } => self.on_control(ticket, request),
        }
    }

    fn on_home_publish(&mut self, publish: Publish) {
        let Publish { channel, publication, skip_history, idempotency_key, asker } = publish;
        let namespace = match self.home_namespace(channel.as_str()) {
            Ok(namespace) => namespace,
            Err(error) => return self.answer(asker, Answer::Error(error)),
        };
        let key = idempotency_key.map(|key| self.answers.fingerprint(channel.as_str(), &key));
        if let Some(key) = key {
            match self.answers.repeated(key) {
                Ok(None) => {}
                Ok(Some(position)) => return self.answer(asker, Answer::Published(position)),
                Err(error) => return self.answer(asker, Answer::Error(error)),
            }
        }
        if matches!(asker, Asker::Control(_)) {
            self.cells.publications_api.add(1);
        }
        if let Asker::Connection { connection, .. } = asker
            && namespace.has_history()
            && !self.homes.contains(channel.as_str())
        {
            self.tell_created(connection);
        }
        let ordered =
            self.homes.publish(self.now, (&channel, &namespace), publication, skip_history);
        let mut to_self = None;
        for &shard in ordered.interested {
            if shard == self.id {
                to_self = Some(Arc::clone(&ordered.publication));
            } else {
                let lane = self.outbound.lane(shard.index());
                lane.push_publication(&channel, &ordered.publication);
            }
        }
        let position = ordered.position;
        if let Some(publication) = to_self {
            self.pass_to_self(&channel, &publication);
        }
        if let Some(key) = key {
            self.answers.remember(self.now, key, position);
        }
        self.answer(asker, Answer::Published(position));
    }

    /// Passes a publication on to this shard's own subscribers.
    pub(super) fn pass_to_self(&mut self, channel: &ChannelName, publication: &Arc<Publication>) {
        match self.loopback.back_mut() {
            Some(Message::Live { channel: last, publications }) if last == channel => {
                publications.push(Arc::clone(publication));
            }
            _ => self.loopback.push_back(Message::Live {
                channel: channel.clone(),
                publications: vec![Arc::clone(publication)],
            }),
        }
    }

    fn on_home_subscribe(&mut self, subscribe: Subscribe) {
        if self.is_new(&subscribe.channel) {
            self.tell_created(subscribe.connection);
        }
        let behind = subscribe.recover.is_some_and(|since| {
            !subscribe.confirmed && self.may_be_behind(subscribe.channel.as_str(), since)
        });
        let late = !subscribe.confirmed && self.is_late(subscribe.channel.as_str());
        if behind || late || self.is_unknown(subscribe.channel.as_str()) {
            let channel = subscribe.channel.clone();
            return self.await_place(channel, Message::Subscribe(Box::new(subscribe)));
        }
        let (channel, last) = (subscribe.channel.as_str(), subscribe.last);
        let older = match subscribe.recover {
            Some(since) => self.homes.lacks_to_recover(self.now, channel, since),
            None => self.homes.lacks_of_page(self.now, channel, HistoryPage::newest(last)),
        };
        if let Some(before) = older {
            let channel = subscribe.channel.clone();
            return self.await_older(channel, before, Message::Subscribe(Box::new(subscribe)));
        }
        // Of a channel that is new there is nothing to hand out.
        let replays = (subscribe.recover.is_some() || subscribe.last > 0)
            && self.homes.contains(subscribe.channel.as_str());
        if replays && self.replays.is_spent() {
            return self.replays.put_off(Message::Subscribe(Box::new(subscribe)));
        }
        let Subscribe { channel, connection, recover, last, .. } = subscribe;
        // The asking shard has resolved the name against the same namespaces.
        let Ok(namespace) = self.home_namespace(channel.as_str()) else { return };
        let granted =
            self.homes.subscribe(self.now, (&channel, &namespace), connection.shard, recover);
        let answer = match granted {
            Ok(Granted { name: channel, top, recovered }) => {
                let recovered = match last {
                    0 => recovered,
                    last => Some(self.homes.newest(self.now, &channel, last)),
                };
                self.replays.count(recovered.as_deref().unwrap_or_default());
                Message::Subscribed(Box::new(Subscribed { channel, connection, top, recovered }))
            }
            Err(error) => {
                self.cells.channels_refused.add(1);
                Message::Refused { channel, connection, error }
            }
        };
        self.send_to_shard(connection.shard, answer);
    }

    /// Whether nobody has used a channel at home here, as far as this shard remembers.
    fn is_new(&self, channel: &ChannelName) -> bool {
        !self.homes.contains(channel.as_str()) && !self.is_awaited(channel)
    }

    fn on_home_history(&mut self, history: History) {
        if let Asker::Connection { connection, .. } = history.asker
            && self.is_new(&history.channel)
        {
            self.tell_created(connection);
        }
        if self.options.bus && !history.confirmed || self.is_unknown(history.channel.as_str()) {
            let channel = history.channel.clone();
            return self.await_place(channel, Message::History(Box::new(history)));
        }
        let older = self.homes.lacks_of_page(self.now, history.channel.as_str(), history.page);
        if let Some(before) = older {
            let channel = history.channel.clone();
            return self.await_older(channel, before, Message::History(Box::new(history)));
        }
        let by_client = matches!(history.asker, Asker::Connection { .. });
        let replays = by_client && self.homes.contains(history.channel.as_str());
        if replays && self.replays.is_spent() {
            return self.replays.put_off(Message::History(Box::new(history)));
        }
        let History { channel, page, publications_max, bytes_max, asker, .. } = history;
        let most = (publications_max, bytes_max);
        let answer = self.home_namespace(channel.as_str());
        let answer = answer.and_then(|_| self.homes.history(self.now, &channel, page, most));
        self.retire_home(&channel);
        let answer = match answer {
            Ok(Page { publications, omitted, top }) => {
                if by_client {
                    self.replays.count(&publications);
                }
                Answer::History { channel, publications, omitted, top }
            }
            Err(error) => Answer::Error(error),
        };
        self.answer(asker, answer);
    }

    pub(super) fn home_namespace(&self, channel: &str) -> Result<Arc<Namespace>, ClientError> {
        self.options.namespaces.resolve(channel).map(Arc::clone)
    }

    /// Sends an answer to whoever asked.
    pub(super) fn answer(&mut self, asker: Asker, answer: Answer) {
        let message = Message::Answer { asker, answer };
        match asker {
            Asker::Connection { connection, .. } => self.send_to_shard(connection.shard, message),
            Asker::Control(_) => self.send_to_control(message),
            Asker::Bridge(_) | Asker::Nobody => {}
        }
    }
}
