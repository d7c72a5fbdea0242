//! Log lines that clients can cause. At most one per second and kind is written, and it has the
//! number of those that were left out before it. The log is one for the whole process, and so are
//! these.

use core::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::Moment;
use crate::limits::{LOG_REPEATS_INTERVAL, LOG_TEXT_CHARS_MAX};
use crate::reason::Refusal;

/// The lines of one kind.
#[derive(Debug)]
pub struct Repeats {
    /// Time of the last line, in nanoseconds; 0 means never.
    written_nanos: AtomicU64,
    /// Number of lines that were left out since then.
    left_out: AtomicU64,
}

/// Requests to the API without a valid key.
pub static WRONG_KEYS: Repeats = Repeats::new();

/// Turns of shards that took too long.
pub static STALLS: Repeats = Repeats::new();

/// Entries of ingest streams that can't be published.
pub static DEAD_LETTERS: Repeats = Repeats::new();

/// Refused requests and sockets, by reason.
static REFUSALS: [Repeats; Refusal::ALL.len()] = [const { Repeats::new() }; Refusal::ALL.len()];

impl Repeats {
    const fn new() -> Repeats {
        Repeats { written_nanos: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Returns the number of lines that were left out if a line may be written at `now`. Otherwise
    /// returns `None`, and counts the line as left out. Any thread may call it.
    pub fn admit(&self, now: Moment) -> Option<u64> {
        // Relaxed, because the numbers guard no other memory.
        let before = self.written_nanos.load(Ordering::Relaxed);
        let is_due = before == 0 || now.since(Moment::from_nanos(before)) >= LOG_REPEATS_INTERVAL;
        let now_nanos = now.nanos().max(1);
        let exchange = |before| {
            let order = Ordering::Relaxed;
            self.written_nanos.compare_exchange(before, now_nanos, order, order)
        };
        if is_due && exchange(before).is_ok() {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// The line about a refused request or socket.
#[derive(Clone, Copy, Debug)]
pub struct RefusalLine {
    reason: Refusal,
    left_out: u64,
}

impl RefusalLine {
    /// Returns the line if it may be written at `now`.
    pub fn admit(reason: Refusal, now: Moment) -> Option<RefusalLine> {
        let left_out = REFUSALS[reason as usize].admit(now)?;
        Some(RefusalLine { reason, left_out })
    }

    /// Writes the line. `origin` is the origin that the request named.
    pub fn write(self, origin: Option<&str>, address: Option<IpAddr>) {
        let details = self.reason.details();
        let status = (details.code != 0).then_some(details.code);
        let address = address.map(tracing::field::display);
        let (reason, origin) = (details.label, origin.map(shortened));
        let left_out = (self.left_out > 0).then_some(self.left_out);
        if self.reason == Refusal::Left {
            // Most of these only look whether the port is open.
            tracing::debug!(reason, status, origin, address, left_out, "a client was refused");
        } else {
            tracing::info!(reason, status, origin, address, left_out, "a client was refused");
        }
    }
}

/// Returns the beginning of a text from outside, as much of it as belongs into a log line.
pub fn shortened(text: &str) -> &str {
    text.char_indices().nth(LOG_TEXT_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_is_written_and_the_next_one_counts_the_rest() {
        let repeats = Repeats::new();
        let at = |millis: u64| Moment::from_nanos(millis * 1_000_000);
        assert_eq!(repeats.admit(at(0)), Some(0));
        for millis in 1..1000 {
            assert_eq!(repeats.admit(at(millis)), None);
        }
        assert_eq!(repeats.admit(at(1001)), Some(999));
        assert_eq!(repeats.admit(at(2001)), Some(0));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shortened("https://a.example"), "https://a.example");
        let long = "é".repeat(LOG_TEXT_CHARS_MAX + 1);
        assert_eq!(shortened(&long).chars().count(), LOG_TEXT_CHARS_MAX);
    }
}
