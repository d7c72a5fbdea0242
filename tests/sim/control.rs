//! The simulated control thread. It uses the mesh like the server's thread, and contains an
//! application that publishes, reads, disconnects and drains.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corecast::channel::{ChannelName, Glob, HistoryUse, Publication, check_payload};
use corecast::ids::{Position, ShardId};
use corecast::limits::CLOSE_TIMEOUT;
use corecast::mesh::{
    Answer, Asker, ControlRequest, History, Inbox, Page, Publish, Reader, ShardLane, ShardMail,
    Target, Ticket, ToControl, ToHome, Wake,
};
use corecast::protocol::HistoryPage;
use corecast::reason::ClientError;
use corecast::shard::Identity;

use super::scene::{Scene, trace};
use super::truth::{CONTROL, Place};

/// Wakes a sleeping thread. In the server this is an eventfd.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<AtomicBool>);

impl Bell {
    pub fn is_rung(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request without an answer so far.
pub enum Asked {
    Publish(usize),
    /// The final history of a channel, which is checked.
    Final(usize),
    /// A page of history, which may change at any time.
    Page(usize),
    Channels,
    Affected,
    Removed,
    Drain,
}

pub struct Control {
    pub inbox: Inbox<ToControl>,
    pub bell: Bell,
    asleep: bool,
    lanes: Vec<ShardLane>,
    identity: Identity,
    asked: BTreeMap<u64, Asked>,
    next: u64,
    /// The top of each channel, as reported by its home.
    pub tops: BTreeMap<usize, Place>,
    /// Number of shards that have drained.
    pub drained: usize,
}

impl Control {
    pub fn new(
        inbox: Inbox<ToControl>,
        bell: Bell,
        lanes: Vec<ShardLane>,
        identity: Identity,
    ) -> Control {
        Control {
            inbox,
            bell,
            asleep: false,
            lanes,
            identity,
            asked: BTreeMap::new(),
            next: 0,
            tops: BTreeMap::new(),
            drained: 0,
        }
    }

    /// Whether a batch waits in the inbox without a wake, so that it would never be handled.
    pub fn is_lost(&self) -> bool {
        self.asleep && !self.bell.is_rung() && !self.inbox.is_empty()
    }

    /// Returns the number of requests without an answer.
    pub fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// Handles received messages, and sends those that found no room before.
    pub fn turn(&mut self, scene: &mut Scene<'_>) {
        self.lanes.iter_mut().for_each(ShardLane::flush);
        if self.asleep && !self.bell.is_rung() {
            return;
        }
        self.bell.clear();
        self.inbox.woke();
        while let Some(batch) = self.inbox.take() {
            for message in batch {
                match message {
                    ToControl::Answer { ticket, answer } => self.on_answer(scene, ticket, answer),
                    ToControl::DeliveryTimes(_) | ToControl::Stalled(_) => {}
                    other @ ToControl::Remote { .. } => panic!("no other node: {other:?}"),
                }
            }
        }
        self.asleep = self.inbox.prepare_sleep();
    }

    /// Sends a request, if there is room.
    pub fn send<M: Into<ShardMail>>(
        &mut self,
        shard: ShardId,
        asked: Asked,
        make: impl FnOnce(Ticket) -> M,
    ) -> bool {
        let lane = &mut self.lanes[shard.index()];
        lane.flush();
        if lane.is_behind() {
            return false;
        }
        let ticket = self.next;
        self.next += 1;
        let message = make(Ticket(ticket)).into();
        trace(|| format!("control -> shard {}: {message:?}", shard.index()));
        lane.push(message);
        lane.flush();
        self.asked.insert(ticket, asked);
        true
    }

    pub fn send_home(
        &mut self,
        scene: &Scene<'_>,
        (channel, asked): (usize, Asked),
        make: impl FnOnce(ChannelName, Ticket) -> ToHome,
    ) -> bool {
        let name = &scene.setup.channels[channel].name;
        let home = scene.setup.home_map.home(name);
        let name = ChannelName::new(name);
        self.send(home, asked, |ticket| make(name, ticket))
    }

    /// Publishes. Returns the number of the attempt.
    pub fn publish(
        &mut self,
        scene: &mut Scene<'_>,
        channel: usize,
        (key, skip_history): (Option<usize>, bool),
    ) -> usize {
        let number = scene.invoke(channel, CONTROL);
        let data_type = scene.setup.channels[channel].namespace.data;
        let attempt = scene.truth.attempt(number);
        (attempt.key, attempt.skip_history) = (key, skip_history);
        let data = check_payload(data_type, &attempt.data).expect("the payload is in order");
        let publication = Publication {
            data,
            offset: 0,
            publisher: None,
            tags: Box::default(),
            accepted: scene.network.now(),
        };
        let sent = self.send_home(scene, (channel, Asked::Publish(number)), |channel, ticket| {
            let asker = Asker::Control(ticket);
            let idempotency_key = key.map(|key| key.to_string().into());
            let history = if skip_history { HistoryUse::Skip } else { HistoryUse::Keep };
            let publish = Publish { channel, publication, history, idempotency_key, asker };
            ToHome::Publish(Box::new(publish))
        });
        if !sent {
            scene.truth.failed(number);
        }
        number
    }

    /// Requests the top of a channel and its whole history.
    pub fn read_final(&mut self, scene: &Scene<'_>, channel: usize) -> bool {
        self.read(scene, (channel, Asked::Final(channel)))
    }

    fn read(&mut self, scene: &Scene<'_>, asked: (usize, Asked)) -> bool {
        let page = HistoryPage { limit: -1, since: None, reverse: false };
        self.send_home(scene, asked, |channel, ticket| {
            let publications_max = 1_000_000;
            let (bytes_max, confirmed) = (usize::MAX, true);
            ToHome::History(Box::new(History {
                channel,
                page,
                publications_max,
                bytes_max,
                confirmed,
                unserved: None,
                reader: Reader::Control(ticket),
            }))
        })
    }

    /// Requests that all shards close their connections over this time.
    pub fn drain(&mut self, scene: &mut Scene<'_>, over: Duration) -> bool {
        self.drain_until(scene, over, over + CLOSE_TIMEOUT)
    }

    /// Does the same, but waits for no client beyond `last_end`.
    pub fn drain_until(
        &mut self,
        scene: &mut Scene<'_>,
        over: Duration,
        last_end: Duration,
    ) -> bool {
        scene.truth.draining = true;
        self.send_all(scene, &ControlRequest::Drain { over, last_end }, || Asked::Drain)
    }

    fn send_all(
        &mut self,
        scene: &Scene<'_>,
        request: &ControlRequest,
        asked: impl Fn() -> Asked,
    ) -> bool {
        (0..scene.setup.shards).all(|shard| {
            self.send(ShardId::new(shard), asked(), |ticket| ShardMail::Control {
                ticket,
                request: request.clone(),
            })
        })
    }

    /// Acts like an application. `clients` are public ids of clients, some of them disconnected
    /// long ago.
    pub fn act(&mut self, scene: &mut Scene<'_>, clients: &[String]) {
        let channel = scene.network.random.below(scene.setup.channels.len());
        match scene.network.random.below(100) {
            0..10 => {
                // A burst, for which slow clients and full inboxes have no room.
                let keyed = scene.chance(40);
                for _ in 0..scene.network.random.between(2, 20) {
                    let key = keyed.then(|| scene.network.random.below(1_000));
                    self.publish(scene, channel, (key, false));
                }
            }
            10..70 => {
                let key = scene.chance(20).then(|| scene.network.random.below(20));
                let skip_history = scene.chance(5);
                self.publish(scene, channel, (key, skip_history));
            }
            70..80 => {
                self.read(scene, (channel, Asked::Page(channel)));
            }
            80..82 => self.remove_history(scene, channel),
            82..88 => self.ask_channels(scene),
            88..94 => self.disconnect(scene, clients),
            _ => self.unsubscribe(scene, (channel, clients)),
        }
    }

    /// Removes the history of a channel.
    pub fn remove_history(&mut self, scene: &mut Scene<'_>, channel: usize) {
        scene.truth.removed.insert(channel);
        self.send_home(scene, (channel, Asked::Removed), |channel, ticket| ToHome::HistoryRemove {
            channel,
            ticket: Some(ticket),
        });
    }

    pub fn ask_channels(&mut self, scene: &Scene<'_>) {
        let pattern = Glob::new("*").expect("a pattern");
        let request = ControlRequest::Channels { pattern, after: "".into(), limit: 3 };
        self.send_all(scene, &request, || Asked::Channels);
    }

    /// Disconnects one client, or rarely all of them.
    pub fn disconnect(&mut self, scene: &mut Scene<'_>, clients: &[String]) {
        let whitelist = Vec::new();
        let text: Box<str> = "go away".into();
        let user: Box<str> = "".into();
        if clients.is_empty() || scene.chance(3) {
            let code = scene.network.random.pick(&[4000, 3503, 3011]);
            scene.truth.kicks.push((code, None));
            let target = Target { user, connection: None };
            let request = ControlRequest::Disconnect { target, whitelist, code, text };
            self.send_all(scene, &request, || Asked::Affected);
            return;
        }
        let client = &clients[scene.network.random.below(clients.len())];
        let id = client.parse().expect("a client id");
        let connection = self.identity.verify(id).expect("one of this node");
        let code = 4100 + (scene.truth.kicks.len() % 800) as u16;
        scene.truth.kicks.push((code, Some(client.clone())));
        let target = Target { user, connection: Some(connection) };
        let request = ControlRequest::Disconnect { target, whitelist, code, text };
        self.send(connection.shard, Asked::Affected, |ticket| ShardMail::Control {
            ticket,
            request,
        });
    }

    pub fn unsubscribe(&mut self, scene: &mut Scene<'_>, (channel, clients): (usize, &[String])) {
        let all = scene.chance(10);
        let name = ChannelName::new(&scene.setup.channels[channel].name);
        let channel = if all { (None, None) } else { (Some(channel), Some(name)) };
        scene.truth.unsubscribed.push(channel.0);
        let user: Box<str> = "".into();
        if clients.is_empty() || scene.chance(50) {
            let target = Target { user, connection: None };
            let request = ControlRequest::Unsubscribe { target, channel: channel.1 };
            self.send_all(scene, &request, || Asked::Affected);
            return;
        }
        let client = &clients[scene.network.random.below(clients.len())];
        let id = client.parse().expect("a client id");
        let connection = self.identity.verify(id).expect("one of this node");
        let target = Target { user, connection: Some(connection) };
        let request = ControlRequest::Unsubscribe { target, channel: channel.1 };
        self.send(connection.shard, Asked::Affected, |ticket| ShardMail::Control {
            ticket,
            request,
        });
    }

    fn on_answer(&mut self, scene: &mut Scene<'_>, ticket: Ticket, answer: Answer) {
        trace(|| format!("control <- {ticket:?}: {answer:?}"));
        let asked = self.asked.remove(&ticket.0).expect("an answer to a question, once");
        match (asked, answer) {
            (Asked::Publish(number), Answer::Published(position)) => {
                scene.truth.acked(number, position.map(place));
            }
            // There was no room for the key.
            (Asked::Publish(number), Answer::Error(ClientError::TooManyRequests)) => {
                scene.truth.key_refused(number);
            }
            (Asked::Final(channel), answer) => self.on_history(scene, (channel, true), answer),
            (Asked::Page(channel), answer) => self.on_history(scene, (channel, false), answer),
            (Asked::Channels, Answer::Channels(names)) => {
                assert!(names.len() <= 3, "no more names than were asked for");
                assert!(names.is_sorted(), "names come in order: {names:?}");
            }
            (Asked::Affected, Answer::Affected(_)) | (Asked::Removed, Answer::HistoryRemoved) => {}
            // Too many walks were requested at once.
            (Asked::Affected | Asked::Channels, Answer::Error(ClientError::TooManyRequests)) => {}
            (Asked::Drain, Answer::Affected(_)) => self.drained += 1,
            (_, other) => panic!("this answers no question: {other:?}"),
        }
    }

    fn on_history(
        &mut self,
        scene: &mut Scene<'_>,
        (channel, is_final): (usize, bool),
        answer: Answer,
    ) {
        let Answer::Page(Page { publications, top, .. }) = answer else {
            panic!("a page was asked for: {answer:?}")
        };
        let top = place(top);
        self.tops.insert(channel, top);
        let first = top.offset + 1 - publications.len() as u64;
        for (publication, offset) in publications.iter().zip(first..) {
            assert_eq!(publication.offset, offset, "a history ends at the top, without holes");
            let place = Place { epoch: top.epoch, offset };
            scene.truth.received(channel, &publication.data, Some(place));
        }
        if is_final && scene.setup.channels[channel].has_history() {
            let forgets = scene.setup.options.history_bytes_max < 1 << 20;
            scene.truth.final_history(channel, (first, top), forgets);
        }
    }
}

fn place(position: Position) -> Place {
    Place { epoch: position.epoch.value(), offset: position.offset }
}
