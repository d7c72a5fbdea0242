//! The elements of pictures, and their style.

use super::axis::{Axis, LETTER_PIXELS};
use maud::{Markup, html};

/// Number of colours, for which the style sheet has classes. Series beyond it repeat colours and
/// markers with other dashes.
const COLOURS: usize = 8;
/// Dashes and gaps of lines, in pixels.
const DASHES: [&str; 4] = ["none", "8 4", "2 4", "12 4 2 4"];

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// The owner of the values.
    pub(crate) name: String,
    /// From left to right. A value that is not finite is a gap.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Bars of one colour.
#[derive(Clone, Debug)]
pub(crate) struct BarSeries {
    /// The owner of the values.
    pub(crate) name: String,
    /// One bar for each label.
    pub(crate) bars: Vec<Bar>,
}

/// A value with its uncertainty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    /// The best estimate. If it is not finite, there is no bar.
    pub(crate) value: f64,
    /// Lower and upper bound.
    pub(crate) interval: Option<(f64, f64)>,
}

/// The medium of a chart. Each has its own drawing, so that letters keep their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// A screen or a sheet of paper.
    Wide,
    /// A phone.
    Narrow,
}

impl Room {
    /// Returns the class in the style sheet, which shows the drawing that fits the screen.
    pub(super) fn class(self) -> &'static str {
        if self == Self::Wide { "wide" } else { "narrow" }
    }

    pub(super) fn width(self) -> f64 {
        if self == Self::Wide { 760.0 } else { 344.0 }
    }
}

impl Bar {
    /// Returns both bounds, the lower one first, if they are finite.
    pub(super) fn bounds(&self) -> Option<(f64, f64)> {
        let (one, other) = self.interval.filter(|(low, high)| (low + high).is_finite())?;
        Some((one.min(other), one.max(other)))
    }

    /// Formats the value and its bounds.
    pub(super) fn text(&self, axis: &Axis) -> String {
        let value = axis.text(self.value);
        match self.bounds().filter(|_| self.value.is_finite()) {
            Some((low, high)) => format!("{value} ({} – {})", axis.text(low), axis.text(high)),
            None => value,
        }
    }
}

/// The content of a picture.
pub(super) struct Drawing {
    pub(super) content: Markup,
    pub(super) height: f64,
}

/// Returns the class for the colour of the series with this number.
pub(super) fn colour(number: usize) -> String {
    format!("s{}", number % COLOURS)
}

/// Returns the dashes of the line with this number.
pub(super) fn dash(number: usize) -> &'static str {
    DASHES[(number + number / COLOURS) % DASHES.len()]
}

/// Returns the marker of the series with this number. `text` is its tooltip.
pub(super) fn marker(number: usize, (x, y): (f64, f64), text: &str) -> Markup {
    let shape = match number % COLOURS {
        0 => "m-3.8 0a3.8 3.8 0 1 0 7.6 0a3.8 3.8 0 1 0-7.6 0z",
        1 => "m-3.4-3.4h6.8v6.8h-6.8z",
        2 => "m0-4.6l4.4 7.8h-8.8z",
        3 => "m0-4.9l4.9 4.9l-4.9 4.9l-4.9-4.9z",
        4 => "m0 4.6l4.4-7.8h-8.8z",
        5 => "m-1.4-4.4h2.8v3h3v2.8h-3v3h-2.8v-3h-3v-2.8h3z",
        6 => "m-2-4.4h4l2.4 4.4l-2.4 4.4h-4l-2.4-4.4z",
        _ => "m0-5l1.4 3.6h3.7l-3 2.3l1.2 3.9l-3.3-2.3l-3.3 2.3l1.2-3.9l-3-2.3h3.7z",
    };
    html! {
        path.marker d=(format!("M{} {}{shape}", px(x), px(y))) {
            @if !text.is_empty() { title { (text) } }
        }
    }
}

/// Formats a coordinate with as many digits as are visible.
pub(super) fn px(pixels: f64) -> String {
    let text = format!("{pixels:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// Cuts `text` to a width in pixels. The page has the full text beside the picture.
pub(super) fn shortened(text: &str, pixels: f64) -> String {
    // Names have wider letters than numbers.
    let letters_max = (pixels / (LETTER_PIXELS * 1.1)) as usize;
    if text.chars().count() <= letters_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(letters_max.saturating_sub(1)).collect();
    format!("{kept}…")
}
