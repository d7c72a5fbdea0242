//! What pictures are drawn of, and what all of them look like.

use super::axis::{Axis, LETTER_PIXELS};
use maud::{Markup, html};

/// Looks that are told apart by colour alone; the style sheet has a colour for each. Series beyond
/// them repeat colours and markers with other dashes.
const COLOURS: usize = 8;
/// Dashes and gaps of lines, in pixels.
const DASHES: [&str; 4] = ["none", "8 4", "2 4", "12 4 2 4"];

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Whose values these are.
    pub(crate) name: String,
    /// From left to right. A value that is not finite is a gap.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Bars of one colour.
#[derive(Clone, Debug)]
pub(crate) struct BarSeries {
    /// Whose values these are.
    pub(crate) name: String,
    /// One for each label.
    pub(crate) bars: Vec<Bar>,
}

/// A value, and how sure it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    /// Its best estimate. There is no bar if it is not finite.
    pub(crate) value: f64,
    /// Lower and upper bound.
    pub(crate) interval: Option<(f64, f64)>,
}

/// What a chart is drawn for. Each is drawn at its own size, so that letters keep theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// A screen or a sheet of paper.
    Wide,
    /// A phone.
    Narrow,
}

impl Room {
    /// Class of the style sheet, which shows the one that fits.
    pub(super) fn class(self) -> &'static str {
        if self == Self::Wide { "wide" } else { "narrow" }
    }

    pub(super) fn width(self) -> f64 {
        if self == Self::Wide { 760.0 } else { 344.0 }
    }
}

impl Bar {
    /// Both bounds, the lower first, if they are two.
    pub(super) fn bounds(&self) -> Option<(f64, f64)> {
        let (one, other) = self.interval.filter(|(low, high)| (low + high).is_finite())?;
        Some((one.min(other), one.max(other)))
    }

    /// For people.
    pub(super) fn text(&self, axis: &Axis) -> String {
        let value = axis.text(self.value);
        match self.bounds().filter(|_| self.value.is_finite()) {
            Some((low, high)) => format!("{value} ({} – {})", axis.text(low), axis.text(high)),
            None => value,
        }
    }
}

/// What is inside of a picture.
pub(super) struct Drawing {
    pub(super) content: Markup,
    pub(super) height: f64,
}

/// Class of the colour of the series with this number.
pub(super) fn colour(number: usize) -> String {
    format!("s{}", number % COLOURS)
}

/// Dashes of the line with this number.
pub(super) fn dash(number: usize) -> &'static str {
    DASHES[(number + number / COLOURS) % DASHES.len()]
}

/// The mark of the series with this number, with what is told when one points at it.
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

/// A coordinate, with as many digits as can be seen.
pub(super) fn px(pixels: f64) -> String {
    let text = format!("{pixels:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// `text`, cut to what has room in so many pixels. The page has all of it beside the picture.
pub(super) fn shortened(text: &str, pixels: f64) -> String {
    // Names have wider letters than numbers.
    let letters_max = (pixels / (LETTER_PIXELS * 1.1)) as usize;
    if text.chars().count() <= letters_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(letters_max.saturating_sub(1)).collect();
    format!("{kept}…")
}
