//! Sessions: what clients may ask for, in which order, and what becomes of it. The same for every
//! protocol; codecs only translate.

use super::Sessions;
use super::input::Flow;
use crate::auth::Permissions;
use crate::channel::{ChannelName, DataType, Publication, Publisher, check_payload};
use crate::connection::{Charge, Flags, PendingRequest, State};
use crate::handshake::{Endpoint, Upgrade};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::{HISTORY_PAGE_MAX, PUBLISHING_MAX, RECOVERY_BYTES_MAX};
use crate::mesh::{Answer, Asker, EventKind, History, Publish, ToBus, ToHome};
use crate::protocol::{Codec, Command, Connected, HistoryQuery, Reply, Request};
use crate::reason::{ClientError, CloseReason};
use crate::shard::delivery::Pace;
use crate::wire::Wire;
use std::sync::Arc;

impl<S: Sockets> Sessions<S> {
    /// Turns a request head into a connection.
    pub(super) fn open(&mut self, key: ConnectionKey, upgrade: Upgrade) -> Flow {
        let connection = self.slots.connection(key);
        let mut protobuf = false;
        connection.wire = Wire::of(&upgrade.endpoint);
        connection.state = match upgrade.endpoint {
            Endpoint::Centrifugo { frame_pings, protobuf: asked } => {
                protobuf = asked;
                if frame_pings {
                    connection.flags.set(Flags::FRAME_PINGS);
                }
                State::Opened
            }
            Endpoint::Plain(request) => {
                return self.begin_upgrade(key, request, upgrade.acceptance);
            }
            Endpoint::Echo => State::Connected,
        };
        let (protocol, opened) = (connection.wire.protocol, connection.state == State::Opened);
        self.counters.handshaking.subtract(1);
        self.counters.connections[protocol as usize].add(1);
        self.counters.handshakes_ok.add(1);
        self.send_own(key, &upgrade.acceptance.head());
        if protobuf {
            self.close(key, CloseReason::InappropriateProtocol);
            return Flow::Stop;
        }
        if opened {
            let deadline = self.tick.after(self.options.client().stale_timeout);
            self.slots.set_deadline(key.slot, deadline);
            return Flow::Continue;
        }
        self.begin_heartbeat(key);
        self.report_connect(key);
        Flow::Continue
    }

    /// Whether a command must wait for the answers of publications that are on their way to the
    /// bus. Only further publications and pongs can't depend on them; but a publication to a name
    /// that may be new waits if those before it may have used up its client's allowance.
    pub(super) fn relies_on_publications(
        &mut self,
        key: ConnectionKey,
        request: &Request<'_>,
    ) -> bool {
        self.slots.connection(key).is_publishing()
            && match &request.command {
                Command::Publish { channel, .. } => self.may_create_later(key, channel),
                Command::Pong => false,
                _ => !crate::sabotage!(OvertakingCommand),
            }
    }

    /// Carries out one request of a client.
    pub(super) fn on_request(&mut self, key: ConnectionKey, request: Request<'_>) -> Flow {
        let connection = self.slots.connection(key);
        let connected = connection.state == State::Connected;
        if connected == matches!(request.command, Command::Connect) {
            // Anything before connect, and a second connect.
            return self.stop(key, CloseReason::BadRequest);
        }
        let id = request.id;
        match request.command {
            Command::Connect => self.on_connect(key, id),
            Command::Subscribe(subscribe) => self.on_subscribe(key, id, &subscribe),
            Command::Unsubscribe { channel } => match self.unsubscribe(key, &channel) {
                Pace::KeepsUp => self.reply(key, id, &Reply::Unsubscribed),
                Pace::TooSlow(reason) => self.stop(key, reason),
            },
            Command::Publish { channel, data } => self.on_publish(key, id, &channel, data),
            Command::History(query) => self.on_history(key, id, &query),
            Command::Pong => {
                // Any byte is as good as a pong, so a client that is slow but alive may answer
                // several pings at once. 3501 would keep it from ever coming back.
                let flags = &mut connection.flags;
                if flags.clear(Flags::PINGED) || flags.has(Flags::OVERDUE) {
                    Flow::Continue
                } else {
                    self.stop(key, CloseReason::BadRequest)
                }
            }
            Command::Unavailable => self.fail(key, id, ClientError::NotAvailable),
            Command::Send { data } => self.on_send(key, data),
            Command::Echo { kind, data } => self.reply(key, id, &Reply::Echo { kind, data }),
        }
    }

    fn on_connect(&mut self, key: ConnectionKey, id: u32) -> Flow {
        let permissions = Permissions::without_token(&self.options.settings.auth);
        if !permissions.may_connect() {
            return self.stop(key, CloseReason::BadRequest);
        }
        let client = self.identity.mint(self.connection_id(key));
        let connection = self.slots.connection(key);
        connection.state = State::Connected;
        connection.permissions = permissions;
        let own_pings = !connection.flags.has(Flags::FRAME_PINGS);
        let ping = own_pings.then_some(self.options.client().ping_interval);
        self.begin_heartbeat(key);
        self.report_connect(key);
        self.reply(key, id, &Reply::Connected(Connected { client, ping, pong: own_pings }))
    }

