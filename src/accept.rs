//! Takes new sockets from the listener, within the limits of rate and number, and survives the
//! want of descriptors: it pauses, keeps one in reserve to tell clients, and says so once a second.

mod pace;
mod waiting;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::handshake::{Unavailable, unavailable};
use crate::ids::Moment;
use crate::limits::{
    ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN, ACCEPT_TAKES_PER_SECOND, ACCEPT_WAITING_EXEMPT_MAX,
    ACCEPT_WAITING_MAX, LEASE_CONNECTIONS_MAX, PAUSE_REFUSALS_MAX, TURN_ACCEPTS_MAX,
};
use crate::metrics::ShardCounters;
use crate::readiness::Phase;
use crate::shard::Shard;
use crate::subnets::Subnet;
use crate::sys::{
    Accepted, Driver, Listener, ListenerOptions, SpareDescriptor, SysError, is_reset, refuse,
};
use pace::Pace;
use waiting::{Client, Waiting};

/// Connections of the node that no shard has leased yet.
#[derive(Clone, Debug)]
pub struct Leases {
    left: Arc<AtomicUsize>,
    block: usize,
}

impl Leases {
    /// Leases for `connections_max` connections of `shards` shards.
    pub fn new(connections_max: usize, shards: usize) -> Leases {
        let block = (connections_max / (8 * shards)).clamp(1, LEASE_CONNECTIONS_MAX);
        Leases { left: Arc::new(AtomicUsize::new(connections_max)), block }
    }

    /// Takes a block; answers how many connections are in it.
    fn take(&self) -> usize {
        let update = |left: usize| (left > 0).then(|| left.saturating_sub(self.block));
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(before) => before.min(self.block),
            Err(_) => 0,
        }
    }

    fn give_back(&self) {
        self.left.fetch_add(self.block, Ordering::Relaxed);
    }
}

/// What an acceptor must be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub addresses: Vec<SocketAddr>,
    /// How client sockets behave.
    pub listener: ListenerOptions,
    /// Most accepts in a second, for this shard.
    pub rate: u32,
    /// The node's connections.
    pub leases: Leases,
}

impl Options {
    /// Clients that may wait in a shard whose table has room for so many more sockets: no more than
    /// are let in within a second, so that nobody waits for longer.
    fn waiting_max(&self, places_left: usize) -> usize {
        ACCEPT_WAITING_MAX.min(self.rate as usize).min(places_left)
    }
}

/// A shard's listeners.
pub struct Acceptor {
    options: Options,
    listeners: Vec<Listener>,
    /// The listener that was last accepted from.
    at: usize,
    spare: SpareDescriptor,
    counters: Arc<ShardCounters>,
    /// Clients may be waiting.
    pending: bool,
    paused_until: Moment,
    pause: Duration,
    logged: Moment,
    failures: u64,
    /// The last accept failed for want of descriptors or memory, and nothing has shown since that
    /// another one would not.
    exhausted: bool,
    /// Clients that may be let in.
    admissions: Pace,
    /// Sockets that may be taken from the kernel's queue, let in or not.
    takes: Pace,
    waiting: Waiting,
    leased: usize,
}

impl Acceptor {
    /// Listens on all addresses, with `driver` watching.
    ///
    /// # Errors
    /// The kernel's, for the first address that can't be listened on.
    pub fn new(
        options: Options,
        counters: Arc<ShardCounters>,
        driver: &mut impl Driver,
    ) -> Result<Acceptor, SysError> {
        let mut acceptor = Acceptor {
            admissions: Pace::new(options.rate),
            takes: Pace::new(ACCEPT_TAKES_PER_SECOND),
            waiting: Waiting::default(),
            options,
            listeners: Vec::new(),
            at: 0,
            spare: SpareDescriptor::new(),
            counters,
            pending: false,
            paused_until: Moment::default(),
            pause: ACCEPT_PAUSE_MIN,
            logged: Moment::default(),
            failures: 0,
            exhausted: false,
            leased: 0,
        };
        acceptor.listen(driver)?;
        Ok(acceptor)
    }

