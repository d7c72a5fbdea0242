//! Charts with a legend, and their numbers as a table.

use super::axis::Axis;
use super::drawing::{BarSeries, Room, Series, colour, dash, marker, px};
use super::table::Table;
use super::{bars, lines};
use maud::{Markup, html};
use std::fmt::Write;

/// Maximum number of points drawn per series. If there are more, the lowest and highest of each
/// stretch are kept.
pub(super) const POINTS_MAX: usize = 2000;

/// A chart of a section.
#[derive(Clone, Debug)]
pub(crate) enum Chart {
    /// Values that depend on a number.
    Lines {
        /// The axis of the number.
        x: Axis,
        /// The axis of the values.
        y: Axis,
        /// One line each.
        series: Vec<Series>,
    },
    /// Values that depend on a name.
    Bars {
        /// The axis of the values.
        y: Axis,
        /// One name for each bar of a series.
        labels: Vec<String>,
        /// Each series has one bar for every name.
        series: Vec<BarSeries>,
        /// A value to compare all others with, and its meaning.
        reference: Option<(f64, String)>,
    },
}

impl Chart {
    /// Returns the chart with its legend and table.
    pub(super) fn figure(&self, title: &str) -> Markup {
        let thinned = self.thinned();
        let chart = thinned.as_ref().unwrap_or(self);
        let table = chart.table();
        html! {
            figure {
                (chart.legend())
                @for room in [Room::Wide, Room::Narrow] { (chart.picture(title, room)) }
                @if chart.is_empty() { p.none { "There is nothing to draw." } }
                details {
                    summary { "Numbers of this chart" }
                    @if thinned.is_some() {
                        p { "Only the lowest and the highest value of each stretch, as in the "
                            "chart. The raw data has all numbers." }
                    }
                    (table.markup(title))
                }
            }
        }
    }

    fn picture(&self, title: &str, room: Room) -> Markup {
        let description = self.description();
        let drawing = match self {
            Self::Lines { x, y, series } => lines::draw(x, y, series, room),
            Self::Bars { y, labels, series, reference } => {
                bars::draw(y, (labels, series), reference.as_ref(), room)
            }
        };
        let size = format!("0 0 {} {}", px(room.width()), px(drawing.height));
        html! {
            svg class=(room.class()) viewBox=(size) role="img" {
                title { (title) }
                desc { (description) }
                (drawing.content)
            }
        }
    }

    fn legend(&self) -> Markup {
        let names = self.names();
        html! {
            @if names.iter().any(|name| !name.is_empty()) {
                ul.legend {
                    @for (number, name) in names.iter().enumerate() {
                        li class=(colour(number)) {
                            svg viewBox="0 0 36 14" width="36" height="14" aria-hidden="true" {
                                @if matches!(self, Self::Lines { .. }) {
                                    path.line d="M1 7H35" stroke-dasharray=(dash(number)) {}
                                    (marker(number, (18.0, 7.0), ""))
                                } @else {
                                    rect.bar x="1" y="1" width="28" height="12" {}
                                    (marker(number, (29.0, 7.0), ""))
                                }
                            }
                            span { (name) }
                        }
                    }
                }
            }
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Lines { series, .. } => series.iter().map(|one| one.name.as_str()).collect(),
            Self::Bars { series, .. } => series.iter().map(|one| one.name.as_str()).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Lines { series, .. } => {
                !series.iter().flat_map(|one| &one.points).any(|(x, y)| (x + y).is_finite())
            }
            Self::Bars { series, .. } => {
                !series.iter().flat_map(|one| &one.bars).any(|bar| bar.value.is_finite())
            }
        }
    }

