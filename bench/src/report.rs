//! What a scenario found, for people and for programs.

use crate::cli::CommonArgs;
use crate::error::Error;
use crate::failure::Failures;
use crate::process::Usage;
use serde::Serialize;
use std::io::Write;

/// Share of a processor above which a thread of the generator may have been what held things up.
pub(crate) const BUSY_SHARE_MAX: f64 = 0.9;

/// One line of the table.
pub(crate) type Row = (&'static str, String);

/// What can be shown at the end.
pub(crate) trait Report: Serialize {
    /// The table for people.
    fn rows(&self) -> Vec<Row>;
    /// Tables with several columns, below it.
    fn tables(&self) -> Vec<Table> {
        Vec::new()
    }
    /// What makes the figures doubtful.
    fn warnings(&self) -> Vec<String>;
}

/// A table with a heading; the first column is text, the others are figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    fn text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths = (0..self.head.len()).map(|column| width(column).unwrap_or(0));
        let widths = widths.collect::<Vec<_>>();
        let line = |cells: &Vec<String>| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") }
            });
            cells.collect::<String>() + "\n"
        };
        lines().map(line).collect()
    }
}

/// Prints `report` on standard output, and its warnings on standard error.
pub(crate) fn print(report: &impl Report, common: &CommonArgs) -> Result<(), Error> {
    let text = if common.json {
        let text = serde_json::to_string(report).map_err(std::io::Error::from);
        text.map_err(|error| Error::system("write the report", error))?
    } else {
        let tables = report.tables();
        let tables = tables.iter().map(|table| format!("\n{}", table.text()));
        table(&report.rows()) + &tables.collect::<String>()
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
#[derive(Clone, Copy, Debug, Default, Serialize)]
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
        "{:.2} s CPU ({:.1} % of one; {:.2} s user, {:.2} s kernel){}; RSS {} -> {}",
        usage.cpu_seconds,
        usage.cpu_share * 100.0,
        usage.user_seconds,
        usage.system_seconds,
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
    fn a_table_with_columns_is_aligned() {
        let cells = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = Table { head: cells(["name", "µs"]), rows: vec![cells(["a", "12345"])] };
        assert_eq!(table.text(), "name     µs\na     12345\n");
    }

    #[test]
    fn a_table_is_aligned() {
        let rows = [("one", "1".to_owned()), ("three µs", "3".to_owned())];
        assert_eq!(table(&rows), "one       1\nthree µs  3\n");
    }
}