    fn listen(&mut self, driver: &mut impl Driver) -> Result<(), SysError> {
        for &address in &self.options.addresses {
            let listener = Listener::bind(address, self.options.listener)?;
            driver.watch_listener(&listener);
            self.listeners.push(listener);
        }
        self.pending = true;
        Ok(())
    }

    fn stop_listening(&mut self, driver: &mut impl Driver) {
        for listener in self.listeners.drain(..) {
            driver.forget_listener(&listener);
        }
    }

    /// Accepts what waits, within budgets. Returns whether more may be accepted at once.
    pub fn turn<D: Driver>(&mut self, shard: &mut Shard<D>) -> bool {
        self.pending |= shard.sockets().take_incoming();
        self.turn_listeners(shard);
        self.give_back(shard.connections_count());
        let now = shard.sockets().now();
        self.turn_exhausted(now);
        self.counters.full.set(u64::from(self.exhausted || shard.is_full()));
        if self.waiting.count() == 0 && (!self.pending || now < self.paused_until) {
            return false;
        }
        self.admissions.refill(now);
        self.takes.refill(now);
        self.turn_waiting(shard);
        if self.pending && now >= self.paused_until {
            self.turn_accept(shard, now);
        }
        self.may_take() && self.pending && now >= self.paused_until
            || self.waiting.count() > 0 && self.admissions.has_one()
    }

    /// Where nobody waits to be accepted, looks now and then whether somebody could be.
    fn turn_exhausted(&mut self, now: Moment) {
        if self.exhausted && !self.pending && now >= self.paused_until {
            self.exhausted = !SpareDescriptor::another_fits();
            self.paused_until = now.after(self.pause);
        }
    }

    /// Counts a client that is refused because there is no room.
    fn count_full(&self, now: Moment) {
        self.counters.handshakes_full.add(1);
        self.counters.refused_full_nanos.set(now.nanos());
    }

    /// Whether one more socket may be taken from the kernel's queue.
    fn may_take(&self) -> bool {
        // A proxy's crowd waits there, where nobody has to be refused.
        let exempt = self.waiting.queue_count(Subnet::EXEMPT);
        self.takes.has_one() && exempt < ACCEPT_WAITING_EXEMPT_MAX
    }

    /// Lets in those who wait, as far as the rate allows.
    fn turn_waiting<D: Driver>(&mut self, shard: &mut Shard<D>) {
        for _ in 0..TURN_ACCEPTS_MAX {
            if !self.admissions.has_one() {
                return;
            }
            let Some(client) = self.waiting.pop() else { return };
            self.offer(shard, client);
        }
    }

    /// Closes the listeners of a shard that is full or drains, so that the kernel sends clients to
    /// other shards; opens them again when there is room.
    fn turn_listeners<D: Driver>(&mut self, shard: &mut Shard<D>) {
        let open = !shard.is_draining() && !shard.is_full();
        if !open {
            if !self.listeners.is_empty() {
                self.stop_listening(shard.sockets());
            }
            while let Some(Client { socket, .. }) = self.waiting.pop() {
                if shard.is_draining() {
                    self.counters.handshakes_refused.add(1);
                    refuse(socket, &unavailable(Unavailable::Phase(Phase::Draining)));
                } else {
                    self.count_full(shard.sockets().now());
                    refuse(socket, &unavailable(Unavailable::Full));
                }
            }
        } else if self.listeners.is_empty()
            && shard.has_room_again()
            && shard.sockets().now() >= self.paused_until
            && let Err(error) = self.listen(shard.sockets())
        {
            self.stop_listening(shard.sockets());
            let now = shard.sockets().now();
            self.on_exhausted(now, &error);
        }
    }

