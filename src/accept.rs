//! Accepts new sockets, within limits of rate and number. If descriptors are used up, it pauses,
//! refuses clients with a reserved descriptor, and logs a warning once a second.

mod pace;
mod unnamed;
mod waiting;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::handshake::{Unavailable, unavailable};
use crate::ids::Moment;
use crate::limits::{
    ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN, ACCEPT_TAKES_PER_SECOND, ACCEPT_UNNAMED_MAX,
    ACCEPT_WAITING_EXEMPT_MAX, ACCEPT_WAITING_MAX, LEASE_CONNECTIONS_MAX, PAUSE_REFUSALS_MAX,
    TURN_ACCEPTS_MAX,
};
use crate::metrics::ShardCounters;
use crate::proxies::{Peer, Proxies};
use crate::readiness::Phase;
use crate::reason::Refusal;
use crate::repeats::RefusalLine;
use crate::shard::Shard;
use crate::subnets::Subnet;
use crate::sys::{
    Accepted, Driver, Listener, ListenerOptions, SpareDescriptor, SysError, UnixListener, is_reset,
    refuse,
};
use pace::Pace;
use unnamed::Unnamed;
use waiting::{Client, Waiting};

/// The connections of the node that no shard has leased.
#[derive(Clone, Debug)]
pub struct Leases {
    left: Arc<AtomicUsize>,
    block: usize,
}

impl Leases {
    /// Creates leases for `connections_max` connections of `shards` shards.
    pub fn new(connections_max: usize, shards: usize) -> Leases {
        let block = (connections_max / (8 * shards)).clamp(1, LEASE_CONNECTIONS_MAX);
        Leases { left: Arc::new(AtomicUsize::new(connections_max)), block }
    }

    /// Takes a block. Returns the number of connections in it.
    fn take(&self) -> usize {
        let update = |left: usize| (left > 0).then(|| left.saturating_sub(self.block));
        // `Relaxed` is enough, because the number guards no other memory.
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(before) => before.min(self.block),
            Err(_) => 0,
        }
    }

    /// Whether shards have leased all connections.
    fn are_used_up(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn give_back(&self) {
        self.left.fetch_add(self.block, Ordering::Relaxed);
    }
}

/// The options of an acceptor.
#[derive(Clone, Debug)]
pub struct Options {
    /// The addresses to listen on.
    pub addresses: Vec<SocketAddr>,
    /// The listeners that all shards use.
    pub shared: Vec<UnixListener>,
    /// The peers that are proxies for clients of other networks.
    pub proxies: Proxies,
    /// The options of client sockets.
    pub listener: ListenerOptions,
    /// Maximum number of accepts per second on this shard.
    pub rate: u32,
    /// The leases for connections of the node.
    pub leases: Leases,
}

impl Options {
    /// Returns the maximum number of waiting clients, if the table has room for `places_left` more
    /// sockets. It is at most the number of clients admitted within a second, so that no client
    /// waits longer.
    fn waiting_max(&self, places_left: usize) -> usize {
        ACCEPT_WAITING_MAX.min(self.rate as usize).min(places_left)
    }
}

/// The listeners of a shard.
pub struct Acceptor {
    options: Options,
    /// The listeners for `addresses`, while they are open.
    listeners: Vec<Listener>,
    /// The listeners that all shards use, until the drain.
    shared: Vec<Listener>,
    /// Whether clients of the shared listeners may be waiting although none are pending.
    left_to_others: bool,
    /// Index of the listener used last.
    at: usize,
    spare: SpareDescriptor,
    counters: Arc<ShardCounters>,
    /// Whether clients may be waiting.
    pending: bool,
    paused_until: Moment,
    pause: Duration,
    logged: Moment,
    failures: u64,
    /// Whether the last accept failed for lack of descriptors or memory, and there is no sign that
    /// the next one would succeed.
    exhausted: bool,
    /// The rate at which clients are admitted.
    admissions: Pace,
    /// The rate at which sockets are taken from the kernel's queue, admitted or not.
    takes: Pace,
    waiting: Waiting,
    unnamed: Unnamed,
    leased: usize,
}

