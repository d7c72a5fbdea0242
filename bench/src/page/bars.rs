//! Horizontal bars. Each name is above its bars, so it may have any length.

use super::axis::{Axis, Direction, LETTER_PIXELS, Ruler, Scale};
use super::drawing::{Bar, BarSeries, Drawing, Room, colour, marker, px, shortened};
use maud::{Markup, html};

/// Pixels above the plot, for the text of the reference.
const TOP: f64 = 26.0;
/// Pixels below the plot, for labels and title of the axis.
const BOTTOM: f64 = 48.0;
/// Pixels to the left of the plot, for half a label.
const LEFT: f64 = 26.0;
/// Height of a name in pixels.
const LABEL: f64 = 22.0;
/// Height of a bar in pixels, with the gap below it.
const BAR: f64 = 20.0;
/// Gap between bars in pixels.
const BAR_GAP: f64 = 5.0;
/// Gap between the bars of one name and the next name, in pixels.
const GROUP_GAP: f64 = 10.0;

/// The area in which bars are drawn.
struct Plot<'a> {
    axis: &'a Axis,
    ruler: Ruler,
    bottom: f64,
    /// The horizontal pixel at which bars begin.
    base: f64,
    room: Room,
}

/// Draws one bar of each series for each label.
pub(super) fn draw(
    axis: &Axis,
    (labels, series): (&[String], &[BarSeries]),
    reference: Option<&(f64, String)>,
    room: Room,
) -> Drawing {
    let bars = || series.iter().flat_map(|one| one.bars.iter().take(labels.len()));
    let group = LABEL + BAR * series.len() as f64 + GROUP_GAP;
    let bottom = TOP + group * labels.len() as f64;
    let texts = bars().map(|bar| value_text(axis, bar, room).chars().count());
    let letters = texts.max().unwrap_or(0) as f64;
    let right = room.width() - (letters * LETTER_PIXELS + 14.0).min(room.width() / 2.0);
    let bounds = bars().filter_map(Bar::bounds).flat_map(|(low, high)| [low, high]);
    let values = bars().map(|bar| bar.value).chain(bounds);
    let values = values.chain(reference.map(|(value, _)| *value));
    let ruler = Ruler::new(axis, Direction::Across, values, (LEFT, right));
    let reference = reference.and_then(|(value, text)| Some((ruler.at(*value)?, text)));
    let zero = if axis.scale == Scale::Linear { ruler.at(0.0) } else { None };
    // Other scales have no zero. Their bars begin at the reference, or at the left.
    let base = zero.or(reference.map(|(at, _)| at)).unwrap_or(LEFT);
    let plot = Plot { axis, ruler, bottom, base, room };
    let content = html! {
        (plot.frame())
        @if let Some((at, text)) = reference { (plot.reference(at, text)) }
        @for (number, label) in labels.iter().enumerate() {
            @let top = TOP + group * number as f64;
            (plot.label(label, top))
            @for (which, one) in series.iter().enumerate() {
                @if let Some(bar) = one.bars.get(number) {
                    g class=(colour(which)) {
                        (plot.bar(which, bar, top + LABEL + BAR * which as f64))
                    }
                }
            }
        }
    };
    Drawing { content, height: bottom + BOTTOM }
}

impl Plot<'_> {
    fn frame(&self) -> Markup {
        html! {
            @for tick in &self.ruler.ticks {
                path.grid d=(format!("M{} {}V{}", px(tick.at), px(TOP), px(self.bottom))) {}
                text.middle x=(px(tick.at)) y=(px(self.bottom + 19.0)) { (tick.text) }
            }
            path.axis d=(format!("M{} {}V{}", px(self.base), px(TOP), px(self.bottom))) {}
            text.name x=(px(LEFT)) y=(px(self.bottom + 41.0)) {
                (shortened(&self.axis.title, self.room.width() - LEFT))
            }
        }
    }

    fn label(&self, label: &str, top: f64) -> Markup {
        html! {
            text.label x=(px(LEFT + 5.0)) y=(px(top + LABEL - 6.0)) {
                (shortened(label, self.room.width() - LEFT - 5.0))
            }
        }
    }

    fn bar(&self, which: usize, bar: &Bar, top: f64) -> Markup {
        let Some(at) = self.ruler.at(bar.value) else {
            return html! {
                text.value x=(px(self.base + 8.0)) y=(px(top + 12.0)) {
                    (self.axis.text(bar.value))
                }
            };
        };
        let middle = top + (BAR - BAR_GAP) / 2.0;
        let bounds =
            bar.bounds().and_then(|(low, high)| self.ruler.at(low).zip(self.ruler.at(high)));
        let end = bounds.map_or(at, |(_, high)| high.max(at)).max(self.base);
        html! {
            rect.bar x=(px(at.min(self.base))) y=(px(top)) width=(px((at - self.base).abs()))
                height=(px(BAR - BAR_GAP)) {}
            @if let Some((low, high)) = bounds {
                path.interval d=(whisker(low, high, middle)) {}
            }
            (marker(which, (at, middle), ""))
            text.value x=(px(end + 8.0)) y=(px(middle + 4.5)) {
                (value_text(self.axis, bar, self.room))
            }
        }
    }

    fn reference(&self, at: f64, text: &str) -> Markup {
        let text = shortened(text, self.room.width());
        let half = text.chars().count() as f64 * LETTER_PIXELS / 2.0;
        // Near the edge it would be cut off.
        let middle = at.min(self.room.width() - half).max(half);
        html! {
            path.reference d=(format!("M{} {}V{}", px(at), px(TOP - 6.0), px(self.bottom))) {}
            text.name.middle x=(px(middle)) y="14" { (text) }
        }
    }
}

/// Returns a line from `low` to `high` with a stop at each end.
fn whisker(low: f64, high: f64, middle: f64) -> String {
    let (low, high, middle) = (px(low), px(high), px(middle));
    format!("M{low} {middle}H{high}M{low} {middle}m0-4v8M{high} {middle}m0-4v8")
}

/// Returns the text beside a bar. On a phone, only the table shows bounds.
fn value_text(axis: &Axis, bar: &Bar, room: Room) -> String {
    if room == Room::Wide { bar.text(axis) } else { axis.text(bar.value) }
}
