//! How the server ends: for a while it says that it will and still takes clients, then it closes
//! their connections at a pace, and all of that has an end that was set when it began.

use super::bridge;
use super::common::Common;
use super::drain::{Drained, Plan};
use crate::ids::Moment;
use crate::limits::LOOK_INTERVAL;
use crate::readiness::Phase;
use crate::sys::{self, Signal};

/// Waits for a signal to end, and sees to it that nobody is left when the process does, or that the
/// time for it is over. A second signal ends it at once.
pub(super) fn wait(common: &Common, drained: &Drained) {
    let plan = Plan::new(wait_for_signal(), &common.settings.server);
    if !leave(common, plan) {
        return;
    }
    let end = sys::now().after(plan.drain);
    tracing::info!(drain = ?plan.drain, "draining; a second signal stops the node at once");
    common.status.set_phase(Phase::Draining);
    drained.begin(plan);
    if !wait_until(end, || drained.is_done()) {
        return;
    }
    // Of connections that are still open others must tell the end, so the bridge stays unfinished.
    if drained.is_done() && common.settings.redis.is_on() {
        bridge::stop(common, end);
    } else if !drained.is_done() {
        tracing::warn!("some connections were still open at the end of server.drain");
    }
}

fn wait_for_signal() -> Signal {
    loop {
        match sys::wait_for_signal(None) {
            Some(signal) if signal.ends() => return signal,
            Some(Signal::Reload) => {
                tracing::warn!(
                    "ignored SIGHUP: settings are only read at the start; restart to change them"
                );
            }
            _ => {}
        }
    }
}

/// Says that the node will stop while it goes on as before, so that load balancers send nobody more
/// before the first one is refused. Returns false if a second signal came.
fn leave(common: &Common, plan: Plan) -> bool {
    if plan.delay.is_zero() {
        return true;
    }
    tracing::info!(delay = ?plan.delay, "leaving: /ready and /health return 503, and clients are \
        still accepted until server.drain_delay is over; a second signal stops the node at once");
    common.status.set_phase(Phase::Leaving);
    wait_until(sys::now().after(plan.delay), || false)
}

/// Waits until `is_done` or `end`. Returns false if a second signal came first.
fn wait_until(end: Moment, is_done: impl Fn() -> bool) -> bool {
    while !is_done() && sys::now() < end {
        let left = end.since(sys::now()).min(LOOK_INTERVAL);
        if sys::wait_for_signal(Some(left)).is_some_and(Signal::ends) {
            tracing::warn!("stopping at once because of a second signal");
            return false;
        }
    }
    true
}
