//! The bridge's thread: a tokio runtime, with the owners of everything that communicates with
//! Redis, and their tasks. Other threads reach it only through the mesh, so a slow or absent Redis
//! never delays a shard.

use std::rc::Rc;
use std::sync::Arc;

use crate::bridge::Bus;
use crate::cluster::{NodeCard, NodeNews, Nodes, Requests};
use crate::events::{EventStream, EventWriter, LostNodes};
use crate::ids::Moment;
use crate::ingest::{Leases, RedisStream};
use crate::limits::RETRY_INTERVAL;
use crate::mesh::{HomeMap, Inbox, Outbound, ToBridge};
use crate::metrics::BridgeCounters;
use crate::server::common::Stopping;
use crate::settings::Settings;
use crate::sys::EventFd;
use crate::{bridge, fatal, redis};

/// The parts from which the thread is made.
pub(super) struct Parts {
    /// The inbox of the thread.
    pub(super) inbox: Inbox<ToBridge>,
    /// The eventfd that wakes it.
    pub(super) wake: EventFd,
    /// The parts for its owners.
    pub(super) owners: OwnersParts,
    /// The coordination of the stop with main.
    pub(super) stopping: Stopping,
}

/// The values that the owners of the thread's state need.
pub(super) struct OwnersParts {
    /// The lanes to the shards and to control.
    pub(super) outbound: Outbound,
    /// The home shards of channels.
    pub(super) home_map: HomeMap,
    /// The counters of all owners.
    pub(super) counters: Arc<BridgeCounters>,
    /// The clock of all threads.
    pub(super) now: fn() -> Moment,
    /// The description of this node for other nodes.
    pub(super) card: NodeCard,
}

/// Called once, in the bridge's thread: with `Ok` when the bridge has read everything that the bus
/// kept, or with the reason why it never will.
pub(super) type Loaded = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Starts the thread.
///
/// # Errors
/// The system can't create a thread.
pub(super) fn start(settings: Arc<Settings>, parts: Parts, loaded: Loaded) -> std::io::Result<()> {
    let format = settings.log.format;
    std::thread::Builder::new().name("bridge".to_owned()).spawn(move || {
        #[cfg(feature = "sabotage")]
        crate::sabotage::switch_on(crate::sabotage::Fault::from_environment());
        // Nothing can be published without this thread, so its end, or a panic of any of its tasks,
        // ends the process.
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
            let line = format!("the bridge thread failed, so the server stops: {error}");
            fatal::write(format, &line);
        }
    })?;
    Ok(())
}

/// Aborts the process when it is dropped, whether its thread returns or panics.
struct AbortOnDrop;

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// The owners of the thread's state. Each has its own tasks.
struct Owners {
    settings: Arc<Settings>,
    counters: Arc<BridgeCounters>,
    redis: Rc<redis::Handle>,
    bus: Rc<Bus>,
    nodes: Rc<Nodes>,
    requests: Rc<Requests>,
    events: Rc<EventWriter>,
    lost_nodes: Rc<LostNodes>,
    leases: Rc<Leases>,
}

impl Owners {
    fn new(settings: Arc<Settings>, parts: OwnersParts) -> Owners {
        let OwnersParts { outbound, home_map, counters, now, card } = parts;
        let settings_of_redis = &settings.redis;
        let redis = redis::Handle::new(
            &settings_of_redis.url,
            &settings_of_redis.prefix,
            Arc::clone(&counters),
        );
        let redis = Rc::new(redis);
        let bus = Bus::new(bridge::Options {
            settings: Arc::clone(&settings),
            redis: Rc::clone(&redis),
            outbound,
            home_map,
            counters: Arc::clone(&counters),
            now,
        });
        let bus = Rc::new(bus);
        let nodes = Rc::new(Nodes::new(Rc::clone(&redis), card));
        let stream = EventStream::new(&settings, &redis, Arc::clone(&counters));
        let stream = Rc::new(stream);
        Owners {
            requests: Rc::new(Requests::new(&bus, &redis, &nodes)),
            lost_nodes: Rc::new(LostNodes::new(&stream, &nodes)),
            events: Rc::new(EventWriter::new(stream, &nodes, now)),
            leases: Rc::new(Leases::new(&redis, &settings, Arc::clone(&counters))),
            settings,
            counters,
            redis,
            bus,
            nodes,
        }
    }
}

