//! The report as one HTML page. It requests nothing from any network, and the macro that writes the
//! page escapes all text.

mod axis;
mod bars;
mod chart;
mod drawing;
mod lines;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use axis::{Axis, Scale, Unit};
pub(crate) use chart::Chart;
pub(crate) use drawing::{Bar, BarSeries, Series};
pub(crate) use table::Table;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

/// Colours and sizes for light and dark screens, phones and paper.
const STYLE: &str = include_str!("style.css");
/// Forbids the page everything but its own style, whatever its texts contain.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// A report.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The scenario and the server.
    pub(crate) title: String,
    /// The circumstances: name and value.
    pub(crate) facts: Vec<(String, String)>,
    /// The outcome and its reason.
    pub(crate) verdict: Option<(Outcome, String)>,
    /// Reasons to doubt the figures.
    pub(crate) warnings: Vec<String>,
    /// The results.
    pub(crate) sections: Vec<Section>,
    /// The whole report for programs.
    pub(crate) json: Value,
}

/// The outcome of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All expectations were met.
    Passed,
    /// An expectation was not met.
    Failed,
    /// The scenario was interrupted.
    Interrupted,
}

/// A part of a report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// The subject of the section.
    pub(crate) title: String,
    /// The meaning of the numbers, or how they were measured.
    pub(crate) text: Option<String>,
    /// A table of numbers.
    pub(crate) table: Option<Table>,
    /// A chart of numbers.
    pub(crate) chart: Option<Chart>,
}

impl Page {
    /// Renders the whole page.
    pub(crate) fn html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    link rel="icon" href="data:,";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body { (self.main()) }
            }
        };
        page.into_string()
    }

    fn main(&self) -> Markup {
        // Serialisation can't fail, because all keys are strings and all numbers finite.
        let json = format!("{:#}", self.json);
        html! {
            main {
                header {
                    h1 { (self.title) }
                    @if let Some((outcome, text)) = &self.verdict { (outcome.markup(text)) }
                    @if !self.warnings.is_empty() {
                        div.warnings role="note" aria-label="Warnings" {
                            ul { @for warning in &self.warnings { li { (warning) } } }
                        }
                    }
                    dl.facts {
                        @for (name, value) in &self.facts { dt { (name) } dd { (value) } }
                    }
                }
                @for section in &self.sections { (section.markup()) }
                details.raw { summary { "Raw data (JSON)" } pre tabindex="0" { (json) } }
            }
        }
    }
}

impl Outcome {
    fn markup(self, text: &str) -> Markup {
        let (class, word) = match self {
            Self::Passed => ("passed", "Passed"),
            Self::Failed => ("failed", "Failed"),
            Self::Interrupted => ("interrupted", "Interrupted"),
        };
        html! {
            p.verdict.(class) { (word) @if !text.is_empty() { ": " (text) } }
        }
    }
}

impl Section {
    fn markup(&self) -> Markup {
        html! {
            section {
                h2 { (self.title) }
                @if let Some(text) = &self.text { p { (text) } }
                @if let Some(table) = &self.table { (table.markup(&self.title)) }
                @if let Some(chart) = &self.chart { (chart.figure(&self.title)) }
            }
        }
    }
}
