//! One schedule: nodes that share a Redis, their clients and their application.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use corecast::ids::Moment;

use super::client::{Client, Stage};
use super::log::log;
use super::node::{LONG, Node};
use super::record::Record;
use super::redis::Redis;
use super::setup::{BusSetup, LIVES_MAX};
use crate::sim::network::Network;
use crate::sim::random::Random;
use crate::sim::truth::Place;

/// Maximum time for which a node's connections may lead to different servers: the longest pause
/// between two renewals, and some time for the renewal.
const APART: Duration = Duration::from_secs(18);

/// A seat for a node, which may be empty for a while.
pub struct Seat {
    pub node: Option<Node>,
    pub lives: usize,
    /// Time at which the next node starts.
    pub start_at: Moment,
}

pub struct World {
    pub setup: BusSetup,
    pub network: Rc<RefCell<Network>>,
    pub redis: Redis,
    pub seats: Vec<Seat>,
    pub clients: Vec<Client>,
    pub record: Record,
    /// For each life of a node, the number of reasons to tell clients about a gap.
    causes: BTreeMap<(usize, usize), u64>,
    /// There are no faults, and every thread has its turns.
    calm: bool,
}

impl World {
    pub fn new(setup: BusSetup, mut random: Random, clients: usize) -> World {
        let redis = Redis::new(setup.streams, Random::new(random.number()));
        let mut all = Vec::new();
        for number in 0..clients {
            let channels = 0..setup.node.channels.len();
            let wanted = channels.filter(|_| random.chance(70)).collect();
            all.push(Client::new(number, wanted));
        }
        let network = Rc::new(RefCell::new(Network::new(setup.desks(), random)));
        let start_at = network.borrow().now();
        let seat = |_| Seat { node: None, lives: 0, start_at };
        let seats = (0..setup.nodes).map(seat).collect();
        let (record, causes) = (Record::default(), BTreeMap::new());
        World { setup, network, redis, seats, clients: all, record, causes, calm: false }
    }

    pub fn now(&self) -> Moment {
        self.network.borrow().now()
    }

    pub fn chance(&self, percent: usize) -> bool {
        self.network.borrow_mut().random.chance(percent)
    }

    pub fn below(&self, bound: usize) -> usize {
        self.network.borrow_mut().random.below(bound)
    }

    pub fn between(&self, least: usize, most: usize) -> usize {
        self.network.borrow_mut().random.between(least, most)
    }

    /// Advances time, and lets everything act that has a turn.
    pub fn round(&mut self, by: Duration) {
        self.network.borrow_mut().advance(by);
        let now = self.now();
        for number in 0..self.seats.len() {
            self.start(number, now);
        }
        self.redis.step(now);
        let done = std::mem::take(&mut self.redis.done);
        let forgets = (self.redis.broken || self.redis.forgetful, self.redis.forgetful);
        self.record.on_done(&self.setup.node, done, forgets);
        for seat in &mut self.seats {
            if let Some(node) = &mut seat.node {
                let around = (&self.setup, &self.network, &mut self.redis);
                node.step(around, &mut self.record, self.calm);
            }
        }
        for number in 0..self.clients.len() {
            if self.calm || self.chance(60) {
                self.act(number);
            }
        }
    }

    fn start(&mut self, number: usize, now: Moment) {
        let seat = &mut self.seats[number];
        if seat.node.is_none() && seat.start_at <= now {
            log(now, || format!("node {number} starts, life {}", seat.lives));
            seat.node = Some(Node::new(&self.setup, &self.network, (number, seat.lives)));
            seat.lives += 1;
        }
    }

    /// Ends the process of a node, unless it has used up its lives.
    pub fn kill(&mut self, number: usize, away: Duration) {
        let now = self.now();
        let seat = &mut self.seats[number];
        if seat.lives >= LIVES_MAX {
            return;
        }
        let Some(node) = seat.node.take() else { return };
        log(now, || format!("node {number} is killed"));
        let life = (number, node.life);
        self.causes.insert(life, node.causes());
        seat.start_at = now.after(away);
        node.kill(&mut self.redis, &mut self.record);
        for at in 0..self.clients.len() {
            if self.clients[at].at == Some(life) {
                self.with_client(at, |client, stage| client.leave(stage));
            }
        }
    }

    pub fn with_client<T>(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut Client, &mut Stage<'_>) -> T,
    ) -> T {
        let mut network = self.network.borrow_mut();
        let (record, setup) = (&mut self.record, &self.setup.node);
        let mut stage = Stage { network: &mut network, record, setup };
        act(&mut self.clients[number], &mut stage)
    }