    /// Describes the chart for people who can't see it. The table has the details.
    fn description(&self) -> String {
        let (axis, title, values): (_, _, Vec<Vec<f64>>) = match self {
            Self::Lines { x, y, series } => {
                let values = |one: &Series| one.points.iter().map(|(_, y)| *y).collect();
                (y, format!("{} by {}.", y.title, x.title), series.iter().map(values).collect())
            }
            Self::Bars { y, series, .. } => {
                let values = |one: &BarSeries| one.bars.iter().map(|bar| bar.value).collect();
                (y, format!("{}.", y.title), series.iter().map(values).collect())
            }
        };
        self.names().iter().zip(values).fold(title, |mut text, (name, values)| {
            let finite = || values.iter().copied().filter(|value| value.is_finite());
            let range = finite().reduce(f64::min).zip(finite().reduce(f64::max));
            let range = range.map_or_else(
                || "no values".to_owned(),
                |(low, high)| format!("{} to {}", axis.text(low), axis.text(high)),
            );
            let name = if name.is_empty() { "values" } else { name };
            // Writing to a String can't fail.
            write!(text, " {name}: {range}.").ok();
            text
        })
    }

    fn table(&self) -> Table {
        match self {
            Self::Lines { x, y, series } => lines_table(x, y, series),
            Self::Bars { y, labels, series, .. } => bars_table(y, labels, series),
        }
    }

    /// Returns the chart with fewer points, if it has more than can be distinguished.
    fn thinned(&self) -> Option<Self> {
        let Self::Lines { x, y, series } = self else { return None };
        series.iter().any(|one| one.points.len() > POINTS_MAX).then(|| Self::Lines {
            x: x.clone(),
            y: y.clone(),
            series: series
                .iter()
                .map(|one| Series { name: one.name.clone(), points: thin(&one.points) })
                .collect(),
        })
    }
}

/// Reduces `points` to `POINTS_MAX`. The lowest and the highest of each stretch stay, so that
/// neither a dip nor a peak is lost.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(POINTS_MAX / 2);
    let ends = points.chunks(stretch).flat_map(|stretch| {
        let by_value =
            |(_, a): &(usize, &(f64, f64)), (_, b): &(usize, &(f64, f64))| a.1.total_cmp(&b.1);
        let finite = || stretch.iter().enumerate().filter(|(_, (x, y))| (x + y).is_finite());
        let (low, high) = (finite().min_by(by_value), finite().max_by(by_value));
        let mut ends: Vec<_> = low.into_iter().chain(high).collect();
        ends.sort_by_key(|(number, _)| *number);
        ends.dedup_by_key(|(number, _)| *number);
        // A stretch without values stays a gap.
        let gap = ends.is_empty().then(|| (stretch[0].0, f64::NAN));
        ends.into_iter().map(|(_, point)| *point).chain(gap).collect::<Vec<_>>()
    });
    ends.collect()
}

fn lines_table(x: &Axis, y: &Axis, series: &[Series]) -> Table {
    let mut places: Vec<f64> =
        series.iter().flat_map(|one| &one.points).map(|point| point.0).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    places.retain(|place| place.is_finite());
    let head = std::iter::once(x.title.clone())
        .chain(series.iter().map(|one| column(&one.name, y)))
        .collect();
    let columns: Vec<Vec<(f64, f64)>> = series
        .iter()
        .map(|one| {
            let mut points = one.points.clone();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points
        })
        .collect();
    let cell = |points: &[(f64, f64)], place: f64| {
        let at = points.partition_point(|point| point.0.total_cmp(&place).is_lt());
        let point = points.get(at).filter(|point| point.0 == place);
        y.text(point.map_or(f64::NAN, |point| point.1))
    };
    let row = |place: &f64| {
        std::iter::once(x.text(*place))
            .chain(columns.iter().map(|points| cell(points, *place)))
            .collect()
    };
    Table { head, rows: places.iter().map(row).collect() }
}

fn bars_table(y: &Axis, labels: &[String], series: &[BarSeries]) -> Table {
    let columns = series.iter().map(|one| column(&one.name, y));
    let head = std::iter::once(String::new()).chain(columns).collect();
    let row = |(number, label): (usize, &String)| {
        let cell = |one: &BarSeries| {
            one.bars.get(number).map_or_else(|| y.text(f64::NAN), |bar| bar.text(y))
        };
        std::iter::once(label.clone()).chain(series.iter().map(cell)).collect()
    };
    Table { head, rows: labels.iter().enumerate().map(row).collect() }
}

fn column(name: &str, y: &Axis) -> String {
    if name.is_empty() { y.title.clone() } else { name.to_owned() }
}