async fn run(settings: Arc<Settings>, parts: Parts, loaded: Loaded) -> std::io::Result<()> {
    let Parts { inbox, wake, owners: parts, stopping } = parts;
    let owners = Rc::new(Owners::new(settings, parts));
    // Receiving begins first, so that requests get answers even while Redis can't be reached yet.
    let receiving = tokio::task::spawn_local(receive(Rc::clone(&owners), inbox, wake));
    tokio::task::spawn_local(tick(Rc::clone(&owners)));
    owners.redis.listen_to_sentinels();
    let (streams, bus) = (owners.settings.redis.streams, &owners.bus);
    let tell = |text: &str| bus.standing().show_start(text);
    if let Err(refusal) = redis::wait_until_usable(&owners.redis, streams, tell).await {
        loaded(Err(refusal));
        // Main gets the refusal and ends the process. If this returned, the process would abort
        // before main prints it.
        return std::future::pending().await;
    }
    bridge::start(bus);
    while !bus.is_loaded() {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    Requests::start(&owners.requests);
    // The node shows itself to others only now, when it can answer their requests.
    tokio::task::spawn_local(hold_lease(Rc::clone(&owners)));
    tokio::task::spawn_local(stop(Rc::clone(&owners), stopping));
    if owners.settings.has_events() {
        tokio::task::spawn_local(EventWriter::run(Rc::clone(&owners.events)));
    }
    // No client is accepted before others know of this node, because they would leave its clients
    // out of lists and calls.
    bus.standing().show_start("taking the lease of this node from Redis");
    while !owners.nodes.is_known() {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    owners.counters.joined.set(1);
    loaded(Ok(()));
    for stream in &owners.settings.redis.ingest {
        let (leases, bus) = (Rc::clone(&owners.leases), Rc::clone(bus));
        tokio::task::spawn_local(RedisStream::ingest(leases, bus, stream.as_str().into()));
    }
    receiving.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Receives messages of shards and control.
async fn receive(owners: Rc<Owners>, inbox: Inbox<ToBridge>, wake: EventFd) -> std::io::Result<()> {
    let watched = wake.watched()?;
    loop {
        while let Some(batch) = inbox.take() {
            let others = owners.bus.with_engine(|engine, now| {
                let mut others = Vec::new();
                for message in batch {
                    match message {
                        ToBridge::Bus(message) => engine.on_message(now, message),
                        other => others.push(other),
                    }
                }
                others
            });
            others.into_iter().for_each(|message| owners.on_message(message));
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

impl Owners {
    /// Passes a message to its owner.
    fn on_message(&self, message: ToBridge) {
        match message {
            ToBridge::Cluster { ticket, request } => {
                tokio::task::spawn_local(Rc::clone(&self.requests).answer(ticket, request));
            }
            ToBridge::Remote { ticket, body } => {
                tokio::task::spawn_local(Rc::clone(&self.requests).send_answer(ticket, body));
            }
            ToBridge::AppEvent(event) => self.events.on_event(event),
            ToBridge::Bus(message) => {
                self.bus.with_engine(|engine, now| engine.on_message(now, message));
            }
        }
    }
}

/// Holds this node's lease, and passes on news about nodes. It never returns.
async fn hold_lease(owners: Rc<Owners>) {
    let tell = |news| match news {
        NodeNews::Forgotten => owners.events.write_roster(),
        NodeNews::Lost { link, leases } => LostNodes::report(&owners.lost_nodes, link, leases),
        NodeNews::Unreachable(error) => {
            if owners.counters.joined.value() == 0 {
                let text = format!("could not take the lease of this node from Redis: {error}");
                owners.bus.standing().show_start(&text);
            }
        }
    };
    owners.nodes.run(tell).await;
}

/// Waits until the server stops, and then finishes the work of the owners.
async fn stop(owners: Rc<Owners>, stopping: Stopping) {
    while !stopping.has_begun() {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    // Gives `receive` time to take the last events of the shards from the inbox.
    tokio::time::sleep(RETRY_INTERVAL).await;
    while !owners.events.is_idle() {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    // The lease is given up only after all events are written: without it, no other node would
    // report the end of this one.
    owners.nodes.set_leaving();
    owners.leases.set_leaving();
    if let Some(link) = owners.nodes.link() {
        owners.leases.give_up(&link).await;
        owners.nodes.leave(&link).await;
        owners.events.remove_roster(&link).await;
    }
    stopping.end();
}

/// Periodically ends requests that have waited too long, and tries again to send messages for which
/// inboxes had no room.
async fn tick(owners: Rc<Owners>) {
    let mut ticks = tokio::time::interval(RETRY_INTERVAL);
    // Ticks that were missed while the process was stopped are skipped.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        owners.bus.on_tick();
        owners.counters.cpu_nanos.set(crate::sys::thread_cpu().as_nanos() as u64);
    }
}
