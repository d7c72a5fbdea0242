//! One schedule: a node, its clients and its application, which act in random order.

use std::time::Duration;

use corecast::metrics::ShardCounters;

use super::client::{Client, Habits, Speech};
use super::control::Control;
use super::network::{LinkId, Network};
use super::node::Node;
use super::random::Random;
use super::scene::Scene;
use super::setup::Setup;
use super::truth::Truth;

pub struct World {
    pub setup: Setup,
    pub node: Node,
    pub control: Control,
    pub clients: Vec<Client>,
    pub truth: Truth,
    /// Number of notices about missed publications.
    pub notices: usize,
    step: usize,
    /// Public ids of past and present clients.
    ids: Vec<String>,
}

impl World {
    pub fn new(setup: Setup, random: Random) -> World {
        let network = Network::new(setup.shards, random);
        let (node, control) = Node::new(&setup, network);
        World {
            setup,
            node,
            control,
            clients: Vec::new(),
            truth: Truth::default(),
            notices: 0,
            step: 0,
            ids: Vec::new(),
        }
    }

    /// Adds a client. Returns its number.
    pub fn add(&mut self, speech: Speech) -> usize {
        let number = self.clients.len();
        self.clients.push(Client::new(number, speech));
        number
    }

    /// Runs a function on the scene, the clients and control.
    pub fn with<T>(
        &mut self,
        act: impl FnOnce(&mut Scene<'_>, &mut Vec<Client>, &mut Control) -> T,
    ) -> T {
        let mut network = self.node.network.borrow_mut();
        let (truth, setup) = (&mut self.truth, &self.setup);
        let mut scene = Scene { network: &mut network, truth, setup, notices: 0 };
        let result = act(&mut scene, &mut self.clients, &mut self.control);
        self.notices += scene.notices;
        result
    }

    pub fn with_client<T>(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut Client, &mut Scene<'_>) -> T,
    ) -> T {
        self.with(|scene, clients, _| act(&mut clients[number], scene))
    }

    pub fn with_network<T>(&mut self, act: impl FnOnce(&mut Network) -> T) -> T {
        act(&mut self.node.network.borrow_mut())
    }

    pub fn advance(&mut self, by: Duration) {
        self.with_network(|network| network.advance(by));
    }

    /// Plays one step of a random schedule.
    pub fn step(&mut self) {
        self.step += 1;
        let chance = self.with_network(|network| network.random.below(100));
        match chance {
            0..40 => self.step_shard(),
            40..50 => self.step_network(),
            50..85 => {
                let number = self.with_network(|network| network.random.number());
                self.act(number as usize % self.clients.len());
            }
            85..95 => {
                let ids = std::mem::take(&mut self.ids);
                self.with(|scene, _, control| {
                    if scene.chance(60) {
                        control.act(scene, &ids);
                    } else {
                        control.turn(scene);
                    }
                });
                self.ids = ids;
            }
            _ => self.step_time(),
        }
        self.check();
    }

    fn step_shard(&mut self) {
        let shards = self.setup.shards;
        let (shard, stall) = self.with_network(|network| {
            let shard = network.random.below(shards);
            (shard, network.random.rarely(8).then(|| network.random.between(20, 150)))
        });
        if let Some(stall) = stall {
            self.node.runners[shard].stalled_until = self.step + stall;
        }
        if self.node.runners[shard].stalled_until <= self.step {
            self.with_network(|network| network.deliver(shard));
            self.node.run(shard, &self.setup);
        }
    }

    fn step_network(&mut self) {
        let clients = self.clients.len();
        let (client, fault) =
            self.with_network(|network| (network.random.below(clients), network.random.below(100)));
        match (self.clients[client].link, fault) {
            (Some(link), 0..4) => self.with_network(|network| network.end_watch(link)),
            (Some(_), 4..5) => self.with_client(client, |client, scene| client.reset(scene)),
            _ => (0..self.setup.shards).for_each(|shard| {
                self.with_network(|network| network.deliver(shard));
            }),
        }
    }

    fn step_time(&mut self) {
        self.with_network(|network| {
            let long = network.random.rarely(30);
            let millis = network.random.between(1, if long { 3000 } else { 60 });
            network.advance(Duration::from_millis(millis as u64));
        });
    }

    /// Lets a client act once.
    pub fn act(&mut self, number: usize) {
        self.with_client(number, |client, scene| client.act(scene));
        if let Speech::Centrifugo(centrifugo) = &self.clients[number].speech
            && let Some(id) = &centrifugo.client
            && self.ids.last() != Some(id)
        {
            self.ids.push(id.clone());
        }
    }

    /// Checks invariants that hold at every moment.
    pub fn check(&self) {
        self.node.check_wakes();
        assert!(!self.control.is_lost(), "control sleeps, and an answer waits for it");
    }

    /// Plays a round in which everything has a turn, and all events arrive.
    pub fn round(&mut self, by: Duration) {
        self.advance(by);
        for number in 0..self.clients.len() {
            self.act(number);
        }
        for shard in 0..self.setup.shards {
            self.with_network(|network| network.deliver(shard));
            self.node.run(shard, &self.setup);
            self.node.run(shard, &self.setup);
        }
        self.with(|scene, _, control| control.turn(scene));
        self.check();
    }

    /// Plays rounds until `done` returns true.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub fn until(&mut self, what: &str, done: impl Fn(&mut World) -> bool) {
        const ROUND: Duration = Duration::from_millis(30);
        for _ in 0..2000 {
            if done(self) {
                return;
            }
            self.round(ROUND);
        }
        panic!("after a minute, this is still false: {what}: {}", self.describe());
    }

