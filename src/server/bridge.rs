//! Starts and stops the bridge's thread. At the start, main waits until the bridge has read the
//! publications that the bus keeps.

mod thread;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{TryRecvError, bounded};

use super::common::{Common, Error};
use crate::api;
use crate::cluster::NodeCard;
use crate::ids::Moment;
use crate::limits::{EVENTS_STOP_TIMEOUT, LOOK_INTERVAL};
use crate::mesh::{Inbox, Outbound, ToBridge};
use crate::sys::{self, Signal};
use thread::{OwnersParts, Parts};

/// Returns the description of this node for other nodes.
fn card(common: &Arc<Common>) -> NodeCard {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let common = Arc::clone(common);
    NodeCard {
        uid: common.node.uid.clone(),
        boot: started.as_millis() as u64,
        describe: Box::new(move || api::describe(&common.status, &common.node)),
    }
}

/// Starts the thread, and waits until it has read the publications that the bus keeps. Returns
/// false if a signal to stop arrived first.
pub(super) fn start(common: &Arc<Common>, inbox: Inbox<ToBridge>) -> Result<bool, Error> {
    let parts = Parts {
        inbox,
        wake: common.wakes[common.shards() + 1],
        owners: OwnersParts {
            outbound: Outbound::new(common.shard_lanes(), common.control_lane(), None),
            home_map: common.home_map.clone(),
            counters: common.bridge_counters.clone().unwrap_or_default(),
            now: sys::now,
            card: card(common),
        },
        stopping: common.stopping.clone(),
    };
    let (sender, loaded) = bounded(1);
    // Sending fails only if main has returned, and then the process ends anyway.
    let tell = move |result| sender.send(result).unwrap_or_default();
    thread::start(Arc::clone(&common.settings), parts, Box::new(tell)).map_err(Error::Thread)?;
    loop {
        match loaded.try_recv() {
            Ok(Ok(())) => return Ok(true),
            Ok(Err(refusal)) => return Err(Error::Redis(refusal)),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(Error::Redis("the bridge has ended".to_owned()));
            }
        }
        if sys::wait_for_signal(Some(LOOK_INTERVAL)).is_some_and(Signal::ends) {
            return Ok(false);
        }
    }
}

/// Waits until the bridge has written the last events, but not longer than until `end`.
pub(super) fn stop(common: &Common, end: Moment) {
    common.stopping.begin();
    // If Redis is unreachable, this would take the rest of the drain, so it has a separate limit.
    let limit = end.min(sys::now().after(EVENTS_STOP_TIMEOUT));
    while !common.stopping.is_done() && sys::now() < limit {
        if sys::wait_for_signal(Some(LOOK_INTERVAL)).is_some_and(Signal::ends) {
            return;
        }
    }
    if !common.stopping.is_done() {
        tracing::warn!(
            "Redis is unreachable, so this node could not report its end; another node will"
        );
    }
}