    fn turn_accept<D: Driver>(&mut self, shard: &mut Shard<D>, now: Moment) {
        let mut budget = TURN_ACCEPTS_MAX;
        let mut quiet = 0;
        while quiet < self.listeners.len() {
            if budget == 0 || !self.may_take() {
                return;
            }
            // Where the last turn stopped: one busy address does not starve another.
            self.at = (self.at + 1) % self.listeners.len();
            match self.listeners[self.at].accept() {
                Accepted::Nobody => {
                    quiet += 1;
                    continue;
                }
                Accepted::Socket(socket, subnet) => self.receive(shard, Client { socket, subnet }),
                Accepted::Aborted => {}
                Accepted::Exhausted(error) => {
                    self.refuse_some(now);
                    return self.on_exhausted(now, &error);
                }
            }
            quiet = 0;
            budget -= 1;
            self.takes.take_one();
            self.pause = ACCEPT_PAUSE_MIN;
            self.exhausted = false;
        }
        self.pending = false;
    }

    /// Tells some of those who wait that there is no room, one after another in place of the
    /// descriptor in reserve.
    fn refuse_some(&mut self, now: Moment) {
        let answer = unavailable(Unavailable::Full);
        for _ in 0..PAUSE_REFUSALS_MAX {
            if !self.spare.refuse_one(&self.listeners[self.at], &answer) {
                return;
            }
            self.count_full(now);
        }
    }

    /// Lets a client in at once, or has it wait behind others.
    fn receive<D: Driver>(&mut self, shard: &mut Shard<D>, client: Client) {
        if self.admissions.has_one() && self.waiting.count() == 0 {
            return self.offer(shard, client);
        }
        if is_reset(client.socket.as_fd()) {
            return self.drop_reset(client);
        }
        let count_max = self.options.waiting_max(shard.places_left());
        if let Some(refused) = self.waiting.push(client, count_max) {
            self.counters.handshakes_busy.add(1);
            self.counters.refused_busy_nanos.set(shard.sockets().now().nanos());
            refuse(refused, &unavailable(Unavailable::Busy));
        }
    }

    /// Lets a client in. One that has given up meanwhile costs nothing of the rate; that is looked
    /// for where the rate has become scarce.
    fn offer<D: Driver>(&mut self, shard: &mut Shard<D>, client: Client) {
        if self.admissions.is_scarce() && is_reset(client.socket.as_fd()) {
            return self.drop_reset(client);
        }
        self.admissions.take_one();
        self.admit(shard, client);
    }

    fn drop_reset(&self, client: Client) {
        self.counters.handshakes_gone.add(1);
        drop(client);
    }

    fn admit<D: Driver>(&mut self, shard: &mut Shard<D>, client: Client) {
        let Client { socket, subnet } = client;
        if shard.connections_count() >= self.leased {
            self.leased += self.options.leases.take();
        }
        if shard.connections_count() >= self.leased || shard.is_full() {
            self.count_full(shard.sockets().now());
            return refuse(socket, &unavailable(Unavailable::Full));
        }
        let socket = shard.sockets().adopt(socket);
        let taken = shard.on_accept(socket, subnet);
        assert!(taken, "a shard that is not full takes a client");
    }

    fn give_back(&mut self, used: usize) {
        let block = self.options.leases.block;
        while self.leased >= used + 2 * block {
            self.leased -= block;
            self.options.leases.give_back();
        }
    }

    /// No descriptors or memory: the clients wait in the kernel's queue until the pause is over.
    fn on_exhausted(&mut self, now: Moment, error: &dyn std::error::Error) {
        self.counters.accept_errors.add(1);
        self.exhausted = true;
        self.failures += 1;
        self.paused_until = now.after(self.pause);
        self.pause = (self.pause * 2).min(ACCEPT_PAUSE_MAX);
        if now.since(self.logged) >= Duration::from_secs(1) || self.failures == 1 {
            self.logged = now;
            let failures = self.failures;
            tracing::warn!(%error, failures, "can't accept connections: raise the limit on open \
                files, or lower server.max_connections");
        }
    }
}
