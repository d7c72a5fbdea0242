//! Pauses between attempts to connect.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{BUS_RETRY_MAX, BUS_RETRY_MIN, COMPLAINT_INTERVAL};

/// Growing pauses between attempts. Their jitter keeps nodes from reconnecting at the same time.
pub(crate) struct Backoff {
    next: Duration,
    random: u64,
    /// When a failure was last logged, since the last success.
    logged: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { next: BUS_RETRY_MIN, random: seed(), logged: None }
    }

    /// Returns to short pauses after a success. Returns whether a failure was logged before.
    pub(crate) fn reset(&mut self) -> bool {
        self.next = BUS_RETRY_MIN;
        self.logged.take().is_some()
    }

    /// Whether a failure should be logged. Repeated failures are logged at most once in
    /// [`COMPLAINT_INTERVAL`].
    pub(crate) fn is_worth_a_line(&mut self) -> bool {
        let recent = self.logged.is_some_and(|at| at.elapsed() < COMPLAINT_INTERVAL);
        if !recent {
            self.logged = Some(Instant::now());
        }
        !recent
    }

    pub(crate) async fn pause(&mut self) {
        self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let jitter = (self.random >> 40) as f64 / (1u64 << 24) as f64;
        tokio::time::sleep(self.next.mul_f64(1.0 + jitter)).await;
        self.next = (self.next * 2).min(BUS_RETRY_MAX);
    }
}

/// Returns a random number that differs between processes.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one("bridge")
}