impl Acceptor {
    /// Listens on all addresses. `driver` watches the listeners.
    ///
    /// # Errors
    /// The error of the kernel for the first address that fails.
    pub fn new(
        options: Options,
        counters: Arc<ShardCounters>,
        driver: &mut impl Driver,
    ) -> Result<Acceptor, SysError> {
        let mut acceptor = Acceptor {
            admissions: Pace::new(options.rate),
            takes: Pace::new(ACCEPT_TAKES_PER_SECOND),
            waiting: Waiting::default(),
            unnamed: Unnamed::new(options.proxies.clone(), Arc::clone(&counters)),
            options,
            listeners: Vec::new(),
            shared: Vec::new(),
            left_to_others: false,
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
        for &shared in &acceptor.options.shared {
            let listener = Listener::Shared(shared);
            driver.watch_listener(&listener);
            acceptor.shared.push(listener);
        }
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

    /// Stops listening where all shards listen, for all of them, and refuses the clients in the
    /// queue.
    fn stop_shared(&mut self, driver: &mut impl Driver) {
        for listener in std::mem::take(&mut self.shared) {
            driver.forget_listener(&listener);
            if let Listener::Shared(shared) = listener {
                shared.shut_down();
            }
            while let Accepted::Socket(socket, _) = listener.accept() {
                self.count_refused(driver.now(), Refusal::Draining, Some(socket.as_fd()));
                refuse(socket, &unavailable(Unavailable::Phase(Phase::Draining)));
            }
        }
    }

    /// Accepts waiting clients, within budgets. Returns whether more can be accepted immediately.
    pub fn turn<D: Driver>(&mut self, shard: &mut Shard<D>) -> bool {
        self.pending |= shard.sockets().take_incoming();
        self.turn_listeners(shard);
        self.give_back(shard.connections_count());
        let now = shard.sockets().now();
        self.turn_exhausted(now);
        if self.left_to_others && !self.leaves_to_others(shard) {
            self.left_to_others = false;
            self.pending = true;
        }
        self.counters.full.set(u64::from(self.exhausted || shard.is_full()));
        if self.waiting_count() == 0 && (!self.pending || now < self.paused_until) {
            return false;
        }
        self.admissions.refill(now);
        self.takes.refill(now);
        self.turn_waiting(shard, now);
        if self.pending && now >= self.paused_until {
            self.turn_accept(shard, now);
        }
        self.may_take(now) && self.pending && now >= self.paused_until
            || self.waiting_count() > 0 && self.admissions.has_one()
    }

    /// While no client waits, occasionally checks whether an accept would succeed again.
    fn turn_exhausted(&mut self, now: Moment) {
        if self.exhausted && !self.pending && now >= self.paused_until {
            self.exhausted = !SpareDescriptor::another_fits();
            self.paused_until = now.after(self.pause);
        }
    }

    /// Counts a client that is refused because the shard is full.
    fn count_full(&mut self, now: Moment, socket: Option<BorrowedFd<'_>>) {
        self.count_refused(now, Refusal::Full, socket);
        self.counters.refused_full_nanos.set(now.nanos());
    }

    /// Counts a socket that does not become a connection, and logs it.
    fn count_refused(&mut self, now: Moment, reason: Refusal, socket: Option<BorrowedFd<'_>>) {
        self.counters.refuse(reason);
        if let Some(line) = RefusalLine::admit(reason, now) {
            line.write(None, socket.and_then(|socket| self.unnamed.address(socket)));
        }
    }

    /// Whether one more socket may be taken from the kernel's queue.
    fn may_take(&self, now: Moment) -> bool {
        // Clients on this host wait in the kernel's queue, where none has to be refused.
        let exempt = self.waiting.queue_count(Subnet::EXEMPT);
        self.takes.has_one() && exempt < ACCEPT_WAITING_EXEMPT_MAX && self.unnamed.has_room(now)
    }

    /// Number of clients that wait to be admitted.
    fn waiting_count(&self) -> usize {
        self.waiting.count() + self.unnamed.count()
    }

    /// Removes and returns the next waiting client. Those that no proxy has named come last,
    /// because they have sent no request yet.
    fn next_waiting(&mut self) -> Option<Client> {
        self.waiting.pop().or_else(|| self.unnamed.pop())
    }

    /// Admits waiting clients, as far as the rate allows.
    fn turn_waiting<D: Driver>(&mut self, shard: &mut Shard<D>, now: Moment) {
        for client in self.unnamed.take_named(now) {
            self.enqueue(shard, client);
        }
        for _ in 0..TURN_ACCEPTS_MAX {
            if !self.admissions.has_one() {
                return;
            }
            let Some(client) = self.next_waiting() else { return };
            self.offer(shard, client);
        }
    }

    /// Closes the listeners of a shard that is full or drains, so that the kernel sends clients to
    /// other shards. Reopens them when there is room for more than one client, because otherwise
    /// every client that leaves would open and close them.
    fn turn_listeners<D: Driver>(&mut self, shard: &mut Shard<D>) {
        if shard.is_draining() && !self.shared.is_empty() {
            self.stop_shared(shard.sockets());
        }
        let open = !shard.is_draining() && !shard.is_full();
        if !open {
            if !self.listeners.is_empty() {
                self.stop_listening(shard.sockets());
            }
            while let Some(Client { socket, .. }) = self.next_waiting() {
                let now = shard.sockets().now();
                if shard.is_draining() {
                    self.count_refused(now, Refusal::Draining, Some(socket.as_fd()));
                    refuse(socket, &unavailable(Unavailable::Phase(Phase::Draining)));
                } else {
                    self.count_full(now, Some(socket.as_fd()));
                    refuse(socket, &unavailable(Unavailable::Full));
                }
            }
        } else if self.listeners.len() < self.options.addresses.len()
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
        let count = self.listeners.len() + self.shared.len();
        while quiet < count {
            if budget == 0 || !self.may_take(now) {
                return;
            }
            // Continue after the last listener, so that one busy address does not starve another.
            self.at = (self.at + 1) % count;
            if self.listener().is_shared() && self.leaves_to_others(shard) {
                self.left_to_others = true;
                quiet += 1;
                continue;
            }
            match self.listener().accept() {
                Accepted::Nobody => {
                    quiet += 1;
                    continue;
                }
                Accepted::Socket(socket, peer) => self.receive(shard, socket, peer),
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
            if self.listener().is_shared() {
                // Other shards get their turn, so that a busy one takes fewer clients.
                return;
            }
        }
        self.pending = false;
    }

    /// The listener that is used at the moment.
    fn listener(&self) -> &Listener {
        listener_at(self.at, &self.listeners, &self.shared)
    }

    /// Whether this shard leaves the clients of shared listeners to others, because it has no room
    /// and another shard has.
    fn leaves_to_others<D: Driver>(&self, shard: &Shard<D>) -> bool {
        let unleased =
            shard.connections_count() >= self.leased && self.options.leases.are_used_up();
        (unleased || shard.is_full()) && !shard.is_node_full()
    }

    /// Refuses some waiting clients, one after another, with the reserved descriptor.
    fn refuse_some(&mut self, now: Moment) {
        let answer = unavailable(Unavailable::Full);
        for _ in 0..PAUSE_REFUSALS_MAX {
            let listener = listener_at(self.at, &self.listeners, &self.shared);
            if !self.spare.refuse_one(listener, &answer) {
                return;
            }
            self.count_full(now, None);
        }
    }

    /// Admits a client immediately, or lets it wait behind others.
    fn receive<D: Driver>(&mut self, shard: &mut Shard<D>, socket: OwnedFd, peer: Peer) {
        if self.admissions.has_one() && self.waiting_count() == 0 {
            let subnet = self.unnamed.subnet(peer);
            return self.offer(shard, Client { socket, subnet });
        }
        if is_reset(socket.as_fd()) {
            return self.drop_reset(shard, socket);
        }
        match self.unnamed.name(socket, peer) {
            Ok(client) => self.enqueue(shard, client),
            Err(socket) => self.enqueue_unnamed(shard, socket),
        }
    }

    /// Lets a client wait, and refuses one of the network with the most if there are too many. The
    /// unnamed clients count as one network.
    fn enqueue<D: Driver>(&mut self, shard: &mut Shard<D>, client: Client) {
        let now = shard.sockets().now();
        let count_max = self.options.waiting_max(shard.places_left());
        let own = self.waiting.queue_count(client.subnet);
        let most = self.waiting.longest_count().max(own + 1);
        if self.waiting_count() >= count_max
            && self.unnamed.count() > most
            && let Some(oldest) = self.unnamed.pop()
        {
            self.refuse_busy(now, oldest.socket);
        }
        let count_max = count_max.saturating_sub(self.unnamed.count());
        if let Some(refused) = self.waiting.push(client, count_max) {
            self.refuse_busy(now, refused);
        }
    }

    /// Lets a client wait that its proxy has not named yet. If there are too many of them, the one
    /// that has waited longest is refused, because a proxy names its client at once.
    fn enqueue_unnamed<D: Driver>(&mut self, shard: &mut Shard<D>, socket: OwnedFd) {
        let now = shard.sockets().now();
        self.unnamed.push(socket, now);
        let too_many = self.waiting_count() > self.options.waiting_max(shard.places_left());
        let refused = if too_many && self.waiting.longest_count() > self.unnamed.count() {
            self.waiting.pop_longest()
        } else if too_many || self.unnamed.count() > ACCEPT_UNNAMED_MAX {
            self.unnamed.pop().map(|oldest| oldest.socket)
        } else {
            None
        };
        if let Some(refused) = refused {
            self.refuse_busy(now, refused);
        }
    }

    fn refuse_busy(&mut self, now: Moment, socket: OwnedFd) {
        self.count_refused(now, Refusal::Busy, Some(socket.as_fd()));
        self.counters.refused_busy_nanos.set(now.nanos());
        refuse(socket, &unavailable(Unavailable::Busy));
    }

    /// Admits a client. If the rate is scarce, it first checks whether the client has given up;
    /// such a client costs nothing of the rate.
    fn offer<D: Driver>(&mut self, shard: &mut Shard<D>, client: Client) {
        if self.admissions.is_scarce() && is_reset(client.socket.as_fd()) {
            return self.drop_reset(shard, client.socket);
        }
        self.admissions.take_one();
        self.admit(shard, client);
    }

    fn drop_reset<D: Driver>(&mut self, shard: &mut Shard<D>, socket: OwnedFd) {
        self.count_refused(shard.sockets().now(), Refusal::Left, None);
        drop(socket);
    }

    fn admit<D: Driver>(&mut self, shard: &mut Shard<D>, client: Client) {
        let Client { socket, subnet } = client;
        if shard.connections_count() >= self.leased {
            self.leased += self.options.leases.take();
        }
        if shard.connections_count() >= self.leased || shard.is_full() {
            self.count_full(shard.sockets().now(), Some(socket.as_fd()));
            return refuse(socket, &unavailable(Unavailable::Full));
        }
        let socket = shard.sockets().adopt(socket);
        let taken = shard.on_accept(socket, subnet);
        assert!(taken, "a shard that is not full must accept a client");
    }

    fn give_back(&mut self, used: usize) {
        let block = self.options.leases.block;
        // One block stays in reserve, so that not every new or closed connection changes the shared
        // number.
        while self.leased >= used + 2 * block {
            self.leased -= block;
            self.options.leases.give_back();
        }
    }

    /// Begins a pause because of a lack of descriptors or memory. Clients wait in the kernel's
    /// queue.
    fn on_exhausted(&mut self, now: Moment, error: &dyn std::error::Error) {
        self.counters.accept_errors.add(1);
        self.exhausted = true;
        self.failures += 1;
        self.paused_until = now.after(self.pause);
        self.pause = (self.pause * 2).min(ACCEPT_PAUSE_MAX);
        if now.since(self.logged) >= Duration::from_secs(1) || self.failures == 1 {
            self.logged = now;
            let failures = self.failures;
            tracing::warn!(%error, failures, "could not accept connections: raise the limit on \
                open files, or lower server.max_connections");
        }
    }
}

/// Returns a listener by its index among both lists.
fn listener_at<'l>(at: usize, own: &'l [Listener], shared: &'l [Listener]) -> &'l Listener {
    own.get(at).unwrap_or_else(|| &shared[at - own.len()])
}