    fn on_publish(&mut self, key: ConnectionKey, id: u32, channel: &str, data: &[u8]) -> Flow {
        let connection = self.slots.connection(key);
        let plain = connection.busy.as_ref().and_then(|busy| busy.plain.as_ref());
        let channel = match plain {
            Some(plain) => match &plain.publish {
                Some(name) => name.clone(),
                None => return self.stop(key, CloseReason::UnsupportedData),
            },
            None if !channel.is_empty() => ChannelName::new(channel),
            None => return self.stop(key, CloseReason::UnsupportedData),
        };
        let namespace = match self.options.namespaces().resolve(channel.as_str()) {
            Ok(namespace) => Arc::clone(namespace),
            Err(error) => return self.fail(key, id, error),
        };
        let (protocol, permissions) = (connection.wire.protocol, connection.permissions);
        let role = self.role(key, channel.as_str());
        if !permissions.may_publish(&namespace, role) {
            return self.fail(key, id, ClientError::PermissionDenied);
        }
        if let Err(error) = self.check_creating(key, channel.as_str(), 0) {
            return self.fail(key, id, error);
        }
        let payload = protocol.payload(namespace.data, data);
        let data = match payload.and_then(|data| check_payload(namespace.data, &data)) {
            Ok(data) => data,
            Err(error) => return self.fail(key, id, error),
        };
        let connection = self.connection_id(key);
        let publisher = Publisher { user: Box::from(""), client: self.identity.mint(connection) };
        let publication = Publication {
            data,
            offset: 0,
            publisher: Some(Box::new(publisher)),
            tags: Box::default(),
            accepted: self.now,
        };
        let bytes = publication.recovery_bytes(namespace.data);
        if let Err(error) = namespace.check_recoverable(bytes, false) {
            return self.fail(key, id, error);
        }
        self.counters.publications_client.add(1);
        if namespace.events.publish {
            let (channel, data) = (channel.clone(), publication.data.clone());
            self.report(key, EventKind::Publish, |event| {
                event.channel = Some(channel);
                event.data = data;
            });
        }
        let home = self.home_map.home(channel.as_str());
        let charge = self.ask_creating(key, channel.as_str());
        let publish = Publish {
            channel,
            publication,
            skip_history: false,
            idempotency_key: None,
            asker: Asker::Connection { connection, request: id, pipelined: self.options.has_bus() },
        };
        let publish = Box::new(publish);
        if !self.options.has_bus() {
            self.post.to_shard(home, ToHome::Publish(publish));
            return self.wait(key, PendingRequest::Answer(charge));
        }
        // To Redis and back takes long, and the bus keeps the order.
        self.post.to_bridge(ToBus::Publish(publish));
        self.go_on_publishing(key, charge)
    }

    /// Goes on reading while a publication is on its way to the bus, unless as many are as may be.
    fn go_on_publishing(&mut self, key: ConnectionKey, charge: Charge) -> Flow {
        let busy = self.slots.connection(key).busy();
        busy.publishing += 1;
        busy.charged_publishing += u16::from(charge == Charge::Charged);
        if busy.publishing < PUBLISHING_MAX {
            Flow::Continue
        } else {
            self.wait(key, PendingRequest::Room)
        }
    }

    /// A message to the application.
    fn on_send(&mut self, key: ConnectionKey, data: &[u8]) -> Flow {
        if !self.options.settings.events.message {
            return self.stop(key, CloseReason::NotAvailable);
        }
        let data = match data {
            [] => Ok(Box::default()),
            data => check_payload(DataType::Json, data),
        };
        let Ok(data) = data else { return self.stop(key, CloseReason::BadRequest) };
        self.report(key, EventKind::Message, |event| event.data = data);
        Flow::Continue
    }

    /// What became of a publication that the bus was given.
    pub(super) fn on_published(&mut self, key: ConnectionKey, id: u32, answer: &Answer) {
        let now = self.now;
        // It may have left since it published.
        let Some(connection) = self.slots.get(key) else { return };
        let Some(busy) = connection.busy.as_mut().filter(|busy| busy.publishing > 0) else {
            return; // It closes, and nothing is owed to it.
        };
        busy.publishing -= 1;
        let left = busy.publishing;
        // Which of them it was is not kept.
        let charged = busy.charged_publishing > left;
        busy.charged_publishing = busy.charged_publishing.min(left);
        if let Some(unserved) = busy.unserved.as_mut()
            && matches!(answer, Answer::Published(_))
        {
            *unserved = now;
        }
        let over = |waiting: &mut Box<PendingRequest>| match **waiting {
            PendingRequest::Room => true,
            PendingRequest::Publications => left == 0,
            PendingRequest::Subscribe(_) | PendingRequest::Answer(_) => false,
        };
        let waited = busy.waiting.take_if(over).is_some();
        let connected = connection.state == State::Connected;
        if connected && matches!(answer, Answer::Published(_)) {
            connection.flags.set(Flags::PUBLISHED);
            connection.flags.clear(Flags::PUBLISHED_BEFORE);
        }
        if charged {
            self.on_answered_creating(key);
        }
        if !connected {
            return;
        }
        let flow = match answer {
            Answer::Error(error) => self.fail(key, id, *error),
            _ => self.reply(key, id, &Reply::Published),
        };
        if flow == Flow::Stop {
            return;
        }
        if waited {
            self.resume(key);
        } else {
            self.slots.connection(key).shrink();
        }
        self.end_if_done(key);
    }

