//! The shards of a simulated node. Each is awake or asleep, with the protocol of the real turn
//! loop.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use corecast::ids::ShardId;
use corecast::mesh::{Address, Inbox, Lane, Outbound, ShardLane, ShardMail};
use corecast::metrics::ShardCounters;
use corecast::readiness::{Phase, Readiness};
use corecast::secret::NodeSecret;
use corecast::shard::{Identity, OutboxLeases, Parts, Shard};
use corecast::subnets::Subnets;

use super::control::{Bell, Control};
use super::memory::Memory;
use super::network::Network;
use super::scene::trace;
use super::setup::Setup;
use super::sockets::SimSockets;

/// A small number, so that some subnets share a row.
const SUBNET_ROWS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Awake,
    /// It has announced that it will sleep, but has not checked its kernel yet.
    Dozing,
    Asleep,
}

pub struct Runner {
    pub shard: Shard<SimSockets>,
    pub counters: Arc<ShardCounters>,
    memory: Memory,
    bell: Bell,
    state: State,
    /// It does not run before this step.
    pub stalled_until: usize,
}

pub struct Node {
    pub network: Rc<RefCell<Network>>,
    pub runners: Vec<Runner>,
    pub subnets: Arc<Subnets>,
    outboxes: OutboxLeases,
    /// Number of memory blocks for outboxes of the whole node.
    outbox_blocks: usize,
}

impl Node {
    /// Creates the shards, and the control thread with its lanes to them.
    pub fn new(setup: &Setup, network: Network) -> (Node, Control) {
        let network = Rc::new(RefCell::new(network));
        let (inboxes, addresses): (Vec<_>, Vec<_>) =
            (0..setup.shards).map(|_| Inbox::new(setup.inbox_batches)).unzip();
        let (control_inbox, control_address) = Inbox::new(setup.inbox_batches);
        let bells: Vec<Bell> = (0..=setup.shards).map(|_| Bell::default()).collect();
        let lanes = || -> Vec<ShardLane> {
            let pairs = addresses.iter().zip(&bells);
            let lane = |(address, bell): (&Address<ShardMail>, &Bell)| {
                ShardLane::with_spill(address.clone(), Box::new(bell.clone()), setup.spill_bytes)
            };
            pairs.map(lane).collect()
        };
        let outbound = || {
            let bell = Box::new(bells[setup.shards].clone());
            Outbound::new(lanes(), Lane::new(control_address.clone(), bell), None)
        };
        let identity = Identity::new(&NodeSecret::new([1; 16]));
        let control_bell = bells[setup.shards].clone();
        let control = Control::new(control_inbox, control_bell, lanes(), identity.clone());
        let readiness = Arc::new(Readiness::new(Vec::new(), None, usize::MAX));
        readiness.set_phase(Phase::Serving);
        let subnets = Arc::new(Subnets::new(SUBNET_ROWS));
        let outboxes = OutboxLeases::new(setup.outboxes_bytes, setup.shards);
        let outbox_blocks = outboxes.blocks_left();
        let mut runners = Vec::new();
        let pools = setup.pools();
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let counters: Arc<ShardCounters> = Arc::default();
            let seed = network.borrow_mut().random.number();
            let shard = Shard::new(
                inbox,
                Parts {
                    id: ShardId::new(index),
                    options: setup.options.clone(),
                    sockets: SimSockets::new(index, Rc::clone(&network)),
                    outbound: outbound(),
                    pools: pools.clone(),
                    home_map: setup.home_map.clone(),
                    identity: identity.clone(),
                    counters: Arc::clone(&counters),
                    subnets: Arc::clone(&subnets),
                    readiness: Arc::clone(&readiness),
                    outboxes: outboxes.clone(),
                    seed,
                },
            );
            let (bell, state) = (bells[index].clone(), State::Awake);
            let memory = Memory::default();
            runners.push(Runner { shard, counters, memory, bell, state, stalled_until: 0 });
        }
        (Node { network, runners, subnets, outboxes, outbox_blocks }, control)
    }

    /// Runs a shard until it has nothing to do or a turn has passed.
    pub fn run(&mut self, index: usize, setup: &Setup) {
        let runner = &mut self.runners[index];
        match runner.state {
            State::Awake => {}
            State::Dozing => {
                if runner.shard.sockets().prepare_sleep() {
                    runner.state = State::Asleep;
                    return;
                }
                runner.shard.inbox().woke();
            }
            State::Asleep => {
                if !runner.bell.is_rung() && !self.network.borrow().has_news(index) {
                    return;
                }
                runner.bell.clear();
                runner.shard.inbox().woke();
            }
        }
        runner.state = State::Awake;
        trace(|| format!("shard {index} turns"));
        let more = runner.shard.turn();
        self.accept(index);
        let runner = &mut self.runners[index];
        if !more && runner.shard.inbox().prepare_sleep() {
            runner.state = State::Dozing;
        }
        runner.memory.check(&mut runner.shard, &runner.counters, setup);
        self.check_leases();
        let in_use = |runner: &Runner| runner.counters.channels_in_use.value() as usize;
        let in_use: usize = self.runners.iter().map(in_use).sum();
        assert!(in_use <= setup.channels_max, "{in_use} channels in use");
        let keys = |runner: &Runner| runner.counters.idempotency_bytes.value() as usize;
        let keys: usize = self.runners.iter().map(keys).sum();
        assert!(keys <= setup.idempotency_bytes, "{keys} B of idempotency keys");
        let connections = self.runners.iter().map(|runner| runner.shard.connections_count());
        let (connections, counted) = (connections.sum::<usize>(), self.subnets.connections());
        assert!(counted <= connections, "{counted} of {connections} connections have a subnet");
    }

    /// # Panics
    /// If the outbox counts of a shard are wrong, or differ from its lease.
    fn check_leases(&mut self) {
        let mut leased = 0;
        for (index, runner) in self.runners.iter_mut().enumerate() {
            let (errors, blocks) = runner.shard.audit_outboxes();
            assert_eq!(errors, 0, "shard {index} counts the memory of its outboxes wrong");
            leased += blocks;
        }
        let left = self.outboxes.blocks_left();
        assert_eq!(leased + left, self.outbox_blocks, "{leased} blocks leased, {left} left");
    }

    fn accept(&mut self, index: usize) {
        let shard = &mut self.runners[index].shard;
        loop {
            let accepted = self.network.borrow_mut().accept(index);
            let Some((socket, subnet)) = accepted else { return };
            if shard.is_draining() || !shard.on_accept(socket, subnet) {
                self.network.borrow_mut().refuse(index, socket);
            }
        }
    }

    /// Whether a shard sleeps and has no work left.
    pub fn is_asleep(&self, index: usize) -> bool {
        let runner = &self.runners[index];
        runner.state == State::Asleep
            && !runner.shard.is_behind()
            && runner.shard.gap_notices_due_count() == 0
            && !runner.bell.is_rung()
            && !self.network.borrow().has_news(index)
    }

    /// # Panics
    /// If a shard sleeps although a batch waits, and no wake is pending.
    pub fn check_wakes(&self) {
        for (index, runner) in self.runners.iter().enumerate() {
            let sleeps = runner.state == State::Asleep && !runner.bell.is_rung();
            assert!(
                !sleeps || runner.shard.inbox().is_empty(),
                "shard {index} sleeps, and a batch waits for it"
            );
        }
    }
}
