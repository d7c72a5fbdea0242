//! The pace at which connections start.

/// Calculates when connections are due.
pub(super) struct Pace {
    /// Connections per second; 0 means without delay.
    per_second: f64,
    target: usize,
    /// Number of connections, and the time, when the present target was set.
    base: usize,
    since_ns: u64,
    /// Number of events since the start, if it is not counted elsewhere.
    pub(super) taken: usize,
}

impl Pace {
    pub(super) fn new(per_second: f64) -> Self {
        Self { per_second, target: 0, base: 0, since_ns: 0, taken: 0 }
    }

    /// Starts to count at `now_ns`.
    pub(super) fn restart(&mut self, now_ns: u64) {
        *self = Self { since_ns: now_ns, target: usize::MAX, ..Self::new(self.per_second) };
    }

    /// Returns how many connections should have started by now: from `begun` to `target`.
    pub(super) fn due(&mut self, target: usize, begun: usize, now_ns: u64) -> usize {
        if target != self.target {
            *self = Self { target, base: begun, since_ns: now_ns, ..*self };
        }
        if self.per_second == 0.0 {
            return target.max(begun);
        }
        let seconds = (now_ns - self.since_ns) as f64 / 1e9;
        let due = self.base + (seconds * self.per_second) as usize;
        due.min(target).max(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_at_the_pace_asked_for() {
        let mut pace = Pace::new(1000.0);
        assert_eq!(pace.due(0, 0, 5_000_000_000), 0);
        assert_eq!(pace.due(100, 0, 6_000_000_000), 0);
        assert_eq!(pace.due(100, 0, 6_050_000_000), 50);
        assert_eq!(pace.due(100, 50, 9_000_000_000), 100);
        assert_eq!(pace.due(200, 100, 10_000_000_000), 100);
        assert_eq!(pace.due(200, 100, 10_001_000_000), 101);
        assert_eq!(Pace::new(0.0).due(70, 3, 0), 70);
    }
}
