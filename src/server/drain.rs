//! The times of a drain, and how far it has come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::limits::{CLOSE_TIMEOUT, DRAIN_LINGER_SHARE, INTERRUPT_DRAIN};
use crate::settings::Server;
use crate::sys::{EventFd, Signal};

/// The times of one exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// How long clients are still taken.
    pub(super) delay: Duration,
    /// From then until the process ends, at most.
    pub(super) drain: Duration,
}

impl Plan {
    pub(super) fn new(signal: Signal, server: &Server) -> Plan {
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

/// Whether the drain has begun and ended.
#[derive(Clone)]
pub(super) struct Drained {
    pub(super) begun: Arc<OnceLock<Plan>>,
    pub(super) done: Arc<AtomicBool>,
    pub(super) wake: EventFd,
}

impl Drained {
    /// Begins the drain, with these times.
    pub(super) fn begin(&self, plan: Plan) {
        self.begun.get_or_init(|| plan);
        self.wake.signal();
    }

    /// Whether every shard has closed its last connection.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
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