    /// Lets a client act once.
    fn act(&mut self, number: usize) {
        if self.clients[number].link.is_none() {
            let seat = &self.seats[self.below(self.seats.len())];
            let Some(node) = seat.node.as_ref().filter(|node| node.is_ready()) else { return };
            let (desk, at) = (node.desk(self.below(node.shards.len())), (node.number, node.life));
            self.with_client(number, |client, stage| client.connect(stage, desk, at));
        }
        let seat = self.clients[number].at.map(|(node, _)| &self.seats[node]);
        let node = seat.and_then(|seat| seat.node.as_ref()).expect("it is connected to one");
        self.clients[number].ran = node.ran;
        self.with_client(number, |client, stage| client.act(stage));
    }

    /// Publishes through the API of a random node. Returns the number if the node was ready.
    pub fn publish(&mut self, channel: usize, keyed: bool) -> Option<usize> {
        let seat = self.below(self.seats.len());
        let now = self.now();
        let node = self.seats[seat].node.as_mut().filter(|node| node.is_ready())?;
        // Each node has its own application, whose publications are in order.
        let number = self.record.invoke((channel, 1000 + seat), keyed);
        node.publish(&self.setup, &mut self.record, now, number);
        Some(number)
    }

    /// Tries a publication again on a random node, if that is allowed.
    pub fn retry(&mut self, number: usize) {
        let seat = self.below(self.seats.len());
        let now = self.now();
        let Some(node) = self.seats[seat].node.as_mut().filter(|node| node.is_ready()) else {
            return;
        };
        if self.record.may_retry(number) {
            self.record.retry(number);
            node.publish(&self.setup, &mut self.record, now, number);
        }
    }

    /// Plays rounds until `done` returns true.
    ///
    /// # Panics
    /// If that takes longer than `patience`.
    pub fn until(&mut self, what: &str, patience: Duration, done: impl Fn(&World) -> bool) {
        let deadline = self.now().after(patience);
        while !done(self) {
            assert!(
                self.now() < deadline,
                "after {patience:?}, this is still false: {what}\n{}",
                self.describe()
            );
            self.round(Duration::from_millis(10));
        }
    }

    pub fn pass(&mut self, time: Duration) {
        let deadline = self.now().after(time);
        while self.now() < deadline {
            self.round(Duration::from_millis(10));
        }
    }

    fn describe(&self) -> String {
        let mut lines: Vec<String> = self.clients.iter().map(Client::describe).collect();
        for seat in &self.seats {
            lines.push(match &seat.node {
                Some(node) => format!(
                    "node {} life {}: ready {} connected {} waits for {} answers",
                    node.number,
                    node.life,
                    node.is_ready(),
                    node.shell.is_connected(),
                    node.waiting()
                ),
                None => format!("a node starts at {:?}", seat.start_at),
            });
        }
        lines.join("\n")
    }

    /// Whether every node serves, every client has its subscriptions, and no request is pending.
    fn is_settled(&self) -> bool {
        let node = |seat: &Seat| {
            let node = seat.node.as_ref();
            node.is_some_and(|node| {
                node.is_ready() && node.shell.is_connected() && node.waiting() == 0
            })
        };
        self.seats.iter().all(node) && self.clients.iter().all(Client::is_settled)
    }

    /// Waits until all clients are served and have read everything.
    pub fn rest(&mut self) {
        self.until("everybody is served", LONG, World::is_settled);
        self.pass(Duration::from_secs(2));
        self.until("everybody is served", LONG, World::is_settled);
    }

    /// Ends all faults, and checks that all clients are served and all states agree.
    pub fn settle(&mut self) {
        self.calm = true;
        self.calm_redis();
        let now = self.now();
        for seat in &mut self.seats {
            seat.start_at = seat.start_at.min(now);
            if let Some(node) = &mut seat.node {
                node.paused_until = node.paused_until.min(now);
            }
        }
        // A node may stay with a replaced server for ever, but it must not write to one server and
        // read from another for long.
        self.until("all connections of a node lead to one server", APART, |world| {
            let nodes = world.seats.iter().flat_map(|seat| &seat.node);
            nodes.into_iter().all(|node| !node.shell.is_apart(&world.redis))
        });
        self.redis.end_old();
        // Time to notice a peer that vanished, or a stream that lost its end.
        self.pass(LONG);
        self.until("everybody is served", LONG, World::is_settled);
        if self.redis.forgetful || self.redis.broken {
            // The loss of channels in Redis is noticed at the next publication.
            self.publish_everywhere();
        }
        self.check_tops();
        self.probe();
        // Nodes without a subscriber read the last publications as well.
        self.pass(Duration::from_secs(1));
        self.check_tops();
        self.check_notices();
        self.record.finish();
        for seat in &mut self.seats {
            let shards = seat.node.iter_mut().flat_map(|node| &mut node.shards);
            assert_eq!(shards.map(|shard| shard.audit()).sum::<usize>(), 0, "tables disagree");
        }
    }

