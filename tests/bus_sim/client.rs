//! A client with Centrifugo's protocol. It reconnects to any available node with its positions, as
//! SDKs do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use corecast::ids::Moment;
use corecast::limits::RETRY_INTERVAL;

use super::log::log;
use super::record::{Fate, Record};
use crate::sim::network::{LinkId, Network, Taken};
use crate::sim::replies::{Error, Publication, Push, Reply, Subscribe};
use crate::sim::setup::Setup;
use crate::sim::truth::Place;
use crate::sim::wire::{self, Incoming, Item};

/// Maximum time until a subscribe is answered, whatever happens. It counts from the last granted
/// request, because requests are carried out in order. A publication that was sent to Redis may
/// take the same time again.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Additional time for turns that shards and clients miss by chance.
const SLACK: Duration = RETRY_INTERVAL.saturating_mul(10);

/// The environment in which a client acts.
pub struct Stage<'a> {
    pub network: &'a mut Network,
    pub record: &'a mut Record,
    pub setup: &'a Setup,
}

/// The state of one session in a channel.
#[derive(Debug)]
pub struct Follow {
    /// The client's last position; absent if it gets no positions.
    pub place: Option<Place>,
    /// Number of the last received publication.
    pub last: Option<usize>,
}

#[derive(Debug)]
enum Ask {
    Connect,
    Subscribe { channel: usize, since: Option<Place> },
    Publish(usize),
    History(usize),
}

pub struct Client {
    pub number: usize,
    pub link: Option<LinkId>,
    /// The node that it is connected to, and the life of that node.
    pub at: Option<(usize, usize)>,
    incoming: Incoming,
    outgoing: VecDeque<u8>,
    open: bool,
    connected: bool,
    /// A close frame has been received.
    closed: bool,
    next_id: u32,
    /// Requests without an answer, each with the running time of the node when it was sent.
    asked: VecDeque<(u32, Ask, Duration)>,
    /// Running time of the node that it is connected to.
    pub ran: Duration,
    /// Running time at the last granted request.
    granted: Duration,
    /// Acknowledged publications of this connection.
    acked: Vec<usize>,
    pings: usize,
    pub wanted: Vec<usize>,
    pub subscribed: BTreeMap<usize, Follow>,
    memory: BTreeMap<usize, Place>,
    /// The times at which refused subscriptions are requested again.
    again: BTreeMap<usize, Moment>,
    /// Lives of nodes that have told the client that it missed publications.
    pub told: Vec<(usize, usize)>,
    /// Number of recoveries that were requested but not granted.
    pub unrecovered: usize,
    /// Publications that the client has received.
    pub seen: BTreeSet<usize>,
}

impl Client {
    pub fn new(number: usize, wanted: Vec<usize>) -> Client {
        Client {
            number,
            link: None,
            at: None,
            incoming: Incoming::default(),
            outgoing: VecDeque::new(),
            open: false,
            connected: false,
            closed: false,
            next_id: 0,
            asked: VecDeque::new(),
            ran: Duration::ZERO,
            granted: Duration::ZERO,
            acked: Vec::new(),
            pings: 0,
            wanted,
            subscribed: BTreeMap::new(),
            memory: BTreeMap::new(),
            again: BTreeMap::new(),
            told: Vec::new(),
            unrecovered: 0,
            seen: BTreeSet::new(),
        }
    }

    /// Connects to a shard of a node.
    pub fn connect(&mut self, stage: &mut Stage<'_>, desk: usize, at: (usize, usize)) {
        log(stage.network.now(), || format!("client {} connects to node {at:?}", self.number));
        self.link = Some(stage.network.connect(desk, (20_000, 50_000)));
        self.at = Some(at);
        self.incoming = Incoming::default();
        self.outgoing = wire::request_head("/connection/websocket").into();
        (self.open, self.connected, self.closed, self.pings) = (false, false, false, 0);
        self.granted = Duration::ZERO;
    }

    /// Whether it has all its subscriptions, and waits for no answer.
    pub fn is_settled(&self) -> bool {
        let has = |channel| self.subscribed.contains_key(channel);
        self.connected && self.asked.is_empty() && self.wanted.iter().all(has)
    }

    pub fn describe(&self) -> String {
        let Client { number, at, connected, asked, subscribed, .. } = self;
        format!("client {number} at {at:?}: connected {connected} {asked:?} {subscribed:?}")
    }

    /// Lets the client act once.
    pub fn act(&mut self, stage: &mut Stage<'_>) {
        self.receive(stage);
        if self.open && !self.closed {
            self.talk(stage);
        }
        self.send(stage);
        // A publication has additional time after its turn, because it waits for Redis. Requests
        // behind it wait for its answer.
        let publishes = matches!(self.asked.front(), Some((_, Ask::Publish(_), _)));
        for (_, ask, began) in &self.asked {
            let most = match ask {
                Ask::Subscribe { .. } if !publishes => ANSWER_MAX + SLACK,
                _ => 2 * ANSWER_MAX + SLACK,
            };
            let waited = self.ran - self.granted.max(*began);
            assert!(waited < most, "client {}: {ask:?} waits since {waited:?}", self.number);
        }
    }

