//! The report as one page of HTML: values in, text out. It asks for nothing from any network, and
//! every text from outside is escaped by the macro that writes it.

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

/// Colours and sizes, for light and dark screens, phones and paper.
const STYLE: &str = include_str!("style.css");
/// Forbids the page everything but its own style, whatever the texts in it say.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// A report.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// What was done, and to whom.
    pub(crate) title: String,
    /// Under which circumstances: name and value.
    pub(crate) facts: Vec<(String, String)>,
    /// How it ended, and why.
    pub(crate) verdict: Option<(Outcome, String)>,
    /// What makes the figures doubtful.
    pub(crate) warnings: Vec<String>,
    /// What was found.
    pub(crate) sections: Vec<Section>,
    /// All of it, for programs.
    pub(crate) json: Value,
}

/// How a scenario ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything that was asked for was reached.
    Passed,
    /// Something was not.
    Failed,
    /// It was not waited for.
    Interrupted,
}

/// A part of a report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// What it is about.
    pub(crate) title: String,
    /// What the numbers say, or how they came about.
    pub(crate) text: Option<String>,
    /// Numbers to look up.
    pub(crate) table: Option<Table>,
    /// Numbers to compare.
    pub(crate) chart: Option<Chart>,
}

impl Page {
    /// The whole page.
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
        // A value always has a text: its keys are strings, and its numbers finite.
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
