//! One node: real shards, a real bus between them, a model of the shell around the bus, and an
//! application that publishes through the API.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corecast::bus::{self, Engine};
use corecast::channel::{ChannelName, HistoryUse, Publication, check_payload};
use corecast::ids::{Moment, ShardId};
use corecast::limits::{BUS_PUBLISH_DEADLINE, RETRY_INTERVAL};
use corecast::mesh::{
    Address, Answer, Asker, History, Inbox, Lane, Outbound, Page, Publish, Reader, ShardLane,
    ShardMail, Ticket, ToBridge, ToBus, ToControl, ToHome,
};
use corecast::metrics::{BridgeCounters, ShardCounters};
use corecast::protocol::HistoryPage;
use corecast::readiness::{Phase, Readiness};
use corecast::reason::ClientError;
use corecast::secret::NodeSecret;
use corecast::shard::{Identity, OutboxLeases, Parts, Shard};
use corecast::subnets::Subnets;

use super::log::log;
use super::record::{Fate, Record};
use super::redis::Redis;
use super::setup::BusSetup;
use super::shell::Shell;
use crate::sim::control::Bell;
use crate::sim::network::Network;
use crate::sim::sockets::SimSockets;
use crate::sim::truth::Place;

enum Asked {
    /// A try, and the node's running time at its start.
    Publish(usize, Duration),
    History(usize),
}

pub struct Node {
    pub number: usize,
    pub life: usize,
    desk: usize,
    pub shards: Vec<Shard<SimSockets>>,
    pub counters: Vec<Arc<ShardCounters>>,
    pub bridge_counters: Arc<BridgeCounters>,
    pub shell: Shell,
    control_inbox: Inbox<ToControl>,
    /// Control's lanes to the shards and to the bridge.
    lanes: Vec<ShardLane>,
    bridge: Lane<ToBridge>,
    next_ticket: u64,
    asked: BTreeMap<u64, Asked>,
    /// The tops of channels as reported by their homes; `None` if a home could not tell.
    pub tops: BTreeMap<usize, Option<Place>>,
    /// The process is paused until this time.
    pub paused_until: Moment,
    /// Running time of the node. Of a long step, only a part counts, because no thread has a turn
    /// in it.
    pub ran: Duration,
    stepped: Moment,
}

