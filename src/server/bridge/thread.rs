//! The bridge's thread: a runtime of tokio, the owners of all that speaks to Redis in it, and the
//! tasks that join them. It is reached through the mesh alone, and nothing that Redis does or does
//! not do slows a shard.

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
use crate::{bridge, redis};

/// The parts of the thread.
pub(super) struct Parts {
    /// Messages to it.
    pub(super) inbox: Inbox<ToBridge>,
    /// Wakes it.
    pub(super) wake: EventFd,
    /// For its owners.
    pub(super) owners: OwnersParts,
    /// When to stop.
    pub(super) stopping: Stopping,
}

/// What the owners of the thread's state need.
pub(super) struct OwnersParts {
    /// The ways to the shards, then to control.
    pub(super) outbound: Outbound,
    /// Which shard is home to which channel.
    pub(super) home_map: HomeMap,
    /// Where all of them count.
    pub(super) counters: Arc<BridgeCounters>,
    /// The clock of all threads.
    pub(super) now: fn() -> Moment,
    /// What other nodes are told of this one.
    pub(super) card: NodeCard,
}

/// Told once, in the bridge's thread: that all has been read that was there, or why it never will.
pub(super) type Loaded = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Starts the thread.
///
/// # Errors
/// The system has none to give.
pub(super) fn start(settings: Arc<Settings>, parts: Parts, loaded: Loaded) -> std::io::Result<()> {
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
            eprintln!("the bridge thread failed, so the server stops: {error}");
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
    // Requests that arrive while Redis is still looked for must not wait for it unanswered.
    let receiving = tokio::task::spawn_local(receive(Rc::clone(&owners), inbox, wake));
    tokio::task::spawn_local(tick(Rc::clone(&owners)));
    owners.redis.listen_to_sentinels();
    let (streams, bus) = (owners.settings.redis.streams, &owners.bus);
    let tell = |text: &str| bus.standing().show_start(text);
    if let Err(refusal) = redis::wait_until_usable(&owners.redis, streams, tell).await {
        loaded(Err(refusal));
        return std::future::pending().await;
    }
    bridge::start(bus);
    while !bus.is_loaded() {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    Requests::start(&owners.requests);
    tokio::task::spawn_local(hold_lease(Rc::clone(&owners)));
    tokio::task::spawn_local(stop(Rc::clone(&owners), stopping));
    if owners.settings.has_events() {
        tokio::task::spawn_local(EventWriter::run(Rc::clone(&owners.events)));
    }
    owners.counters.joined.set(1);
    loaded(Ok(()));
    for stream in &owners.settings.redis.ingest {
        let (leases, bus) = (Rc::clone(&owners.leases), Rc::clone(bus));
        tokio::task::spawn_local(RedisStream::ingest(leases, bus, stream.as_str().into()));
    }
    receiving.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Takes messages of shards and control.
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
    /// Hands a message to its owner.
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

/// Holds this node's lease, and hands on what it learns of nodes: for ever.
async fn hold_lease(owners: Rc<Owners>) {
    let tell = |news| match news {
        NodeNews::Forgotten => owners.events.write_roster(),
        NodeNews::Lost { link, leases } => LostNodes::report(&owners.lost_nodes, link, leases),
    };
    owners.nodes.run(tell).await;
}

/// Finishes when the server stops.
async fn stop(owners: Rc<Owners>, stopping: Stopping) {
    while !stopping.has_begun() {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    // What shards have sent until now is taken from the inbox first.
    tokio::time::sleep(RETRY_INTERVAL).await;
    while !owners.events.is_idle() {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    owners.nodes.set_leaving();
    owners.leases.set_leaving();
    if let Some(link) = owners.nodes.link() {
        owners.leases.give_up(&link).await;
        owners.nodes.leave(&link).await;
        owners.events.remove_roster(&link).await;
    }
    stopping.end();
}

/// Ends what has waited too long, and sends again what an inbox had no room for.
async fn tick(owners: Rc<Owners>) {
    let mut ticks = tokio::time::interval(RETRY_INTERVAL);
    // A process that was stopped has nothing to make up for.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        owners.bus.on_tick();
        owners.counters.cpu_nanos.set(crate::sys::thread_cpu().as_nanos() as u64);
    }
}