    fn on_history(&mut self, key: ConnectionKey, id: u32, query: &HistoryQuery<'_>) -> Flow {
        if self.slots.connection(key).flags.has(Flags::DEAF) {
            // Its last commands are carried out, but nobody would read the page.
            return Flow::Continue;
        }
        let channel = query.channel.as_ref();
        let namespace = match self.options.namespaces().resolve(channel) {
            Ok(namespace) => Arc::clone(namespace),
            Err(error) => return self.fail(key, id, error),
        };
        if !namespace.has_history() {
            return self.fail(key, id, ClientError::NotAvailable);
        }
        let connection = self.slots.connection(key);
        let permissions = connection.permissions;
        if !permissions.may_read_history(&namespace, self.role(key, channel)) {
            return self.fail(key, id, ClientError::PermissionDenied);
        }
        if let Err(error) = self.check_creating(key, channel, 0) {
            return self.fail(key, id, error);
        }
        let charge = self.ask_creating(key, channel);
        let published = self.slots.connection(key).flags.has(Flags::PUBLISHED);
        let history = History {
            channel: ChannelName::new(channel),
            page: query.page,
            publications_max: HISTORY_PAGE_MAX,
            bytes_max: RECOVERY_BYTES_MAX,
            confirmed: !published || crate::sabotage!(OvertakingCommand),
            unserved: self.slots.connection(key).unserved(),
            asker: Asker::Connection {
                connection: self.connection_id(key),
                request: id,
                pipelined: false,
            },
        };
        let home = self.home_map.home(channel);
        self.post.to_shard(home, ToHome::History(Box::new(history)));
        self.wait(key, PendingRequest::Answer(charge))
    }

    /// The answer to a client's request is here.
    pub(super) fn on_answer(&mut self, key: ConnectionKey, id: u32, answer: Answer) {
        // It may have left since it asked.
        let Some(connection) = self.slots.get(key) else { return };
        if connection.state != State::Connected || !connection.flags.has(Flags::WAITING) {
            return;
        }
        let mut waited = None;
        if let Some(busy) = connection.busy.as_mut() {
            waited = busy.waiting.take();
            if !matches!(answer, Answer::Error(_)) {
                busy.unserved = busy.unserved.and(Some(self.now));
            }
        }
        if matches!(waited.as_deref(), Some(PendingRequest::Answer(Charge::Charged))) {
            self.on_answered_creating(key);
        }
        let flow = match answer {
            Answer::Published(_) => self.reply(key, id, &Reply::Published),
            Answer::History { channel, publications, top, .. } => {
                let Ok(namespace) = self.options.namespaces().resolve(channel.as_str()) else {
                    unreachable!("the name was resolved when the request was sent")
                };
                let view = crate::channel::ChannelView {
                    name: channel.as_str(),
                    data: namespace.data,
                    has_history: namespace.has_history(),
                    epoch: top.epoch,
                };
                let publications = &publications;
                self.reply(key, id, &Reply::History { channel: view, publications, top })
            }
            Answer::Error(error) => self.fail(key, id, error),
            Answer::Repeated
            | Answer::HistoryRemoved
            | Answer::Channels(_)
            | Answer::Affected(_)
            | Answer::Cluster(_) => unreachable!("clients do not ask for this"),
        };
        if flow != Flow::Stop {
            self.resume(key);
        }
    }

    pub(super) fn wait(&mut self, key: ConnectionKey, waiting: PendingRequest) -> Flow {
        let connection = self.slots.connection(key);
        connection.flags.set(Flags::WAITING);
        let busy = connection.busy();
        busy.waiting = Some(Box::new(waiting));
        if self.options.has_bus() {
            busy.unserved.get_or_insert(self.now);
        }
        Flow::Wait
    }

    pub(super) fn stop(&mut self, key: ConnectionKey, reason: CloseReason) -> Flow {
        self.close(key, reason);
        Flow::Stop
    }

    pub(super) fn fail(&mut self, key: ConnectionKey, id: u32, error: ClientError) -> Flow {
        self.reply(key, id, &Reply::Error(error))
    }

    /// Puts an answer into the client's outbox.
    pub(super) fn reply(&mut self, key: ConnectionKey, id: u32, reply: &Reply<'_>) -> Flow {
        let connection = self.slots.connection(key);
        let mut frames = std::mem::take(&mut self.input.reply_buffer);
        match connection.wire.encode_reply(id, reply, &mut frames) {
            Ok(()) => {
                if !reply.publications().is_empty() {
                    self.slots.connection(key).meter.count_replay(self.tick, frames.len());
                }
                self.send_reply(key, frames);
                Flow::Continue
            }
            Err(reason) => self.stop(key, reason),
        }
    }
}
