//! The thread that speaks to Redis: a runtime of tokio, two connections, and the bus between them
//! and the shards. It is reached through the mesh alone, and nothing that Redis does or does not do
//! slows a shard.

#[path = "../events/lost_nodes.rs"]
mod lost_nodes;
#[path = "../redis/check.rs"]
mod check;
#[path = "../cluster/requests.rs"]
mod cluster;
#[path = "../events/mod.rs"]
mod events;
#[path = "../ingest/redis.rs"]
mod ingest;
#[path = "../redis/link.rs"]
mod link;
#[path = "../cluster/nodes.rs"]
mod nodes;
mod reader;
#[path = "../events/roster.rs"]
mod roster;
#[path = "../redis/sentinel.rs"]
mod sentinel;
mod standing;
mod writer;

pub use link::check_url;
pub use nodes::NodeCard;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bus::{Call, Engine, Keys};
use crate::ids::Moment;
use crate::limits::{BUS_RETRY_MAX, BUS_RETRY_MIN, COMPLAINT_INTERVAL, RETRY_INTERVAL};
use crate::mesh::{HomeMap, Inbox, Outbound, Ticket, ToBridge};
use crate::metrics::BridgeCounters;
use crate::settings::Settings;
use crate::sys::EventFd;
use ingest::Mailbox;

/// What the bridge is made of.
pub struct Parts {
    /// What others send it.
    pub inbox: Inbox<ToBridge>,
    /// What wakes it.
    pub wake: EventFd,
    /// The ways to the shards, then to control.
    pub outbound: Outbound,
    /// Which shard is home to which channel.
    pub home_map: HomeMap,
    /// Where it counts.
    pub counters: Arc<BridgeCounters>,
    /// The clock of all threads.
    pub now: fn() -> Moment,
    /// What other nodes are told of this one.
    pub member: NodeCard,
    /// When to stop.
    pub stopping: Stopping,
}

/// Says that the server stops, to a bridge that has something to finish before.
#[derive(Clone, Debug, Default)]
pub struct Stopping {
    begun: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
}

