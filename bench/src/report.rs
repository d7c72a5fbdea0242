//! The results of a scenario, for people and for programs.

use crate::cli::CommonArgs;
use crate::error::Error;
use crate::failure::Failures;
use crate::host;
use crate::page::{Axis, Chart, Outcome, Page, Scale, Section, Series, Table, Unit};
use crate::process::Usage;
use crate::profile::Profile;
use crate::verdict::Verdict;
use serde::Serialize;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Share of a processor above which a thread of the generator may have been the bottleneck.
pub(crate) const BUSY_SHARE_MAX: f64 = 0.9;

/// One row of the table.
pub(crate) type Row = (&'static str, String);

/// Results that can be shown at the end.
pub(crate) trait Report: Serialize {
    /// Returns the scenario and the server.
    fn title(&self) -> String;
    /// Returns the table for people.
    fn rows(&self) -> Vec<Row>;
    /// Returns tables with several columns, which are shown below the first one.
    fn tables(&self) -> Vec<Table> {
        Vec::new()
    }
    /// Returns the charts of the page.
    fn charts(&self) -> Vec<Section>;
    /// Returns reasons to doubt the figures.
    fn warnings(&self) -> Vec<String>;
}

/// Prints `report` on standard output, and its warnings on standard error. Writes the page if one
/// was requested.
pub(crate) fn print(
    report: &impl Report,
    common: &CommonArgs,
    verdict: Verdict,
) -> Result<(), Error> {
    let json = serde_json::to_value(report).map_err(io::Error::from);
    let json = json.map_err(|error| Error::system("write the report", error))?;
    let text = if common.json {
        json.to_string()
    } else {
        let tables = report.tables();
        let tables = tables.iter().map(|table| format!("\n{}", columns(table)));
        table(&report.rows()) + &tables.collect::<String>()
    };
    let written = writeln!(io::stdout(), "{}", text.trim_end());
    written.map_err(|error| Error::system("write the report", error))?;
    for warning in once(report.warnings()) {
        eprintln!("WARNING: {warning}");
    }
    match &common.report {
        Some(directory) => write_page(&page(report, json, verdict), directory),
        None => Ok(()),
    }
}

/// Prints the profiles that come with the program.
pub(crate) fn print_profiles() -> Result<Verdict, Error> {
    let mut table = Table { head: Vec::new(), rows: Vec::new() };
    table.head = ["profile", "url", "about"].map(str::to_owned).to_vec();
    for name in Profile::names() {
        let Profile { url, about, .. } = Profile::load(name)?;
        table.rows.push(vec![name.to_owned(), url, about]);
    }
    let written = write!(io::stdout(), "{}", columns(&table));
    written.map_err(|error| Error::system("write the list", error))?;
    Ok(Verdict::Passed)
}

fn page(report: &impl Report, json: serde_json::Value, verdict: Verdict) -> Page {
    let outcome = match verdict {
        Verdict::Passed => Outcome::Passed,
        Verdict::Failed => Outcome::Failed,
        Verdict::Interrupted => Outcome::Interrupted,
    };
    let mut facts = report.rows();
    let ended = facts.pop_if(|(name, _)| *name == "run").map_or_else(String::new, |(_, how)| how);
    let facts = facts.into_iter().map(|(name, value)| (name.trim().to_owned(), value));
    let tables = report.tables().into_iter().map(|table| Section {
        title: "Figures".to_owned(),
        table: Some(table),
        ..Section::default()
    });
    Page {
        title: report.title(),
        facts: facts.chain(host::facts()).collect(),
        verdict: Some((outcome, ended)),
        warnings: once(report.warnings()),
        sections: tables.chain(report.charts()).collect(),
        json,
    }
}

/// Returns the warnings without repetitions.
fn once(warnings: Vec<String>) -> Vec<String> {
    let mut seen = Vec::with_capacity(warnings.len());
    for warning in warnings {
        if !seen.contains(&warning) {
            seen.push(warning);
        }
    }
    seen
}

fn write_page(page: &Page, directory: &Path) -> Result<(), Error> {
    let path = directory.join("index.html");
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, page.html()));
    written.map_err(|error| {
        Error::Usage(format!("--report: cannot write {}: {error}", path.display()))
    })?;
    eprintln!("wrote the report to {}", path.display());
    Ok(())
}

/// The direction in which a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    /// Less of it, such as memory and time.
    Less,
    /// More of it, such as deliveries per second.
    More,
}