    fn ask(&mut self, stage: &mut Stage<'_>, body: &str, ask: Ask) {
        self.next_id += 1;
        self.asked.push_back((self.next_id, ask, self.ran));
        let line = format!(r#"{{"id":{},{body}}}"#, self.next_id);
        log(stage.network.now(), || format!("client {} -> {line}", self.number));
        self.push(stage, &line);
    }

    fn push(&mut self, stage: &mut Stage<'_>, text: &str) {
        let random = &mut stage.network.random;
        self.outgoing.extend(wire::write_frame(wire::TEXT, true, text.as_bytes(), random));
    }

    fn talk(&mut self, stage: &mut Stage<'_>) {
        for _ in 0..std::mem::take(&mut self.pings) {
            self.push(stage, "{}");
        }
        if !self.connected {
            if self.asked.is_empty() {
                self.ask(stage, r#""connect":{}"#, Ask::Connect);
            }
            return;
        }
        let now = stage.network.now();
        for channel in self.wanted.clone() {
            let is_asked =
                |ask: &Ask| matches!(ask, Ask::Subscribe { channel: at, .. } if *at == channel);
            let asked = self.asked.iter().any(|(_, ask, _)| is_asked(ask));
            let early = self.again.get(&channel).is_some_and(|at| *at > now);
            if asked || early || self.subscribed.contains_key(&channel) {
                continue;
            }
            let name = &stage.setup.channels[channel].name;
            let mut body = format!(r#""subscribe":{{"channel":"{name}""#);
            let since = self.memory.get(&channel).copied();
            if let Some(Place { epoch, offset }) = since {
                body.push_str(&format!(r#","recover":true,"epoch":"{epoch:x}","offset":{offset}"#));
            }
            body.push('}');
            self.ask(stage, &body, Ask::Subscribe { channel, since });
        }
    }

    /// Publishes to a channel, if possible.
    pub fn publish(&mut self, stage: &mut Stage<'_>, channel: usize) {
        if !self.connected || self.closed {
            return;
        }
        let number = stage.record.invoke((channel, self.number), false);
        let name = &stage.setup.channels[channel].name;
        let data = String::from_utf8_lossy(&stage.record.attempt(number).data).into_owned();
        let body = format!(r#""publish":{{"channel":"{name}","data":{data}}}"#);
        self.ask(stage, &body, Ask::Publish(number));
        if stage.setup.channels[channel].has_history() && stage.network.random.chance(30) {
            let body = format!(r#""history":{{"channel":"{name}","limit":0}}"#);
            self.ask(stage, &body, Ask::History(channel));
        }
    }

    fn send(&mut self, stage: &mut Stage<'_>) {
        let Some(link) = self.link else { return };
        let count = stage.network.give(link, self.outgoing.make_contiguous());
        self.outgoing.drain(..count);
    }

    fn receive(&mut self, stage: &mut Stage<'_>) {
        while let Some(link) = self.link {
            match stage.network.take(link, 16 * 1024) {
                Taken::Bytes(bytes) => {
                    self.incoming.push(&bytes);
                    while let Some(item) = self.link.and_then(|_| self.incoming.next_item()) {
                        self.on_item(stage, item);
                    }
                }
                Taken::Nothing => return,
                Taken::End | Taken::Reset => self.leave(stage),
            }
        }
    }

    /// Handles the end of the connection, from either side. Pending requests will have no answer.
    pub fn leave(&mut self, stage: &mut Stage<'_>) {
        if let Some(link) = self.link.take() {
            log(stage.network.now(), || format!("client {} loses its connection", self.number));
            stage.network.reset_client(link);
        }
        (self.at, self.open, self.connected) = (None, false, false);
        self.subscribed.clear();
        self.acked.clear();
        for (_, ask, _) in self.asked.drain(..) {
            if let Ask::Publish(number) = ask {
                stage.record.on_fate(number, Fate::Unknown);
            }
        }
    }

    fn on_item(&mut self, stage: &mut Stage<'_>, item: Item) {
        match item {
            Item::Status(101) => self.open = true,
            Item::Text(text) => {
                let text = String::from_utf8(text).expect("a text frame is UTF-8");
                log(stage.network.now(), || format!("client {} <- {text}", self.number));
                for line in text.split('\n') {
                    if line == "{}" {
                        self.pings += 1;
                    } else {
                        let reply: Reply<'_> = serde_json::from_str(line)
                            .unwrap_or_else(|error| panic!("{error} in {line:?}"));
                        self.on_reply(stage, reply, line);
                    }
                }
            }
            // Pings stayed unread while the client was away.
            Item::Close(3012, _) => self.closed = true,
            other => panic!("client {} was closed without cause: {other:?}", self.number),
        }
    }

    fn on_reply(&mut self, stage: &mut Stage<'_>, reply: Reply<'_>, line: &str) {
        if let Some(push) = reply.push {
            return self.on_push(stage, push);
        }
        let at = self.asked.iter().position(|(id, ..)| *id == reply.id);
        let at = at.unwrap_or_else(|| panic!("unexpected reply: {line}"));
        // Publications take longer, and answers to later publications may overtake each other.
        let publishes = |ask: &Ask| matches!(ask, Ask::Publish(_));
        let mut rest = self.asked.iter().take(at);
        let passed = if publishes(&self.asked[at].1) {
            rest.filter(|(_, ask, _)| !publishes(ask)).count()
        } else {
            rest.by_ref().count()
        };
        assert_eq!(passed, 0, "replies come in the order of requests: {line}");
        let (_, ask, _) = self.asked.remove(at).expect("it was found");
        if let Some(error) = reply.error {
            return self.on_error(stage, &ask, &error);
        }
        self.granted = self.ran;
        match ask {
            Ask::Connect => self.connected = true,
            Ask::Subscribe { channel, since } => {
                let reply = reply.subscribe.expect("a subscribe reply");
                self.on_subscribed(stage, (channel, since), &reply);
            }
            Ask::Publish(number) => {
                self.acked.push(number);
                stage.record.on_fate(number, Fate::Acked(None));
            }
            Ask::History(channel) => {
                let history = reply.history.expect("a history reply");
                let top = Place::read(history.epoch, history.offset);
                stage.record.check_own(&self.acked, (channel, top));
            }
        }
    }

    fn on_error(&mut self, stage: &mut Stage<'_>, ask: &Ask, error: &Error<'_>) {
        assert_eq!(error.code, 100, "{} for {ask:?}", error.message);
        assert!(error.temporary, "it is worth another try");
        match ask {
            Ask::Connect => panic!("connecting has nothing to do with Redis"),
            Ask::Subscribe { channel, .. } => {
                let later = stage.network.now().after(Duration::from_millis(500));
                self.again.insert(*channel, later);
            }
            Ask::History(_) => {}
            Ask::Publish(number) => {
                let unknown = error.message.starts_with("result unknown");
                let failed = error.message.starts_with("bus unavailable");
                assert!(unknown || failed, "{}", error.message);
                let fate = if unknown { Fate::Unknown } else { Fate::Failed };
                if unknown {
                    self.granted = self.ran; // Redis was up when it got this publication.
                }
                stage.record.on_fate(*number, fate);
            }
        }
    }

    fn on_subscribed(
        &mut self,
        stage: &mut Stage<'_>,
        (channel, since): (usize, Option<Place>),
        reply: &Subscribe<'_>,
    ) {
        let kept = stage.setup.channels[channel].has_history();
        assert_eq!(reply.positioned, kept, "channels with a history have positions");
        assert!(since.is_some() || !reply.recovered, "no recovery was requested");
        assert!(reply.recovered || reply.publications.is_empty(), "no partial recovery");
        let place = kept.then(|| Place::read(reply.epoch, reply.offset));
        if reply.recovered {
            assert_eq!(place, since, "a recovery continues at the client's position");
        } else if since.is_some() {
            self.unrecovered += 1;
        }
        self.subscribed.insert(channel, Follow { place, last: None });
        if let Some(place) = place {
            self.memory.insert(channel, place);
        }
        for publication in &reply.publications {
            self.see(stage, channel, publication);
        }
    }

    fn on_push(&mut self, stage: &mut Stage<'_>, push: Push<'_>) {
        let channel = stage.setup.find(push.channel);
        assert!(self.subscribed.contains_key(&channel), "{} is not subscribed", push.channel);
        if let Some(publication) = push.publication {
            return self.see(stage, channel, &publication);
        }
        let unsubscribe = push.unsubscribe.expect("a push is a publication or an end");
        assert_eq!(unsubscribe.code, 2500, "{}", unsubscribe.reason);
        assert!(stage.setup.channels[channel].has_history(), "it has no position");
        self.told.extend(self.at);
        self.subscribed.remove(&channel);
    }

    fn see(&mut self, stage: &mut Stage<'_>, channel: usize, publication: &Publication<'_>) {
        let follow = self.subscribed.get_mut(&channel).expect("the caller has looked");
        let data = publication.data.get().as_bytes();
        let client = self.number;
        if let Some(place) = &mut follow.place {
            let next = place.offset + 1;
            assert_eq!(publication.offset, next, "client {client} is given another place");
            place.offset = next;
            self.memory.insert(channel, *place);
        }
        let number = stage.record.received(channel, data, follow.place);
        self.seen.insert(number);
        if let Some(last) = follow.last.replace(number) {
            let order = stage.record.is_in_order((last, number));
            assert!(order, "client {client}: {number} came after {last}");
        }
    }
}
