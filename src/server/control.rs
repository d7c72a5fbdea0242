//! The control thread: it runs the HTTP API on its own tokio runtime, and exchanges messages with
//! the other threads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::common::{Common, Error};
use super::drain::{Drained, Plan};
use crate::api::{self, Api, ApiListener, Courier, Full, Parts};
use crate::fatal;
use crate::limits::RETRY_INTERVAL;
use crate::mesh::{Addressed, ControlRequest, Inbox, Lane, ShardLane, Stall, ToBridge, ToControl};
use crate::metrics::{Percentiles, WINDOWS};

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
                    ToControl::Stalled(stall) => {
                        let status = api.status();
                        log_stall(stall, status.delivery().percentiles(status.now()));
                    }
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

/// Logs a long turn of a shard, with the recent delivery times of the node. Times are in seconds.
fn log_stall(stall: Stall, delivery: [Percentiles; WINDOWS.len()]) {
    let [ten, minute, five] = delivery
        .map(|found| [found.p50, found.p90, found.p99, found.p999].map(|time| time.as_secs_f64()));
    tracing::warn!(
        shard = stall.shard.index(),
        took = stall.took.as_secs_f64(),
        left_out = (stall.left_out > 0).then_some(stall.left_out),
        p50_10s = ten[0],
        p90_10s = ten[1],
        p99_10s = ten[2],
        p999_10s = ten[3],
        p50_1m = minute[0],
        p90_1m = minute[1],
        p99_1m = minute[2],
        p999_1m = minute[3],
        p50_5m = five[0],
        p90_5m = five[1],
        p99_5m = five[2],
        p999_5m = five[3],
        "a turn took long, and all clients of the shard waited"
    );
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;
    use crate::ids::ShardId;

    /// A log that a test reads.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stall_is_logged_with_the_delivery_times_of_all_windows_in_seconds() {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let millis = Duration::from_millis;
        let found = |times: [u64; 4]| {
            let [p50, p90, p99, p999] = times.map(millis);
            Percentiles { count: 1, p50, p90, p99, p999 }
        };
        let delivery = [found([1, 2, 3, 4]), found([5, 6, 7, 8]), found([9, 10, 11, 12])];
        let stall = Stall { shard: ShardId::new(3), took: millis(250), left_out: 0 };
        tracing::subscriber::with_default(log, || log_stall(stall, delivery));
        let line: serde_json::Value =
            serde_json::from_slice(&written.0.lock().unwrap()).expect("one line");
        let fields = &line["fields"];
        assert_eq!((&fields["shard"], &fields["took"]), (&3.into(), &0.25.into()), "{line}");
        assert!(fields.get("left_out").is_none(), "{line}");
        let names = ["10s", "1m", "5m"].map(|window| {
            ["p50", "p90", "p99", "p999"].map(|percentile| format!("{percentile}_{window}"))
        });
        for (name, millis) in names.as_flattened().iter().zip(1..) {
            assert_eq!(fields[name], f64::from(millis) / 1000.0, "{name}: {line}");
        }
    }
}
