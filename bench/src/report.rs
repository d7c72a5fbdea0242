//! What a scenario found, for people and for programs.

use crate::error::Error;
use crate::failure::Failures;
use crate::process::Usage;
use serde::Serialize;
use std::io::Write;

/// Share of a processor above which a thread of the generator may have been what held things up.
const BUSY_SHARE_MAX: f64 = 0.9;

/// One line of the table.
pub(crate) type Row = (&'static str, String);

/// What can be shown at the end.
pub(crate) trait Report: Serialize {
    /// The table for people.
    fn rows(&self) -> Vec<Row>;
    /// What makes the figures doubtful.
    fn warnings(&self) -> Vec<String>;
}

/// Prints `report` on standard output, and its warnings on standard error.
pub(crate) fn print(report: &impl Report, json: bool) -> Result<(), Error> {
    let text = if json {
        let text = serde_json::to_string(report).map_err(std::io::Error::from);
        text.map_err(|error| Error::system("write the report", error))?
    } else {
        table(&report.rows())
    };
    let written = writeln!(std::io::stdout(), "{}", text.trim_end());
    written.map_err(|error| Error::system("write the report", error))?;
    for warning in report.warnings() {
        eprintln!("WARNING: {warning}");
    }
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

/// What the generator itself used while it measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct OwnUsage {
    /// All threads.
    pub(crate) cpu_seconds: f64,
    /// Share of the time that its busiest connection thread worked.
    pub(crate) busiest_thread_share: f64,
}

impl OwnUsage {
    /// From the threads' working times at the start and at the end, in nanoseconds.
    pub(crate) fn between(cpu_ns: u64, before: &[u64], after: &[u64], seconds: f64) -> Self {
        let worked = before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before));
        let most = worked.max().unwrap_or(0) as f64 / 1e9;
        let busiest_thread_share = if seconds > 0.0 { most / seconds } else { 0.0 };
        Self { cpu_seconds: cpu_ns as f64 / 1e9, busiest_thread_share }
    }

    /// A warning if the generator was the limit.
    pub(crate) fn warning(self) -> Option<String> {
        (self.busiest_thread_share > BUSY_SHARE_MAX).then(|| {
            format!(
                "a thread of the generator was {:.0} % busy: rates and latencies are its own \
                 limit, not the server's. Give it more --threads and --cpus.",
                self.busiest_thread_share * 100.0
            )
        })
    }

    pub(crate) fn text(self) -> String {
        let share = self.busiest_thread_share * 100.0;
        format!("{:.2} s CPU, busiest thread {share:.0} %", self.cpu_seconds)
    }
}

/// The server's processor time, for people.
pub(crate) fn usage_text(usage: Usage) -> String {
    let threads = usage.thread_cpu_seconds;
    let threads = threads.map(|seconds| format!(", named threads {seconds:.2} s"));
    format!(
        "{:.2} s CPU ({:.1} % of one){}; RSS {} -> {}",
        usage.cpu_seconds,
        usage.cpu_share * 100.0,
        threads.unwrap_or_default(),
        bytes_text(usage.rss_bytes_before),
        bytes_text(usage.rss_bytes_after)
    )
}

/// Failures by kind, or "none".
pub(crate) fn failures_text(failures: &Failures) -> String {
    if failures.count() == 0 { "none".to_owned() } else { failures.text() }
}

/// Bytes in MiB.
pub(crate) fn bytes_text(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread_decides_about_the_warning() {
        let second = 1_000_000_000;
        let own = OwnUsage::between(2 * second, &[0, 5], &[second / 2, second], 1.0);
        assert!(own.busiest_thread_share > 0.99);
        assert!(own.warning().unwrap().contains("100 % busy"));
        assert!(OwnUsage::between(second, &[0], &[second / 2], 1.0).warning().is_none());
        assert!(OwnUsage::between(0, &[], &[], 0.0).warning().is_none());
    }

    #[test]
    fn a_table_is_aligned() {
        let rows = [("one", "1".to_owned()), ("three µs", "3".to_owned())];
        assert_eq!(table(&rows), "one       1\nthree µs  3\n");
    }
}
