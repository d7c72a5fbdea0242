//! The report of a comparison: rows, the table of ratios, and charts.

use super::figures::{MEASURES, Measure, Ratio, ServerReport};
use crate::page::{Bar, BarSeries, Chart, Section, Table, Unit};
use crate::report::{self, Report, Row, linear};
use crate::stats::{Estimate, median};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct CompareReport {
    pub(super) scenario: &'static str,
    pub(super) load: String,
    pub(super) connections: usize,
    pub(super) payload_bytes: usize,
    pub(super) seconds_per_window: u64,
    pub(super) servers: Vec<ServerReport>,
    pub(super) ratios: Vec<Ratio>,
    /// Assertions that did not hold.
    pub(super) broken_assertions: Vec<String>,
    pub(super) ended: &'static str,
    pub(super) passed: bool,
}

impl Report for CompareReport {
    fn title(&self) -> String {
        let names = self.servers.iter().map(|server| server.name.as_str());
        names.collect::<Vec<_>>().join(" and ")
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            ("load", self.load.clone()),
            ("connections", format!("{} to each server", self.connections)),
        ];
        for server in &self.servers {
            let (name, url, faults) = (&server.name, &server.url, server.faults.text());
            rows.push(("server", format!("{name} at {url}: {faults}")));
            rows.extend(server.error.clone().map(|error| ("", error)));
        }
        for assertion in &self.broken_assertions {
            rows.push(("NOT MET", assertion.clone()));
        }
        rows.push(("run", self.ended.to_owned()));
        rows
    }

    fn tables(&self) -> Vec<Table> {
        let others = self
            .servers
            .iter()
            .skip(1)
            .map(|server| format!("{} / {}", self.servers[0].name, server.name));
        let names = self.servers.iter().map(|server| server.name.clone());
        let head = std::iter::once("median".to_owned()).chain(names).chain(others).collect();
        let rows = MEASURES.iter().filter_map(|(measure, name, title, _)| {
            let mut cells = vec![(*title).to_owned()];
            for server in &self.servers {
                let values = server.figures.iter().filter_map(|figures| figures.get(*measure));
                let mut values = values.collect::<Vec<_>>();
                if values.is_empty() {
                    return None;
                }
                cells.push(figure_text(median(&mut values)));
            }
            for other in self.servers.iter().skip(1) {
                let mut found = self.ratios.iter();
                let found = found.find(|ratio| ratio.measure == *name && ratio.to == other.name);
                cells.push(found.map_or_else(String::new, |ratio| {
                    let Estimate { median, low, high, .. } = ratio.estimate;
                    format!("{median:.3} ({low:.3}–{high:.3})")
                }));
            }
            Some(cells)
        });
        vec![Table { head, rows: rows.collect() }]
    }

    fn charts(&self) -> Vec<Section> {
        let mut sections = Vec::new();
        if let Some(first) = self.servers.first().filter(|_| !self.ratios.is_empty()) {
            let measures = MEASURES.iter().map(|(_, name, ..)| *name);
            let known =
                measures.filter(|name| self.ratios.iter().any(|ratio| ratio.measure == *name));
            let known = known.collect::<Vec<_>>();
            let bar = |measure: &str, to: &str| {
                let mut found = self.ratios.iter();
                let found = found.find(|ratio| ratio.measure == measure && ratio.to == to);
                found.map_or(Bar { value: f64::NAN, interval: None }, |ratio| {
                    let Estimate { median, low, high, .. } = ratio.estimate;
                    Bar { value: median, interval: Some((low, high)) }
                })
            };
            let others = self.servers.iter().skip(1).map(|other| BarSeries {
                name: format!("{} / {}", first.name, other.name),
                bars: known.iter().map(|measure| bar(measure, &other.name)).collect(),
            });
            sections.push(Section {
                title: format!("{} against the others", first.name),
                text: Some(format!(
                    "Medians of the ratios of each pair, with 90 % intervals. Below 1, {} is \
                     better; for the rate, above 1.",
                    first.name
                )),
                chart: Some(Chart::Bars {
                    y: linear("ratio", Unit::Ratio),
                    labels: known.iter().map(|name| (*name).to_owned()).collect(),
                    series: others.collect(),
                    reference: Some((1.0, "the same".to_owned())),
                }),
                ..Section::default()
            });
        }
        for (measure, _, title, better) in MEASURES {
            let values = |server: &ServerReport| {
                let values = server.figures.iter().filter_map(|figures| figures.get(measure));
                values.collect::<Vec<_>>()
            };
            let estimates = self
                .servers
                .iter()
                .filter_map(|server| Some((server.name.clone(), Estimate::of(&values(server))?)));
            let (labels, estimates): (Vec<_>, Vec<_>) = estimates.unzip();
            if estimates.is_empty() {
                continue;
            }
            let bars = estimates.iter().map(|estimate: &Estimate| Bar {
                value: estimate.median,
                interval: Some((estimate.low, estimate.high)),
            });
            let series = vec![BarSeries { name: title.to_owned(), bars: bars.collect() }];
            let unit = if measure == Measure::Rate { Unit::PerSecond } else { Unit::Microseconds };
            let y = linear(title, unit);
            sections.push(Section {
                title: title.to_owned(),
                text: Some(better.text().to_owned()),
                chart: Some(Chart::Bars { y, labels, series, reference: None }),
                ..Section::default()
            });
        }
        sections
    }

    fn warnings(&self) -> Vec<String> {
        let busy = self.servers.iter().filter_map(|server| {
            let shares = server.figures.iter();
            let shares = shares.map(|figures| figures.generator_busiest_thread_share);
            let mut shares = shares.collect::<Vec<_>>();
            let share = if shares.is_empty() { 0.0 } else { median(&mut shares) };
            (share > report::BUSY_SHARE_MAX).then(|| {
                format!(
                    "{}: a thread of the generator was {:.0} % busy (median): rates and latencies \
                     show its limit, not the server's; CPU per delivery is not affected",
                    server.name,
                    share * 100.0
                )
            })
        });
        busy.collect()
    }
}

/// Formats a figure with its meaningful digits.
fn figure_text(value: f64) -> String {
    if value < 100.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}