impl Better {
    /// The words below the title of a chart.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Less => "Lower is better.",
            Self::More => "Higher is better.",
        }
    }
}

/// Returns a chart of latencies by percentile, with a line for each name. Times are in
/// microseconds.
pub(crate) fn latency_chart(title: &str, lines: Vec<(String, Vec<(f64, f64)>)>) -> Section {
    let series = lines.into_iter().map(|(name, quantiles)| Series {
        name,
        points: quantiles.iter().map(|(quantile, us)| (quantile * 100.0, *us)).collect(),
    });
    let axis = |title: &str, scale, unit| Axis { title: title.to_owned(), scale, unit };
    Section {
        title: title.to_owned(),
        text: Some(Better::Less.text().to_owned()),
        chart: Some(Chart::Lines {
            x: axis("percentile", Scale::Nines, Unit::Percent),
            y: axis("latency", Scale::Log10, Unit::Microseconds),
            series: series.collect(),
        }),
        ..Section::default()
    }
}

/// Returns a chart of lines.
pub(crate) fn line_chart(
    title: &str,
    better: Better,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
) -> Section {
    Section {
        title: title.to_owned(),
        text: Some(better.text().to_owned()),
        chart: Some(Chart::Lines { x, y, series }),
        ..Section::default()
    }
}

/// Returns an axis that begins at zero.
pub(crate) fn linear(title: &str, unit: Unit) -> Axis {
    Axis { title: title.to_owned(), scale: Scale::Linear, unit }
}

/// Returns a logarithmic axis.
pub(crate) fn logarithmic(title: &str, unit: Unit) -> Axis {
    Axis { title: title.to_owned(), scale: Scale::Log10, unit }
}

/// Formats a table with columns: text to the left, figures to the right.
fn columns(table: &Table) -> String {
    let lines = || std::iter::once(&table.head).chain(&table.rows);
    let width = |column: usize| {
        lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths = (0..table.head.len()).map(|column| width(column).unwrap_or(0));
    let widths = widths.collect::<Vec<_>>();
    let line = |cells: &Vec<String>| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let gap = if column == 0 { "" } else { "  " };
            match table.is_numeric(column) {
                true => format!("{gap}{cell:>width$}"),
                false => format!("{gap}{cell:<width$}"),
            }
        });
        cells.collect::<String>() + "\n"
    };
    lines().map(line).collect()
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

/// Resources that the generator itself used during a measurement.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct OwnUsage {
    /// CPU time of all threads.
    pub(crate) cpu_seconds: f64,
    /// Share of the time in which the busiest connection thread worked.
    pub(crate) busiest_thread_share: f64,
}

impl OwnUsage {
    /// Calculates usage from the threads' working times at the start and the end, in nanoseconds.
    pub(crate) fn between(cpu_ns: u64, before: &[u64], after: &[u64], seconds: f64) -> Self {
        let worked = before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before));
        let most = worked.max().unwrap_or(0) as f64 / 1e9;
        let busiest_thread_share = if seconds > 0.0 { most / seconds } else { 0.0 };
        Self { cpu_seconds: cpu_ns as f64 / 1e9, busiest_thread_share }
    }

    /// Returns a warning if the generator was the bottleneck.
    pub(crate) fn warning(self) -> Option<String> {
        (self.busiest_thread_share > BUSY_SHARE_MAX).then(|| {
            format!(
                "a thread of the generator was {:.0} % busy: rates and latencies show its limit, \
                 not the server's. Give it more --threads and --cpus.",
                self.busiest_thread_share * 100.0
            )
        })
    }

    pub(crate) fn text(self) -> String {
        let share = self.busiest_thread_share * 100.0;
        format!("{:.2} s CPU, busiest thread {share:.0} %", self.cpu_seconds)
    }
}

/// Formats the CPU time of the server.
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

/// Formats failures by kind, or "none".
pub(crate) fn failures_text(failures: &Failures) -> String {
    if failures.count() == 0 { "none".to_owned() } else { failures.text() }
}

/// Formats bytes in MiB.
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
        assert_eq!(columns(&table), "name     µs\na     12345\n");
    }

    #[test]
    fn a_table_is_aligned() {
        let rows = [("one", "1".to_owned()), ("three µs", "3".to_owned())];
        assert_eq!(table(&rows), "one       1\nthree µs  3\n");
    }
}