impl Node {
    pub fn new(
        setup: &BusSetup,
        network: &Rc<RefCell<Network>>,
        (number, life): (usize, usize),
    ) -> Node {
        let shards = setup.node.shards;
        let (inboxes, addresses): (Vec<_>, Vec<_>) =
            (0..shards).map(|_| Inbox::new(setup.node.inbox_batches)).unzip();
        // Control and the bridge have inboxes of the usual size.
        let (control_inbox, control_address) = Inbox::new(64);
        let (bridge_inbox, bridge_address) = Inbox::new(64);
        let bell = || Box::new(Bell::default());
        let shard_lanes = || -> Vec<ShardLane> {
            let spill = setup.node.spill_bytes;
            let lane = |address: &Address<ShardMail>| {
                ShardLane::with_spill(address.clone(), bell(), spill)
            };
            addresses.iter().map(lane).collect()
        };
        let bridge_lane = || Lane::new(bridge_address.clone(), bell());
        let outbound = |bridge| {
            Outbound::new(shard_lanes(), Lane::new(control_address.clone(), bell()), bridge)
        };
        let desk = setup.desk(number, life);
        let identity = Identity::new(&NodeSecret::new((desk as u128).to_le_bytes()));
        let counters: Vec<Arc<ShardCounters>> = (0..shards).map(|_| Arc::default()).collect();
        let readiness = Arc::new(Readiness::new(Vec::new(), None, usize::MAX));
        readiness.set_phase(Phase::Serving);
        let subnets = Arc::new(Subnets::new(8));
        let outboxes = OutboxLeases::new(1 << 30, shards);
        let mut all = Vec::new();
        let pools = setup.node.pools();
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let seed = network.borrow_mut().random.number();
            let parts = Parts {
                id: ShardId::new(index),
                options: setup.node.options.clone(),
                sockets: SimSockets::new(desk + index, Rc::clone(network)),
                outbound: outbound(Some(bridge_lane())),
                pools: pools.clone(),
                home_map: setup.node.home_map.clone(),
                identity: identity.clone(),
                counters: Arc::clone(&counters[index]),
                subnets: Arc::clone(&subnets),
                readiness: Arc::clone(&readiness),
                outboxes: outboxes.clone(),
                seed,
            };
            all.push(Shard::new(inbox, parts));
        }
        let options = bus::Options {
            settings: Arc::clone(&setup.node.options.settings),
            home_map: setup.node.home_map.clone(),
            seed: network.borrow_mut().random.number(),
        };
        let bridge_counters: Arc<BridgeCounters> = Arc::default();
        let engine = Engine::new(options, outbound(None), Arc::clone(&bridge_counters));
        Node {
            number,
            life,
            desk,
            shards: all,
            counters,
            bridge_counters,
            shell: Shell::new(number, setup.streams, engine, bridge_inbox),
            control_inbox,
            lanes: shard_lanes(),
            bridge: bridge_lane(),
            next_ticket: 0,
            asked: BTreeMap::new(),
            tops: BTreeMap::new(),
            paused_until: Moment::default(),
            ran: Duration::ZERO,
            stepped: network.borrow().now(),
        }
    }

    /// Whether it accepts clients.
    pub fn is_ready(&self) -> bool {
        self.shell.engine.is_loaded()
    }

    /// Returns the desk of one of its shards.
    pub fn desk(&self, shard: usize) -> usize {
        self.desk + shard
    }

    pub fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// Lets each thread run once with some probability, or always if `calm`.
    pub fn step(
        &mut self,
        (setup, network, redis): (&BusSetup, &Rc<RefCell<Network>>, &mut Redis),
        record: &mut Record,
        calm: bool,
    ) {
        let now = network.borrow().now();
        let passed = now.since(std::mem::replace(&mut self.stepped, now));
        if self.paused_until > now {
            return;
        }
        self.ran += passed.min(RETRY_INTERVAL);
        let has_turn = || calm || network.borrow_mut().random.chance(70);
        for index in 0..self.shards.len() {
            if has_turn() {
                network.borrow_mut().deliver(self.desk + index);
                self.shards[index].turn();
                self.accept(network, index);
            }
        }
        if has_turn() {
            self.shell.step(redis, now);
        }
        if has_turn() {
            self.step_control(setup, record);
        }
    }

    fn accept(&mut self, network: &Rc<RefCell<Network>>, index: usize) {
        loop {
            let accepted = network.borrow_mut().accept(self.desk + index);
            let Some((socket, subnet)) = accepted else { return };
            assert!(self.shards[index].on_accept(socket, subnet), "there is room");
        }
    }

    fn step_control(&mut self, setup: &BusSetup, record: &mut Record) {
        self.lanes.iter_mut().for_each(ShardLane::flush);
        self.bridge.flush();
        while let Some(batch) = self.control_inbox.take() {
            for message in batch {
                match message {
                    ToControl::Answer { ticket, answer } => {
                        self.on_answer(setup, record, (ticket, answer));
                    }
                    ToControl::DeliveryTimes(_) | ToControl::Stalled(_) => {}
                    other @ ToControl::Remote { .. } => panic!("no other node: {other:?}"),
                }
            }
        }
        for asked in self.asked.values() {
            let Asked::Publish(number, began) = asked else { continue };
            let waited = self.ran - *began;
            let most = BUS_PUBLISH_DEADLINE + 10 * RETRY_INTERVAL;
            assert!(waited < most, "publication {number} waits for its answer since {waited:?}");
        }
    }

    /// Records a request, and returns its asker.
    fn ask(&mut self, asked: Asked) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.asked.insert(ticket, asked);
        Ticket(ticket)
    }

    /// Sends a request to the bus, if there is room.
    fn ask_bus(&mut self, asked: Asked, make: impl FnOnce(Ticket) -> ToBus) -> bool {
        self.bridge.flush();
        if self.bridge.is_behind() {
            return false;
        }
        let message = make(self.ask(asked));
        self.bridge.push(message.into());
        self.bridge.flush();
        true
    }

    /// Sends a request to a home, if there is room.
    fn ask_home(
        &mut self,
        shard: ShardId,
        asked: Asked,
        make: impl FnOnce(Ticket) -> ToHome,
    ) -> bool {
        let lane = &mut self.lanes[shard.index()];
        lane.flush();
        if lane.is_behind() {
            return false;
        }
        let message = make(self.ask(asked));
        let lane = &mut self.lanes[shard.index()];
        lane.push(message);
        lane.flush();
        true
    }

    /// Tries to publish a recorded attempt.
    pub fn publish(&mut self, setup: &BusSetup, record: &mut Record, now: Moment, number: usize) {
        let attempt = record.attempt(number);
        let setup = &setup.node.channels[attempt.channel];
        let data = check_payload(setup.namespace.data, &attempt.data).expect("it is in order");
        let tags = Box::default();
        let publication = Publication { data, offset: 0, publisher: None, tags, accepted: now };
        let idempotency_key = attempt.keyed.then(|| number.to_string().into());
        let channel = ChannelName::new(&setup.name);
        log(now, || format!("node {} is to publish {number}", self.number));
        let sent = self.ask_bus(Asked::Publish(number, self.ran), |ticket| {
            let (history, asker) = (HistoryUse::Keep, Asker::Control(ticket));
            let publish = Publish { channel, publication, history, idempotency_key, asker };
            ToBus::Publish(Box::new(publish))
        });
        if !sent {
            record.on_fate(number, Fate::Failed);
        }
    }

    /// Requests the whole history of a channel from its home.
    pub fn read(&mut self, setup: &BusSetup, channel: usize) -> bool {
        let name = &setup.node.channels[channel].name;
        let home = setup.node.home_map.home(name);
        let name = ChannelName::new(name);
        let page = HistoryPage { limit: -1, since: None, reverse: false };
        self.ask_home(home, Asked::History(channel), |ticket| {
            let history = History {
                channel: name,
                page,
                publications_max: 1_000_000,
                bytes_max: usize::MAX,
                confirmed: true,
                unserved: None,
                reader: Reader::Control(ticket),
            };
            ToHome::History(Box::new(history))
        })
    }

    fn on_answer(
        &mut self,
        setup: &BusSetup,
        record: &mut Record,
        (ticket, answer): (Ticket, Answer),
    ) {
        let asked = self.asked.remove(&ticket.0).expect("an answer to a question, once");
        match (asked, answer) {
            (Asked::Publish(number, _), Answer::Published(position)) => {
                let channel = &setup.node.channels[record.attempt(number).channel];
                let place = position.map(|at| Place { epoch: at.epoch.value(), offset: at.offset });
                assert!(place.is_none() || channel.has_history(), "it shows no positions");
                record.on_fate(number, Fate::Acked(place));
            }
            (Asked::Publish(number, _), Answer::Error(ClientError::ResultUnknown)) => {
                record.on_fate(number, Fate::Unknown);
            }
            (Asked::Publish(number, _), Answer::Error(ClientError::BusUnavailable)) => {
                record.on_fate(number, Fate::Failed);
            }
            (Asked::History(channel), Answer::Page(Page { publications, top, .. })) => {
                let top = Place { epoch: top.epoch.value(), offset: top.offset };
                let first = top.offset + 1 - publications.len() as u64;
                for (publication, offset) in publications.iter().zip(first..) {
                    assert_eq!(publication.offset, offset, "a history ends at the top");
                    let place = Place { epoch: top.epoch, offset };
                    if setup.node.channels[channel].namespace.durable_history {
                        record.kept(channel, &publication.data, place);
                    } else {
                        record.received(channel, &publication.data, Some(place));
                    }
                }
                self.tops.insert(channel, Some(top));
            }
            (Asked::History(channel), Answer::Error(ClientError::BusAway)) => {
                self.tops.insert(channel, None);
            }
            (_, other) => panic!("this answers no question: {other:?}"),
        }
    }

    /// Ends the process with all its pending requests.
    pub fn kill(mut self, redis: &mut Redis, record: &mut Record) {
        self.shell.end(redis);
        for asked in self.asked.into_values() {
            if let Asked::Publish(number, _) = asked {
                record.on_fate(number, Fate::Unknown);
            }
        }
    }

    /// Returns the number of reasons that it had to tell clients about a gap.
    pub fn causes(&self) -> u64 {
        let counters = &self.bridge_counters;
        let dropped: u64 =
            self.counters.iter().flat_map(|one| &one.drops).map(|one| one.value()).sum();
        counters.holes.value() + counters.epoch_changes.value() + counters.dropped.value() + dropped
    }
}

/// Longer than any answer takes.
pub const LONG: Duration = Duration::from_secs(8);
