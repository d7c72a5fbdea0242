//! How the server ends: for a while it says that it will and still takes clients, then it closes
//! their connections at a pace, and all of that has an end that was set when it began.

use std::time::Duration;

use super::{Common, bridge, control};
use crate::ids::Moment;
use crate::limits::{CLOSE_TIMEOUT, DRAIN_LINGER_SHARE, INTERRUPT_DRAIN, LOOK_INTERVAL};
use crate::readiness::Phase;
use crate::settings::Server;
use crate::sys::{self, Signal};

/// The times of one exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// How long clients are still taken.
    pub(super) delay: Duration,
    /// From then until the process ends, at most.
    pub(super) drain: Duration,
}

impl Plan {
    fn new(signal: Signal, server: &Server) -> Plan {
        match signal {
            // Somebody waits for it, and no load balancer does.
            Signal::Interrupt => {
                Plan { delay: Duration::ZERO, drain: server.drain.min(INTERRUPT_DRAIN) }
            }
            _ => Plan { delay: server.drain_delay, drain: server.drain },
        }
    }

    /// Time over which connections are closed: the rest is for the last of them to end.
    pub(super) fn over(self) -> Duration {
        self.drain - self.tail()
    }

    /// When the last connection has ended at the latest, from when the drain begins. No closed one
    /// waits longer for its peer, so that the bridge has time to say that they have ended.
    pub(super) fn last_end(self) -> Duration {
        self.drain - self.tail() / 2
    }

    fn tail(self) -> Duration {
        (self.drain / DRAIN_LINGER_SHARE).min(2 * CLOSE_TIMEOUT)
    }
}

/// Waits for a signal to end, and sees to it that nobody is left when the process does, or that the
/// time for it is over. A second signal ends it at once.
pub(super) fn wait(common: &Common, drained: &control::Drained) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn everything_fits_into_the_time_that_was_set() {
        for millis in [0, 1, 800, 5_000, 22_000, 600_000] {
            let drain = Duration::from_millis(millis);
            let plan = Plan { delay: Duration::ZERO, drain };
            let (linger, left) = (plan.last_end() - plan.over(), drain - plan.last_end());
            assert!(linger <= left && linger <= CLOSE_TIMEOUT, "{plan:?}");
            assert!(plan.over() >= drain * 3 / 4, "{plan:?}");
        }
    }

    #[test]
    fn by_default_a_stop_takes_28_s_at_most_and_an_interrupt_no_second() {
        let settings = Settings::default();
        let stop = Plan::new(Signal::Stop, &settings.server);
        assert_eq!(stop.delay, Duration::from_secs(5));
        assert!(stop.delay + stop.drain <= Duration::from_secs(28), "{stop:?}");
        let interrupt = Plan::new(Signal::Interrupt, &settings.server);
        assert!(interrupt.delay + interrupt.drain < Duration::from_secs(1), "{interrupt:?}");
    }
}
