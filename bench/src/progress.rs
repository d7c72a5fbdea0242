//! One line on standard error while something long runs, once a second, on a terminal only.

use crate::fleet::Totals;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// The line that is rewritten.
pub(crate) struct Progress {
    shown: bool,
    last: Instant,
    last_count: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), last: Instant::now(), last_count: 0 }
    }

    /// Shows how many `verb` ("connected") there are, if a second has passed since the last time.
    pub(crate) fn tick(&mut self, verb: &str, count: u64, totals: Totals) {
        let elapsed = self.last.elapsed();
        if !self.shown || elapsed < INTERVAL {
            return;
        }
        let rate = count.saturating_sub(self.last_count) as f64 / elapsed.as_secs_f64();
        self.last = Instant::now();
        self.last_count = count;
        let Totals { established, failed, lost, .. } = totals;
        self.write(&format!(
            "{verb} {count} ({rate:.0}/s), {established} connections, {failed} failed, {lost} lost"
        ));
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.shown {
            self.write("");
        }
    }

    fn write(&mut self, text: &str) {
        // Progress that cannot be shown is not worth stopping for; it is not tried again.
        self.shown = write!(std::io::stderr(), "\r\x1b[K{text}").is_ok();
    }
}
