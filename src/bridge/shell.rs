//! The engine of the bus, with everything that its tasks share and that other owners in the
//! bridge's thread use.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::mailbox::{Mailbox, Mailboxes};
use super::standing::Standing;
use crate::bus::{Call, Engine, Once, Renewal};
use crate::ids::Moment;
use crate::mesh::{HomeMap, Outbound, Publish, Ticket};
use crate::metrics::BridgeCounters;
use crate::redis;
use crate::settings::Settings;

/// The parts of which a [`Bus`] is made.
pub(crate) struct Options {
    /// Settings of the node.
    pub(crate) settings: Arc<Settings>,
    /// Makes connections to Redis.
    pub(crate) redis: Rc<redis::Handle>,
    /// Lanes to the shards and to control.
    pub(crate) outbound: Outbound,
    /// Maps each channel to its home shard.
    pub(crate) home_map: HomeMap,
    /// Counters of the bridge.
    pub(crate) counters: Arc<BridgeCounters>,
    /// The clock of all threads.
    pub(crate) now: fn() -> Moment,
}

/// The bus, as the tasks of the bridge's thread share it.
pub(crate) struct Bus {
    pub(super) settings: Arc<Settings>,
    pub(super) redis: Rc<redis::Handle>,
    pub(super) engine: RefCell<Engine>,
    mailboxes: Mailboxes,
    /// Notified when there may be a call to make.
    work: Notify,
    pub(super) standing: Standing,
    pub(super) counters: Arc<BridgeCounters>,
    /// For each stream, how many seconds it reaches back, if it has entries.
    windows: RefCell<Vec<Option<u64>>>,
    now: fn() -> Moment,
}

impl Bus {
    /// Creates a bus that has read nothing.
    pub(crate) fn new(options: Options) -> Bus {
        let Options { settings, redis, outbound, home_map, counters, now } = options;
        let engine_options =
            crate::bus::Options { settings: Arc::clone(&settings), home_map, seed: redis::seed() };
        let engine = Engine::new(engine_options, outbound, Arc::clone(&counters));
        Bus {
            engine: RefCell::new(engine),
            mailboxes: Mailboxes::default(),
            work: Notify::new(),
            standing: Standing::new(Arc::clone(&counters)),
            windows: RefCell::new(vec![None; settings.redis.streams]),
            counters,
            now,
            redis,
            settings,
        }
    }

    /// Runs `act` on the engine, and passes on its messages, answers and health.
    pub(crate) fn with_engine<T>(&self, act: impl FnOnce(&mut Engine, Moment) -> T) -> T {
        let mut engine = self.engine.borrow_mut();
        let now = (self.now)();
        let result = act(&mut engine, now);
        engine.flush();
        let trouble = engine.trouble(now);
        let own = engine.take_bridge_answers();
        self.redis.set_written(engine.writer_run(0));
        drop(engine);
        own.into_iter().for_each(|(ticket, answer)| self.mailboxes.deliver(ticket, answer));
        self.standing.show(trouble);
        self.work.notify_one();
        result
    }

    /// Gives up requests that have waited too long, and renews all connections if they lead to
    /// different servers.
    pub(crate) fn on_tick(&self) {
        self.with_engine(Engine::on_tick);
        let strayed = self.redis.take_strayed();
        let renewal = self.with_engine(|engine, now| {
            if strayed {
                engine.on_strayed();
            }
            engine.take_renewal(now)
        });
        let why = match renewal {
            None => return,
            Some(Renewal::Apart) => "connections lead to different Redis servers",
            Some(Renewal::Absent) => "the Redis server for reads lacks acknowledged publications",
        };
        tracing::warn!(redis_address = %self.redis.address(), "{why}; renewing all connections");
        self.redis.renew_links();
    }

    /// Publishes for a task of this thread. The answer goes to `mailbox`.
    pub(crate) fn publish(
        &self,
        mailbox: &Rc<Mailbox>,
        ticket: Ticket,
        publish: Publish,
        once: Once,
    ) {
        self.mailboxes.await_answer(ticket, mailbox);
        self.with_engine(|engine, now| engine.publish(now, publish, once));
    }

    /// Records how far back in time a stream reaches.
    pub(super) fn set_window(&self, stream: usize, seconds: Option<u64>) {
        let mut windows = self.windows.borrow_mut();
        windows[stream] = seconds;
        self.counters.window_seconds.set(windows.iter().flatten().min().copied().unwrap_or(0));
    }

    /// Returns the ticket for a new publication.
    pub(crate) fn ticket(&self) -> Ticket {
        self.mailboxes.ticket()
    }

    /// Whether waiting publications use less than half of the memory for them.
    pub(crate) fn has_room(&self) -> bool {
        self.engine.borrow().has_room()
    }

    /// Whether all entries that existed at the start have been read.
    pub(crate) fn is_loaded(&self) -> bool {
        self.engine.borrow().is_loaded()
    }

    /// Returns the current time.
    pub(crate) fn now(&self) -> Moment {
        (self.now)()
    }

    /// Waits until there may be a call to make.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// Returns the health of the bridge.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Returns the next call to make, if there is one.
    pub(super) fn next_call(&self) -> Option<Call> {
        self.engine.borrow_mut().next_call((self.now)())
    }
}
