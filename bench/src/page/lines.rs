//! Lines between two axes.

use super::axis::{Axis, Direction, LETTER_PIXELS, Ruler};
use super::drawing::{Drawing, Room, Series, colour, dash, marker, px, shortened};
use maud::{Markup, html};

/// Pixels above the plot, for the title of the vertical axis.
const TOP: f64 = 34.0;
/// Pixels below the plot, for labels and title of the horizontal axis.
const BOTTOM: f64 = 48.0;
/// Pixels to the right of the plot, for half a label.
const RIGHT: f64 = 26.0;
/// Maximum number of markers on a line. More would hide it.
const MARKERS_MAX: usize = 24;
/// Number of markers on a line that has too many points for one each.
const MARKERS_SPARSE: usize = 8;

/// The area in which lines are drawn.
struct Plot {
    left: f64,
    right: f64,
    bottom: f64,
    x: Ruler,
    y: Ruler,
}

/// Draws `series`.
pub(super) fn draw(x: &Axis, y: &Axis, series: &[Series], room: Room) -> Drawing {
    let height = if room == Room::Wide { 380.0 } else { 300.0 };
    let (right, bottom) = (room.width() - RIGHT, height - BOTTOM);
    let values = |part: fn(&(f64, f64)) -> f64| {
        // A point without a position on one axis must not stretch the other axis.
        let whole = |(x, y): &&(f64, f64)| (x + y).is_finite();
        series.iter().flat_map(|one| &one.points).filter(whole).map(part)
    };
    let y_ruler = Ruler::new(y, Direction::Up, values(|point| point.1), (bottom, TOP));
    let letters = y_ruler.ticks.iter().map(|tick| tick.text.chars().count()).max().unwrap_or(0);
    let left = letters as f64 * LETTER_PIXELS + 12.0;
    let x_ruler = Ruler::new(x, Direction::Across, values(|point| point.0), (left, right));
    let plot = Plot { left, right, bottom, x: x_ruler, y: y_ruler };
    let content = html! {
        (plot.frame(x, y))
        @for (number, one) in series.iter().enumerate() {
            g class=(colour(number)) {
                (plot.line(number, one))
                // Dense points need markers only to distinguish lines.
                @if one.points.len() <= MARKERS_MAX || series.len() > 1 {
                    (plot.markers(number, one, (x, y)))
                }
            }
        }
    };
    Drawing { content, height }
}

impl Plot {
    fn frame(&self, x: &Axis, y: &Axis) -> Markup {
        let (left, right, bottom) = (px(self.left), px(self.right), px(self.bottom));
        html! {
            @for tick in &self.y.ticks {
                path.grid d=(format!("M{left} {}H{right}", px(tick.at))) {}
                text.end x=(px(self.left - 8.0)) y=(px(tick.at + 4.5)) { (tick.text) }
            }
            @for tick in &self.x.ticks {
                path.grid d=(format!("M{} {bottom}V{}", px(tick.at), px(TOP))) {}
                text.middle x=(px(tick.at)) y=(px(self.bottom + 19.0)) { (tick.text) }
            }
            path.axis d=(format!("M{left} {bottom}H{right}")) {}
            text.name x="2" y="14" { (shortened(&y.title, self.right)) }
            text.name.end x=(right) y=(px(self.bottom + 41.0)) {
                (shortened(&x.title, self.right))
            }
        }
    }

    fn line(&self, number: usize, series: &Series) -> Markup {
        let places: Vec<_> = series.points.iter().map(|point| self.place(*point)).collect();
        html! { path.line d=(path(&places)) stroke-dasharray=(dash(number)) {} }
    }

    fn markers(&self, number: usize, series: &Series, axes: (&Axis, &Axis)) -> Markup {
        let points = series.points.iter();
        let places: Vec<_> =
            points.filter_map(|point| Some((self.place(*point)?, *point))).collect();
        let sparse = places.len() > MARKERS_MAX;
        let step = if sparse { places.len().div_ceil(MARKERS_SPARSE) } else { 1 };
        // Offset the markers of each series, so that lines at the same place stay distinguishable.
        let offset = (number * step / 5 + step / 3) % step;
        html! {
            @for (place, point) in places.into_iter().skip(offset).step_by(step) {
                (marker(number, place, &told(&series.name, axes, point)))
            }
        }
    }

    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        self.x.at(x).zip(self.y.at(y))
    }
}

/// Returns the path through `places`, with a gap for each missing one.
fn path(places: &[Option<(f64, f64)>]) -> String {
    let runs = places.split(Option::is_none).filter(|run| !run.is_empty());
    let run = |run: &[Option<(f64, f64)>]| {
        let points: Vec<_> =
            run.iter().flatten().map(|(x, y)| format!("{} {}", px(*x), px(*y))).collect();
        // A point between gaps is a line of length zero. Its round ends make it visible.
        let alone = if points.len() == 1 { "h0" } else { "" };
        format!("M{}{alone}", points.join("L"))
    };
    runs.map(run).collect()
}

fn told(name: &str, (x, y): (&Axis, &Axis), point: (f64, f64)) -> String {
    let text = format!("{}: {}\n{}: {}", x.title, x.text(point.0), y.title, y.text(point.1));
    if name.is_empty() { text } else { format!("{name}\n{text}") }
}
