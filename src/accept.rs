//! Takes new sockets from the listener, within the limits of rate and number, and survives the
//! want of descriptors: it pauses, keeps one in reserve to tell clients, and says so once a second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::handshake::full_response;
use crate::ids::Moment;
use crate::limits::{
    ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN, LEASE_CONNECTIONS_MAX, PAUSE_REFUSALS_MAX, TURN_ACCEPTS_MAX,
};
use crate::metrics::ShardCells;
use crate::shard::{Shard, Socket};
use crate::subnets::Subnet;
use crate::sys::{
    Accepted, Driver, Listener, ListenerOptions, SpareDescriptor, SysError, close_socket, refuse,
};

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

/// A shard's listeners.
pub struct Acceptor {
    options: Options,
    listeners: Vec<Listener>,
    /// The listener that was last accepted from.
    at: usize,
    spare: SpareDescriptor,
    cells: Arc<ShardCells>,
    /// Clients may be waiting.
    pending: bool,
    paused_until: Moment,
    pause: Duration,
    logged: Moment,
    failures: u64,
    /// Accepts that the rate still allows, and when that was so.
    allowance: f64,
    refilled: Moment,
    leased: usize,
}

impl Acceptor {
    /// Listens on all addresses, with `driver` watching.
    ///
    /// # Errors
    /// The kernel's, for the first address that can't be listened on.
    pub fn new(
        options: Options,
        cells: Arc<ShardCells>,
        driver: &mut impl Driver,
    ) -> Result<Acceptor, SysError> {
        let mut acceptor = Acceptor {
            allowance: f64::from(options.rate),
            options,
            listeners: Vec::new(),
            at: 0,
            spare: SpareDescriptor::new(),
            cells,
            pending: false,
            paused_until: Moment::default(),
            pause: ACCEPT_PAUSE_MIN,
            logged: Moment::default(),
            failures: 0,
            refilled: Moment::default(),
            leased: 0,
        };
        acceptor.listen(driver)?;
        Ok(acceptor)
    }

    fn listen(&mut self, driver: &mut impl Driver) -> Result<(), SysError> {
        for &address in &self.options.addresses {
            let listener = Listener::bind(address, self.options.listener)?;
            driver.watch_listener(listener.number());
            self.listeners.push(listener);
        }
        self.pending = true;
        Ok(())
    }

    fn stop_listening(&mut self, driver: &mut impl Driver) {
        for listener in self.listeners.drain(..) {
            driver.forget_listener(listener.number());
        }
    }

    /// Accepts what waits, within budgets. Answers whether more may be accepted at once.
    pub fn turn<D: Driver>(&mut self, shard: &mut Shard<D>) -> bool {
        self.pending |= shard.sockets().take_incoming();
        self.turn_listeners(shard);
        self.give_back(shard.connections_count());
        let now = shard.sockets().now();
        if !self.pending || now < self.paused_until {
            return false;
        }
        self.refill(now);
        self.turn_accept(shard, now);
        self.pending && now >= self.paused_until && self.allowance >= 1.0
    }

    /// Closes the listeners of a shard that is full or drains, so that the kernel sends clients to
    /// other shards; opens them again when there is room.
    fn turn_listeners<D: Driver>(&mut self, shard: &mut Shard<D>) {
        let open = !shard.is_draining() && !shard.is_full();
        if !open && !self.listeners.is_empty() {
            self.stop_listening(shard.sockets());
        } else if open
            && self.listeners.is_empty()
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
            if budget == 0 || self.allowance < 1.0 {
                return;
            }
            // Where the last turn stopped: one busy address does not starve another.
            self.at = (self.at + 1) % self.listeners.len();
            match self.listeners[self.at].accept() {
                Accepted::Nobody => {
                    quiet += 1;
                    continue;
                }
                Accepted::Socket(socket, subnet) => self.admit(shard, (socket, subnet)),
                Accepted::Aborted => {}
                Accepted::Exhausted(error) => {
                    self.refuse_some();
                    return self.on_exhausted(now, &error);
                }
            }
            quiet = 0;
            budget -= 1;
            self.allowance -= 1.0;
            self.pause = ACCEPT_PAUSE_MIN;
        }
        self.pending = false;
    }

    /// Tells some of those who wait that there is no room, one after another in place of the
    /// descriptor in reserve.
    fn refuse_some(&mut self) {
        for _ in 0..PAUSE_REFUSALS_MAX {
            if !self.spare.refuse_one(&self.listeners[self.at], full_response()) {
                return;
            }
            self.cells.handshakes_full.add(1);
        }
    }

    fn admit<D: Driver>(&mut self, shard: &mut Shard<D>, (socket, subnet): (Socket, Subnet)) {
        if shard.connections_count() >= self.leased {
            self.leased += self.options.leases.take();
        }
        if shard.connections_count() >= self.leased {
            self.cells.handshakes_full.add(1);
            return refuse(socket, full_response());
        }
        if !shard.on_accept(socket, subnet) {
            self.cells.handshakes_full.add(1);
            close_socket(socket);
        }
    }

    fn give_back(&mut self, used: usize) {
        let block = self.options.leases.block;
        while self.leased >= used + 2 * block {
            self.leased -= block;
            self.options.leases.give_back();
        }
    }

    fn refill(&mut self, now: Moment) {
        let rate = f64::from(self.options.rate);
        let earned = now.since(self.refilled).as_secs_f64() * rate;
        self.allowance = (self.allowance + earned).min(rate.max(1.0));
        self.refilled = now;
    }

    /// No descriptors or memory: the clients wait in the kernel's queue until the pause is over.
    fn on_exhausted(&mut self, now: Moment, error: &dyn std::error::Error) {
        self.cells.accept_errors.add(1);
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
