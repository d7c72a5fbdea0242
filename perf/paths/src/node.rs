//! The shards of a node in one thread with the settings of `--dev`, and clients and a publisher.

use crate::pure::{CONNECT, SUBSCRIBE, UPGRADE, masked, payload};
use crate::sockets::Accepting;
use corecast::channel::{ChannelName, HistoryUse, Publication};
use corecast::config::{Flags, load};
use corecast::ids::{Moment, ShardId};
use corecast::mesh::{
    Asker, HomeMap, Inbox, Lane, Outbound, Publish, ShardLane, Ticket, ToControl, ToHome, Wake,
};
use corecast::metrics::ShardCounters;
use corecast::readiness::{Phase, Readiness};
use corecast::secret::NodeSecret;
use corecast::shard::{Identity, Options, OutboxLeases, Parts, Pools, Shard};
use corecast::subnets::{Subnet, Subnets};
use std::sync::Arc;

const CHANNEL: &str = "bench";

/// Ticks per second.
const SECOND_TICKS: usize = 10;

/// The protocol of clients.
#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    Centrifugo,
    Plain,
}

impl Protocol {
    /// Returns the messages of a client until it is subscribed, one for each receive.
    fn words(self) -> Vec<Vec<u8>> {
        match self {
            Protocol::Centrifugo => {
                vec![UPGRADE.to_vec(), [masked(CONNECT), masked(SUBSCRIBE)].concat()]
            }
            Protocol::Plain => {
                let text = String::from_utf8(UPGRADE.to_vec()).expect("ASCII");
                vec![text.replace("/connection/websocket", "/ws?channels=bench").into_bytes()]
            }
        }
    }
}

/// A wake for threads that never sleep.
#[derive(Debug)]
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

/// Shards, and control's ends of their lanes.
pub(crate) struct Node {
    shards: Vec<Shard<Accepting>>,
    counters: Vec<Arc<ShardCounters>>,
    control: Inbox<ToControl>,
    lanes: Outbound,
    home: ShardId,
}

impl Node {
    /// Creates a node with this number of shards and no clients.
    pub(crate) fn new(count: usize) -> Node {
        let flags = Flags { dev: true, ..Flags::default() };
        let loaded = load(&flags, []).expect("the settings of --dev are valid");
        let settings = Arc::new(loaded.settings);
        let (inboxes, addresses): (Vec<_>, Vec<_>) =
            (0..count).map(|_| Inbox::with_default_size()).unzip();
        let (control, control_address) = Inbox::with_default_size();
        let lanes = || {
            let addresses = addresses.iter().cloned();
            let shards = addresses.map(|address| ShardLane::new(address, Box::new(Awake)));
            let control = Lane::new(control_address.clone(), Box::new(Awake));
            Outbound::new(shards.collect(), control, None)
        };
        let home_map = HomeMap::new(&NodeSecret::new([1; 16]), count);
        let pools = Pools::new(&settings, count);
        let identity = Identity::new(&NodeSecret::new([1; 16]));
        let counters: Vec<Arc<ShardCounters>> = (0..count).map(|_| Arc::default()).collect();
        let readiness = Arc::new(Readiness::new(Vec::new(), None, usize::MAX));
        readiness.set_phase(Phase::Serving);
        let outboxes = OutboxLeases::new(settings.client.outboxes_bytes_max, count);
        let subnets = Arc::new(Subnets::new(settings.server.max_connections));
        let shards = inboxes.into_iter().enumerate().map(|(index, inbox)| {
            Shard::new(
                inbox,
                Parts {
                    id: ShardId::new(index),
                    options: Options::new(&settings, count),
                    sockets: Accepting::default(),
                    outbound: lanes(),
                    pools: pools.clone(),
                    home_map: home_map.clone(),
                    identity: identity.clone(),
                    counters: Arc::clone(&counters[index]),
                    subnets: Arc::clone(&subnets),
                    readiness: Arc::clone(&readiness),
                    outboxes: outboxes.clone(),
                    seed: index as u64,
                },
            )
        });
        let (shards, home) = (shards.collect(), home_map.home(CHANNEL));
        Node { shards, counters, control, lanes: lanes(), home }
    }

    /// Connects and subscribes clients, all at once, and evenly on all shards.
    pub(crate) fn connect(&mut self, clients: usize, protocol: Protocol) {
        let words = protocol.words();
        for (index, shard) in self.shards.iter_mut().enumerate() {
            let share =
                clients / self.counters.len() + usize::from(index < clients % self.counters.len());
            for _ in 0..share {
                let socket = shard.sockets().open();
                let subnet = Subnet::of_ipv4([10, 0, 0, 1]);
                assert!(shard.on_accept(socket, subnet), "there is room");
            }
        }
        for word in &words {
            for shard in &mut self.shards {
                let sockets = shard.sockets();
                (0..sockets.count()).for_each(|index| sockets.say(index, word));
            }
            self.run();
        }
        let subscribed: u64 =
            self.counters.iter().map(|counters| counters.subscriptions.value()).sum();
        assert_eq!(subscribed, clients as u64, "all are subscribed");
        self.take_writes();
    }

    /// Publishes through the API's entrance in one batch, and delivers.
    pub(crate) fn publish(&mut self, publications: usize) {
        for _ in 0..publications {
            let publish = Publish {
                channel: ChannelName::new(CHANNEL),
                publication: Publication {
                    data: payload(),
                    offset: 0,
                    publisher: None,
                    tags: Box::default(),
                    accepted: Moment::default(),
                },
                history: HistoryUse::Keep,
                idempotency_key: None,
                asker: Asker::Control(Ticket(0)),
            };
            self.lanes.shard(self.home).push(ToHome::Publish(Box::new(publish)));
        }
        self.lanes.flush();
        self.run();
    }

    /// Advances simulated time with heartbeats only. Returns the number of connections multiplied
    /// by the idle seconds.
    pub(crate) fn idle(&mut self, seconds: usize) -> usize {
        let pong = masked(b"{}");
        self.shards.iter_mut().for_each(|shard| shard.sockets().answer_pings(pong.clone()));
        for _ in 0..seconds * SECOND_TICKS {
            self.shards.iter_mut().for_each(|shard| shard.sockets().tick());
            self.run();
        }
        self.shards.iter_mut().for_each(|shard| shard.sockets().answer_pings(Vec::new()));
        self.take_writes();
        let connections: usize = self.shards.iter().map(Shard::connections_count).sum();
        connections * seconds
    }

    /// Returns the number of deliveries so far, counted once for each subscriber.
    pub(crate) fn deliveries(&self) -> usize {
        self.counters.iter().map(|counters| counters.deliveries.value() as usize).sum()
    }

    /// Returns the number of writes since the last call.
    pub(crate) fn take_writes(&mut self) -> usize {
        self.shards.iter_mut().map(|shard| shard.sockets().take_writes()).sum()
    }

    /// Runs turns of all shards until none has anything to do.
    fn run(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for shard in &mut self.shards {
                busy |= shard.turn();
            }
            // The last shard may have sent a message to the first one.
            busy |= self.shards.iter().any(|shard| !shard.inbox().is_empty());
            while self.control.take().is_some() {}
        }
    }
}
