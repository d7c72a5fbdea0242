//! The control thread: it runs the HTTP API on its own tokio runtime, and exchanges messages with
//! the other threads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::common::{Common, Error};
use super::drain::{Drained, Plan};
use crate::api::{self, Api, ApiListener, Courier, Full, Parts};
use crate::fatal;
use crate::limits::RETRY_INTERVAL;
use crate::mesh::{Addressed, ControlRequest, Inbox, Lane, ShardLane, ToBridge, ToControl};

/// Starts the control thread. Returns the shared progress of the drain.
pub(super) fn start(
    common: &Arc<Common>,
    listener: ApiListener,
    inbox: Inbox<ToControl>,
) -> Result<Drained, Error> {
    let wake = common.wakes[common.shards()];
    let drained = Drained { begun: Arc::default(), done: Arc::default(), wake };
    let (common, mine) = (Arc::clone(common), drained.clone());
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            #[cfg(feature = "sabotage")]
            crate::sabotage::switch_on(crate::sabotage::Fault::from_environment());
            // Without this thread the server could be neither observed nor drained, so the process
            // ends with it.
            let _end = AbortOnDrop;
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
            let result = match runtime {
                Ok(runtime) => runtime.block_on(run(&common, listener, inbox, mine)),
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                let line = format!("the control thread ends, and the server with it: {error}");
                fatal::write(common.settings.log.format, &line);
            }
        })
        .map_err(Error::Thread)?;
    Ok(drained)
}

/// Aborts the process when it is dropped, whether its thread returns or panics.
struct AbortOnDrop;

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        std::process::abort();
    }
}

async fn run(
    common: &Common,
    listener: ApiListener,
    inbox: Inbox<ToControl>,
    drained: Drained,
) -> std::io::Result<()> {
    let lanes = Arc::new(Mutex::new(ControlLanes {
        shards: common.shard_lanes(),
        bridge: common.bridge_lane(),
    }));
    let courier = courier(common, Arc::clone(&lanes));
    let identity = common.identity.clone();
    let identify = move |client: &crate::ids::ClientId| identity.verify(*client);
    let api = Api::new(
        Arc::clone(&common.settings),
        Parts {
            courier: Arc::clone(&courier),
            status: Arc::clone(&common.status),
            identify: Box::new(identify),
            node: common.node.clone(),
        },
    );
    tokio::select! {
        served = api::serve(listener, Arc::clone(&api)) => served,
        ended = receive(&inbox, &api, &courier, &drained) => ended,
        () = retry(&lanes) => Ok(()),
    }
}

/// The lanes of control. The lock is never contended, because all of control runs in one thread.
type Lanes = Arc<Mutex<ControlLanes>>;

struct ControlLanes {
    shards: Vec<ShardLane>,
    bridge: Option<Lane<ToBridge>>,
}

impl ControlLanes {
    /// Sends a message immediately, or returns an error if the inbox is full.
    fn send(&mut self, message: Addressed) -> Result<(), Full> {
        let sent = match message {
            Addressed::Shard(shard, message) => self.shards[shard.index()].send_now(message),
            Addressed::Bridge(message) => {
                self.bridge.as_mut().is_some_and(|lane| lane.send_now(message))
            }
        };
        if sent { Ok(()) } else { Err(Full) }
    }

    /// Tries again to send messages for which inboxes had no room.
    fn flush(&mut self) {
        self.shards.iter_mut().filter(|lane| lane.is_behind()).for_each(ShardLane::flush);
        self.bridge.iter_mut().filter(|lane| lane.is_behind()).for_each(Lane::flush);
    }
}

fn courier(common: &Common, lanes: Lanes) -> Arc<Courier> {
    let send = move |message: Addressed| {
        lanes.lock().unwrap_or_else(PoisonError::into_inner).send(message)
    };
    let home_map = common.home_map.clone();
    let home = move |channel: &str| home_map.home(channel);
    Courier::new(common.shards(), &common.settings.redis, Box::new(home), Box::new(send))
}

/// Receives the messages to control: answers for requests that wait, and requests of other nodes.
async fn receive(
    inbox: &Inbox<ToControl>,
    api: &Arc<Api>,
    courier: &Arc<Courier>,
    drained: &Drained,
) -> std::io::Result<()> {
    let wake = drained.wake;
    let watched = wake.watched()?;
    let mut draining = false;
    loop {
        while let Some(batch) = inbox.take() {
            for message in batch {
                match message {
                    ToControl::Remote { ticket, call } => {
                        let (api, courier) = (Arc::clone(api), Arc::clone(courier));
                        tokio::spawn(async move {
                            let body = api::remote(api.service(), &call).await;
                            courier.answer_bridge(ticket, body);
                        });
                    }
                    ToControl::DeliveryTimes(interval) => api.status().delivery().add(interval),
                    ToControl::Answer { ticket, answer } => courier.deliver(ticket, answer),
                }
            }
            // Between batches, requests of the API get their turn. A full inbox must not starve
            // them.
            tokio::task::yield_now().await;
        }
        if let Some(&plan) = drained.begun.get().filter(|_| !draining) {
            let (courier, done) = (Arc::clone(courier), Arc::clone(&drained.done));
            draining = true;
            // The drain needs its own task, because it waits for answers that this loop delivers.
            tokio::spawn(async move { done.store(drain(&courier, plan).await, Ordering::Release) });
        }
        if inbox.prepare_sleep() {
            let mut guard = watched.readable().await?;
            wake.clear();
            guard.clear_ready();
        }
        inbox.woke();
    }
}

/// Periodically tries again to send messages for which inboxes had no room. Otherwise they would
/// wait until control sends something newer.
async fn retry(lanes: &Lanes) {
    let mut ticks = tokio::time::interval(RETRY_INTERVAL);
    loop {
        ticks.tick().await;
        lanes.lock().unwrap_or_else(PoisonError::into_inner).flush();
    }
}

/// Closes all connections. Returns whether the last one has ended.
async fn drain(courier: &Arc<Courier>, plan: Plan) -> bool {
    let request = ControlRequest::Drain { over: plan.over(), last_end: plan.last_end() };
    courier.request_all(&request, plan.drain).await.is_ok()
}