    /// Returns the place of a channel's last publication in Redis.
    pub fn top(&self, channel: usize) -> Place {
        let streams = self.redis.truth();
        let name = &self.setup.node.channels[channel].name;
        let stream = corecast::bus::stream_of(name, self.setup.streams);
        let place = streams[stream].place(name);
        let (epoch, incarnation, offset) = place.expect("the stream has been fenced");
        let epoch = corecast::bus::channel_epoch(epoch, incarnation).value();
        Place { epoch, offset }
    }

    /// Checks that every home and every client agrees with Redis.
    fn check_tops(&mut self) {
        for channel in 0..self.setup.node.channels.len() {
            let top = self.top(channel);
            let history = self.setup.node.channels[channel].has_history();
            for client in self.clients.iter().filter(|_| history) {
                if let Some(follow) = client.subscribed.get(&channel) {
                    let (number, place) = (client.number, follow.place);
                    assert_eq!(place, Some(top), "client {number}, channel {channel}");
                }
            }
            for seat in &mut self.seats {
                let node = seat.node.as_mut().expect("everybody serves");
                node.tops.remove(&channel);
                assert!(node.read(&self.setup, channel), "there is room for a question");
            }
            self.until("homes have answered", Duration::from_secs(1), |world| {
                let nodes = world.seats.iter().flat_map(|seat| &seat.node);
                nodes.into_iter().all(|node| node.tops.contains_key(&channel))
            });
            for node in self.seats.iter().flat_map(|seat| &seat.node) {
                let found = node.tops[&channel];
                assert_eq!(found, Some(top), "channel {channel} at home on node {}", node.number);
            }
        }
    }

    /// Publishes once to each channel, and waits until clients have handled the notices.
    fn publish_everywhere(&mut self) {
        for channel in 0..self.setup.node.channels.len() {
            let number = self.publish(channel, false).expect("everybody serves");
            self.until("it is acknowledged", LONG, |world| world.record.is_acked(number));
        }
        self.pass(Duration::from_secs(2));
        self.until("everybody is served", LONG, World::is_settled);
    }

    /// Checks that one more publication in each channel reaches every subscriber quickly.
    fn probe(&mut self) {
        for channel in 0..self.setup.node.channels.len() {
            let probe = self.publish(channel, false).expect("everybody serves");
            self.until("the probe is acknowledged", Duration::from_secs(1), |world| {
                world.record.is_acked(probe)
            });
            self.until("the probe has arrived", Duration::from_secs(1), |world| {
                let followed = world.clients.iter().flat_map(|one| one.subscribed.get(&channel));
                followed.into_iter().all(|follow| follow.last == Some(probe))
            });
        }
    }

    /// Checks that clients are told about gaps only for a reason, and never if nothing was lost.
    fn check_notices(&mut self) {
        for node in self.seats.iter().flat_map(|seat| &seat.node) {
            self.causes.insert((node.number, node.life), node.causes());
        }
        for client in self.clients.iter().filter(|_| !self.redis.forgetful) {
            for life in &client.told {
                assert!(self.causes[life] > 0, "{life:?} has told client {} why?", client.number);
            }
        }
        if !self.redis.broken {
            let nodes = self.seats.iter().flat_map(|seat| &seat.node);
            let renewals: u64 = nodes.map(|node| node.bridge_counters.renewals.value()).sum();
            assert_eq!(renewals, 0, "there is one server only, and no reason to look for another");
        }
        if !self.redis.broken && !self.redis.forgetful && self.setup.is_spacious() {
            let causes: u64 = self.causes.values().sum();
            assert_eq!(causes, 0, "nothing was lost, but {:?} were told so", self.causes);
            if self.setup.is_roomy() {
                let unrecovered: usize = self.clients.iter().map(|one| one.unrecovered).sum();
                assert_eq!(unrecovered, 0, "everything could be recovered");
            }
        }
    }
}
