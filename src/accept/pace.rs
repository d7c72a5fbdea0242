//! A rate limit with a burst of one second.

use crate::ids::Moment;
use crate::limits::ACCEPT_SCARCE_SHARE;

/// A token bucket.
#[derive(Debug)]
pub(super) struct Pace {
    rate: f64,
    left: f64,
    refilled: Moment,
}

impl Pace {
    /// Creates a bucket for `rate` per second, at least 1.
    pub(super) fn new(rate: u32) -> Pace {
        let rate = f64::from(rate.max(1));
        Pace { rate, left: rate, refilled: Moment::default() }
    }

    /// Adds the tokens for the time since the last call.
    pub(super) fn refill(&mut self, now: Moment) {
        let earned = now.since(self.refilled).as_secs_f64() * self.rate;
        self.left = (self.left + earned).min(self.rate);
        self.refilled = now;
    }

    /// Whether a token is left.
    pub(super) fn has_one(&self) -> bool {
        self.left >= 1.0
    }

    /// Whether most of the burst is used up, which means that clients arrive faster than the rate.
    pub(super) fn is_scarce(&self) -> bool {
        self.left < self.rate * ACCEPT_SCARCE_SHARE
    }

    /// Takes a token.
    pub(super) fn take_one(&mut self) {
        self.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_brings_the_rate_and_no_more_than_that_is_kept() {
        let mut pace = Pace::new(10);
        let take_all = |pace: &mut Pace| {
            let mut count = 0;
            while pace.has_one() {
                pace.take_one();
                count += 1;
            }
            count
        };
        let mut now = Moment::default().after(Duration::from_secs(1));
        pace.refill(now);
        assert!(!pace.is_scarce());
        assert_eq!(take_all(&mut pace), 10);
        assert!(pace.is_scarce());
        now = now.after(Duration::from_millis(300));
        pace.refill(now);
        assert_eq!(take_all(&mut pace), 3);
        pace.refill(now.after(Duration::from_secs(60)));
        assert_eq!(take_all(&mut pace), 10);
    }
}
