//! The end of the server. At first it announces the end but still accepts clients; then it closes
//! their connections at an even pace. Both phases have fixed time limits.

use super::bridge;
use super::common::Common;
use super::drain::{Drained, Plan};
use crate::ids::Moment;
use crate::limits::{LOG_REPEATS_INTERVAL, LOOK_INTERVAL};
use crate::readiness::Phase;
use crate::sys::{self, Signal};

/// Waits for a signal to stop, and then drains the node. Returns when all connections have ended,
/// the time has passed, or a second signal has arrived.
pub(super) fn wait(common: &Common, drained: &Drained) {
    let plan = Plan::new(wait_for_signal(), &common.settings.server);
    if !leave(common, plan) {
        return;
    }
    let end = sys::now().after(plan.drain);
    tracing::info!(drain = ?plan.drain, "draining; a second signal stops the node immediately");
    common.status.set_phase(Phase::Draining);
    let mut progress = Progress { common, logged: None };
    progress.log();
    drained.begin(plan);
    let is_done = || {
        progress.log();
        drained.is_done()
    };
    if !wait_until(end, is_done) {
        return;
    }
    // If connections are still open, the bridge must not report a clean end. Another node then
    // reports the end of this one, and with it the end of these connections.
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

/// Announces the end while the node serves as before, so that load balancers stop sending clients
/// before the first one is refused. Returns false if a second signal arrived.
fn leave(common: &Common, plan: Plan) -> bool {
    if plan.delay.is_zero() {
        return true;
    }
    tracing::info!(delay = ?plan.delay, "/ready and /health return 503 from now on, but clients \
        are accepted until server.drain_delay is over; a second signal stops the node immediately");
    common.status.set_phase(Phase::Leaving);
    wait_until(sys::now().after(plan.delay), || false)
}

/// Logs the progress of the drain.
struct Progress<'a> {
    common: &'a Common,
    logged: Option<Moment>,
}

impl Progress<'_> {
    /// Writes a line if one is due: at the beginning, and then every second while there are
    /// clients.
    fn log(&mut self) {
        let (now, clients) = (sys::now(), self.common.status.connections_count());
        let is_due = self.logged.is_none_or(|at| now.since(at) >= LOG_REPEATS_INTERVAL);
        if is_due && clients > 0 {
            self.logged = Some(now);
            let plural = if clients == 1 { "" } else { "s" };
            tracing::info!("{clients} client{plural} left");
        }
    }
}

/// Waits until `is_done` or `end`. Returns false if a second signal came first.
fn wait_until(end: Moment, mut is_done: impl FnMut() -> bool) -> bool {
    while !is_done() && sys::now() < end {
        let left = end.since(sys::now()).min(LOOK_INTERVAL);
        if sys::wait_for_signal(Some(left)).is_some_and(Signal::ends) {
            tracing::warn!("stopping immediately because of a second signal");
            return false;
        }
    }
    true
}