impl Stopping {
    /// All shards have closed their connections.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Whether nothing is left to be done.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// Told once, in the bridge's thread: that all has been read that was there, or why it never will.
pub type Loaded = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Starts the thread.
///
/// # Errors
/// The system has none to give.
pub fn start(settings: Arc<Settings>, parts: Parts, loaded: Loaded) -> std::io::Result<()> {
    std::thread::Builder::new().name("bridge".to_owned()).spawn(move || {
        #[cfg(feature = "sabotage")]
        crate::sabotage::switch_on(crate::sabotage::Fault::from_environment());
        // However it ends, and whichever of its tasks fails: without this thread nothing is
        // published any more.
        crate::sys::abort_on_panic(|| false);
        let _end = AbortOnDrop;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let ended = match runtime {
            Ok(runtime) => {
                let local = tokio::task::LocalSet::new();
                runtime.block_on(local.run_until(run(settings, parts, loaded)))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            // Not by the log, whose thread would not come to write it.
            eprintln!("the bridge thread ends, and the server with it: {error}");
        }
    })?;
    Ok(())
}

/// Ends the process when it is dropped, by a return or by a panic.
struct AbortOnDrop;

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// What the tasks of the thread share.
struct Bridge {
    settings: Arc<Settings>,
    keys: Keys,
    /// Whose leases of ingested streams are this node's: no other process has it.
    token: Vec<u8>,
    /// Where Redis is, for people.
    place: String,
    engine: RefCell<Engine>,
    /// Who waits for which answer of the bus.
    mailboxes: RefCell<HashMap<Ticket, Rc<Mailbox>>>,
    /// How many tickets there were.
    tickets: Cell<u64>,
    /// There may be a call to make.
    work: Notify,
    counters: Arc<BridgeCounters>,
    now: fn() -> Moment,
    /// Readers whose last read did not succeed.
    not_reading: Cell<usize>,
    /// Ingested streams whose last read did not succeed.
    not_ingesting: Cell<usize>,
    /// Streams have servers of their own.
    is_cluster: bool,
    links: Rc<standing::Links>,
    sentinels: sentinel::Sentinels,
    /// What Redis has said when it last refused.
    reason: RefCell<String>,
    /// What is shown to be wrong.
    shown: Cell<Option<Option<standing::Wrong>>>,
    complained: Cell<Option<Instant>>,
    nodes: nodes::Nodes,
    cluster: cluster::Cluster,
    events: events::EventWriter,
}

impl Bridge {
    /// Lets `act` act on the bus, and hands over what came of it.
    fn with_engine<T>(&self, act: impl FnOnce(&mut Engine, Moment) -> T) -> T {
        let mut engine = self.engine.borrow_mut();
        let now = (self.now)();
        let result = act(&mut engine, now);
        engine.flush();
        let wrong = self.wrong(engine.trouble(now));
        let own = engine.take_bridge_answers();
        drop(engine);
        for (ticket, answer) in own {
            let mailbox = self.mailboxes.borrow_mut().remove(&ticket);
            if let Some(mailbox) = mailbox {
                mailbox.put(ticket, answer);
            }
        }
        self.show(wrong);
        self.work.notify_one();
        result
    }

    fn next_call(&self) -> Option<Call> {
        self.engine.borrow_mut().next_call((self.now)())
    }

    /// A number for a request of the bridge's own.
    fn ticket(&self) -> Ticket {
        self.tickets.set(self.tickets.get() + 1);
        Ticket(self.tickets.get())
    }

    /// Says what an operator must fix, but not for every publication that suffers from it.
    fn complain(&self, what: &str, error: &str) {
        let recent = self.complained.get().is_some_and(|at| at.elapsed() < COMPLAINT_INTERVAL);
        if !recent {
            self.complained.set(Some(Instant::now()));
            tracing::error!(%error, "{what}");
        }
    }
}

async fn run(settings: Arc<Settings>, parts: Parts, loaded: Loaded) -> std::io::Result<()> {
    let Parts { inbox, wake, outbound, home_map, counters, now, member, stopping } = parts;
    let engine_options =
        crate::bus::Options { settings: Arc::clone(&settings), home_map, seed: seed() };
    let bridge = Rc::new(Bridge {
        keys: Keys::new(&settings.redis.prefix),
        token: format!("{:016x}", seed()).into_bytes(),
        place: link::place(&settings.redis.url),
        engine: RefCell::new(Engine::new(engine_options, outbound, Arc::clone(&counters))),
        mailboxes: RefCell::default(),
        tickets: Cell::new(0),
        work: Notify::new(),
        counters,
        now,
        not_reading: Cell::new(0),
        not_ingesting: Cell::new(0),
        is_cluster: link::is_cluster(&settings.redis.url),
        links: Rc::default(),
        sentinels: sentinel::Sentinels::default(),
        reason: RefCell::default(),
        shown: Cell::new(None),
        complained: Cell::new(None),
        nodes: nodes::Nodes::new(member),
        cluster: cluster::Cluster::default(),
        events: events::EventWriter::default(),
        settings,
    });
    // What was sent while Redis is still looked for must not wait for it unanswered.
    let receiving = tokio::task::spawn_local(receive(Rc::clone(&bridge), inbox, wake));
    tokio::task::spawn_local(tick(Rc::clone(&bridge)));
    sentinel::start(&bridge);
    if let Err(refusal) = check::run(&bridge).await {
        loaded(Err(refusal));
        return std::future::pending().await;
    }
    bridge.show_start("what Redis has kept is being read");
    tokio::task::spawn_local(writer::run(Rc::clone(&bridge)));
    let all = 0..bridge.settings.redis.streams;
    bridge.not_reading.set(if bridge.is_cluster { all.len() } else { 1 });
    if bridge.is_cluster {
        // Streams live on several servers, and a read that waits has one.
        for stream in all {
            tokio::task::spawn_local(reader::run(Rc::clone(&bridge), vec![stream]));
        }
    } else {
        tokio::task::spawn_local(reader::run(Rc::clone(&bridge), all.collect()));
    }
    while !bridge.engine.borrow().is_loaded() {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    for stream in [cluster::Stream::Requests, cluster::Stream::Answers] {
        tokio::task::spawn_local(cluster::run(Rc::clone(&bridge), stream));
    }
    tokio::task::spawn_local(nodes::run(Rc::clone(&bridge)));
    tokio::task::spawn_local(stop(Rc::clone(&bridge), stopping));
    if bridge.settings.has_events() {
        tokio::task::spawn_local(events::run(Rc::clone(&bridge)));
    }
    bridge.counters.joined.set(1);
    loaded(Ok(()));
    for stream in &bridge.settings.redis.ingest {
        tokio::task::spawn_local(ingest::run(Rc::clone(&bridge), stream.as_str().into()));
    }
    receiving.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Takes what shards and control want.
async fn receive(bridge: Rc<Bridge>, inbox: Inbox<ToBridge>, wake: EventFd) -> std::io::Result<()> {
    let watched = wake.watched()?;
    loop {
        while let Some(batch) = inbox.take() {
            let others = bridge.with_engine(|engine, now| {
                let mut others = Vec::new();
                for message in batch {
                    match message {
                        ToBridge::Bus(message) => engine.on_message(now, message),
                        other => others.push(other),
                    }
                }
                others
            });
            others.into_iter().for_each(|message| bridge.on_message(message));
            tokio::task::yield_now().await;
        }
        if inbox.prepare_sleep() {
            let mut guard = watched.readable().await?;
            wake.clear();
            guard.clear_ready();
        }
        inbox.woke();
    }
}

impl Bridge {
    /// Takes a message that the bus has nothing to do with.
    fn on_message(self: &Rc<Bridge>, message: ToBridge) {
        match message {
            ToBridge::Cluster { ticket, request } => {
                tokio::task::spawn_local(cluster::answer(Rc::clone(self), ticket, request));
            }
            ToBridge::Remote { ticket, body } => {
                tokio::task::spawn_local(cluster::send_answer(Rc::clone(self), ticket, body));
            }
            ToBridge::AppEvent(event) => self.on_event(event),
            ToBridge::Bus(message) => {
                self.with_engine(|engine, now| engine.on_message(now, message));
            }
        }
    }
}

/// Finishes when the server stops.
async fn stop(bridge: Rc<Bridge>, stopping: Stopping) {
    while !stopping.begun.load(Ordering::Acquire) {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    // What shards have sent until now is taken from the inbox first.
    tokio::time::sleep(RETRY_INTERVAL).await;
    nodes::leave(&bridge).await;
    stopping.done.store(true, Ordering::Release);
}

/// Ends what has waited too long, and sends again what an inbox had no room for.
async fn tick(bridge: Rc<Bridge>) {
    let mut ticks = tokio::time::interval(RETRY_INTERVAL);
    // A process that was stopped has nothing to make up for.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        bridge.with_engine(Engine::on_tick);
        bridge.renew_if_apart();
        bridge.counters.cpu_nanos.set(crate::sys::thread_cpu().as_nanos() as u64);
    }
}

/// Longer and longer pauses between attempts, each with jitter, so that nodes do not come together.
struct Backoff {
    next: Duration,
    random: u64,
    /// When a failure was last logged, since the last success.
    logged: Option<Instant>,
}

impl Backoff {
    fn new() -> Backoff {
        Backoff { next: BUS_RETRY_MIN, random: seed(), logged: None }
    }

    /// All is well. Answers whether it was not.
    fn reset(&mut self) -> bool {
        self.next = BUS_RETRY_MIN;
        self.logged.take().is_some()
    }

    /// Whether a failure is to be logged: not each of many.
    fn is_worth_a_line(&mut self) -> bool {
        let recent = self.logged.is_some_and(|at| at.elapsed() < COMPLAINT_INTERVAL);
        if !recent {
            self.logged = Some(Instant::now());
        }
        !recent
    }

    async fn pause(&mut self) {
        self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let jitter = (self.random >> 40) as f64 / (1u64 << 24) as f64;
        tokio::time::sleep(self.next.mul_f64(1.0 + jitter)).await;
        self.next = (self.next * 2).min(BUS_RETRY_MAX);
    }
}

/// A number that no other process has.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one("bridge")
}