    /// Plays rounds for some time.
    pub fn pass(&mut self, time: Duration) {
        const ROUND: Duration = Duration::from_millis(50);
        for _ in 0..time.as_millis().div_ceil(ROUND.as_millis()) {
            self.round(ROUND);
        }
    }

    /// Ends all faults. From now on, all clients behave.
    pub fn calm(&mut self) {
        self.with_network(Network::calm);
        for runner in &mut self.node.runners {
            runner.stalled_until = 0;
        }
        self.with(|scene, clients, _| {
            for client in clients {
                // The client has broken the protocol or left pings unanswered, which can't be
                // undone.
                if client.tainted || !client.habits.pongs {
                    client.reset(scene);
                }
                client.habits = Habits::healthy();
            }
        });
    }

    /// Whether no client and no request waits for anything.
    pub fn is_settled(&mut self) -> bool {
        let clients = self.clients.iter().all(|client| {
            let connected = client.is_open() && !client.leaving && !client.tainted;
            let served = match &client.speech {
                Speech::Centrifugo(centrifugo) => {
                    let has = |channel| centrifugo.subscribed.contains_key(channel);
                    !centrifugo.is_waiting() && centrifugo.wanted.iter().all(has)
                }
                Speech::Plain(_) => true,
            };
            connected && served && client.outgoing.is_empty() && !client.finished
        });
        clients && self.served() == self.clients.len() && self.is_silent()
    }

    /// Returns the number of connections that the shards serve, except those being closed.
    fn served(&self) -> usize {
        let served = |counters: &ShardCounters| -> u64 {
            counters.connections.iter().map(|connections| connections.value()).sum()
        };
        self.node.runners.iter().map(|runner| served(&runner.counters) as usize).sum()
    }

    /// Whether nothing is on its way, all shards sleep, and none of them has work for its next
    /// tick.
    pub fn is_silent(&self) -> bool {
        let network = self.node.network.borrow();
        let closed = |link: &LinkId| network.is_closed(*link);
        let abandoned = self.clients.iter().all(|client| client.abandoned.iter().all(closed));
        let empty = |client: &Client| client.link.is_none_or(|link| !network.has_bytes(link));
        let waits = |shard: usize| self.node.runners[shard].shard.histories_waiting() > 0;
        abandoned
            && network.is_quiet()
            && self.clients.iter().all(empty)
            && (0..self.setup.shards).all(|shard| self.node.is_asleep(shard) && !waits(shard))
            && self.control.waiting() == 0
    }

    fn describe(&mut self) -> String {
        let mut lines = Vec::new();
        for client in &self.clients {
            let asked = match &client.speech {
                Speech::Centrifugo(centrifugo) => format!("{:?}", centrifugo.asked()),
                Speech::Plain(_) => "plain".to_owned(),
            };
            lines.push(format!(
                "client {}: {:?} {:?} tainted {} leaving {} finished {} unsent {} abandoned {} \
                 {asked}",
                client.number,
                client.link,
                client.stage,
                client.tainted,
                client.leaving,
                client.finished,
                client.outgoing.len(),
                client.abandoned.len(),
            ));
        }
        for shard in 0..self.setup.shards {
            let count = self.node.runners[shard].shard.connections_count();
            lines.push(format!(
                "shard {shard}: {count} open, asleep {}",
                self.node.is_asleep(shard)
            ));
        }
        lines.push(format!("control waits for {}", self.control.waiting()));
        lines.join("\n")
    }
}
