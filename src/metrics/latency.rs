//! Percentiles of the delivery time over the last seconds and minutes. A shard records into a
//! histogram of its own, and hands it over every 10 s. So no histogram is written by one thread and
//! read by another.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::ids::Moment;
use crate::limits::{
    DELIVERY_DIGITS, DELIVERY_INTERVAL, DELIVERY_INTERVALS_MAX, DELIVERY_MICROS_MAX,
};

/// Delivery times of one interval of 10 s, in microseconds.
#[derive(Debug)]
pub struct Interval {
    /// The number of the interval since the start of the process.
    number: u64,
    times: Histogram<u32>,
}

impl Interval {
    fn new(number: u64) -> Interval {
        Interval { number, times: histogram() }
    }
}

#[expect(clippy::expect_used, reason = "the limits are valid, as a test shows")]
fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, DELIVERY_MICROS_MAX, DELIVERY_DIGITS).expect("valid bounds")
}

/// Returns the number of the interval that contains `now`.
fn number(now: Moment) -> u64 {
    now.nanos() / DELIVERY_INTERVAL.as_nanos() as u64
}

/// The delivery times of one shard in the current interval.
#[derive(Debug)]
pub struct DeliveryTimes(Box<Interval>);

impl Default for DeliveryTimes {
    fn default() -> DeliveryTimes {
        DeliveryTimes(Box::new(Interval::new(0)))
    }
}

impl DeliveryTimes {
    /// Records `count` deliveries that took `time` each. A longer time than the histogram can hold
    /// counts as the longest.
    pub fn record(&mut self, time: Duration, count: u64) {
        let micros = time.as_micros() as u64;
        self.0.times.saturating_record_n(micros, u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Ends the interval if a new one has begun at `now`. Returns the old one, unless it is empty.
    /// A new histogram is allocated every 10 s, so that no other thread has to give one back.
    pub fn take(&mut self, now: Moment) -> Option<Box<Interval>> {
        let number = number(now);
        if number == self.0.number {
            return None;
        }
        if self.0.times.is_empty() {
            self.0.number = number;
            return None;
        }
        Some(std::mem::replace(&mut self.0, Box::new(Interval::new(number))))
    }

    /// Returns the percentiles of the current interval.
    pub fn percentiles(&self) -> Percentiles {
        Percentiles::of(&self.0.times)
    }
}

/// Percentiles of delivery times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Number of writes to sockets. If it is 0, so is the rest.
    pub count: u64,
    /// Half of the deliveries took at most this long.
    pub p50: Duration,
    /// 90 % of the deliveries took at most this long.
    pub p90: Duration,
    /// 99 % of the deliveries took at most this long.
    pub p99: Duration,
    /// 99.9 % of the deliveries took at most this long.
    pub p999: Duration,
}

impl Percentiles {
    fn of(times: &Histogram<u32>) -> Percentiles {
        let at = |quantile| Duration::from_micros(times.value_at_quantile(quantile));
        Percentiles {
            count: times.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
        }
    }
}

/// A time for which there are percentiles: it ends with the last complete interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The name, for labels and keys.
    pub name: &'static str,
    intervals: u64,
}

/// All windows, shortest first.
pub const WINDOWS: [Window; 3] = [
    Window { name: "10s", intervals: 1 },
    Window { name: "1m", intervals: 6 },
    Window { name: "5m", intervals: DELIVERY_INTERVALS_MAX as u64 },
];

/// The delivery times of all shards in the last 5 min.
#[derive(Debug, Default)]
pub struct DeliveryWindows(Mutex<VecDeque<Box<Interval>>>);

impl DeliveryWindows {
    /// Adds an interval of one shard. Shards never call this, because it takes a lock.
    pub fn add(&self, interval: Box<Interval>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = kept.iter_mut().find(|one| one.number == interval.number);
        match same {
            // Both have the same bounds, so everything fits.
            Some(same) => same.times.add(&interval.times).unwrap_or_default(),
            None => kept.push_back(interval),
        }
        if kept.len() > DELIVERY_INTERVALS_MAX {
            let oldest = kept.iter().enumerate().min_by_key(|(_, one)| one.number);
            if let Some((index, _)) = oldest {
                kept.remove(index);
            }
        }
    }

    /// Returns the percentiles of each of [`WINDOWS`] at `now`.
    pub fn percentiles(&self, now: Moment) -> [Percentiles; WINDOWS.len()] {
        let current = number(now);
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        WINDOWS.map(|window| {
            let range = current.saturating_sub(window.intervals)..current;
            let mut sum = histogram();
            for interval in kept.iter().filter(|one| range.contains(&one.number)) {
                sum.add(&interval.times).unwrap_or_default();
            }
            Percentiles::of(&sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Moment {
        Moment::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn a_window_ends_with_the_last_complete_interval() {
        let (windows, mut times) = (DeliveryWindows::default(), DeliveryTimes::default());
        times.record(Duration::from_millis(1), 90);
        times.record(Duration::from_millis(43), 10);
        assert!(times.take(second(9)).is_none(), "the interval goes on");
        windows.add(times.take(second(10)).expect("it has ended"));
        assert_eq!(times.percentiles().count, 0, "the next one is empty");
        let [short, minute, long] = windows.percentiles(second(11));
        assert_eq!((short, minute), (long, long));
        assert_eq!(short.count, 100);
        for (found, millis) in [(short.p50, 1), (short.p90, 1), (short.p99, 43), (short.p999, 43)] {
            let exact = Duration::from_millis(millis);
            assert!(found >= exact && found <= exact.mul_f64(1.01), "{found:?} {millis}");
        }
        let [short, minute, long] = windows.percentiles(second(25));
        assert_eq!((short.count, minute.count, long.count), (0, 100, 100));
        let counts = windows.percentiles(second(310)).map(|one| one.count);
        assert_eq!(counts, [0, 0, 0], "it was more than 5 min ago");
    }

    #[test]
    fn intervals_of_all_shards_are_added() {
        let windows = DeliveryWindows::default();
        for millis in [1, 2] {
            let mut times = DeliveryTimes::default();
            times.record(Duration::from_millis(millis), 50);
            windows.add(times.take(second(10)).expect("it has ended"));
        }
        let [short, ..] = windows.percentiles(second(10));
        assert_eq!(short.count, 100);
        assert!(short.p50 < Duration::from_millis(2) && short.p90 >= Duration::from_millis(2));
    }

    #[test]
    fn memory_is_bounded() {
        let (windows, mut times) = (DeliveryWindows::default(), DeliveryTimes::default());
        for number in 1..=1000 {
            times.record(Duration::from_secs(1_000_000), 1);
            windows.add(times.take(second(10 * number)).expect("it has ended"));
        }
        assert_eq!(windows.0.lock().expect("no panic").len(), DELIVERY_INTERVALS_MAX);
        assert_eq!(windows.percentiles(second(10_000))[2].count, DELIVERY_INTERVALS_MAX as u64);
        let bytes = histogram().distinct_values() * size_of::<u32>();
        assert!(bytes <= 12 * 1024, "{bytes} B for one interval");
    }
}
