//! The schedule of a drain, and its progress.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::limits::{CLOSE_TIMEOUT, DRAIN_LINGER_SHARE, INTERRUPT_DRAIN};
use crate::settings::Server;
use crate::sys::{EventFd, Signal};

/// The schedule for stopping the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Time during which the node still accepts clients.
    pub(super) delay: Duration,
    /// Maximum time from the end of `delay` until the end of the process.
    pub(super) drain: Duration,
}

impl Plan {
    pub(super) fn new(signal: Signal, server: &Server) -> Plan {
        match signal {
            // A user at a terminal waits for the end, and no load balancer has to notice it first.
            Signal::Interrupt => {
                Plan { delay: Duration::ZERO, drain: server.drain.min(INTERRUPT_DRAIN) }
            }
            _ => Plan { delay: server.drain_delay, drain: server.drain },
        }
    }

    /// Returns the time over which closes are spread. The rest is for the last connections to end.
    pub(super) fn over(self) -> Duration {
        self.drain - self.tail()
    }

    /// Returns the time from the beginning of the drain after which connections no longer wait for
    /// their peers. The rest is for the bridge, which writes the events of their ends.
    pub(super) fn last_end(self) -> Duration {
        self.drain - self.tail() / 2
    }

    /// Returns the time after the last close. The first half is for the close frames of peers, the
    /// second half for the bridge.
    fn tail(self) -> Duration {
        (self.drain / DRAIN_LINGER_SHARE).min(2 * CLOSE_TIMEOUT)
    }
}

/// The progress of the drain, shared by main and control.
#[derive(Clone)]
pub(super) struct Drained {
    pub(super) begun: Arc<OnceLock<Plan>>,
    pub(super) done: Arc<AtomicBool>,
    pub(super) wake: EventFd,
}

impl Drained {
    /// Begins the drain with this schedule.
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
