//! Axes: the positions of values, the ticks, and the text of both.

/// Maximum magnitude that is drawn. Beyond it, ticks are lost to rounding, and no measurement
/// reaches it.
const MAGNITUDE_MAX: f64 = 1e15;
/// Smallest value on a logarithmic axis: a nanosecond, in seconds.
const LOGARITHM_MIN: f64 = 1e-9;
/// Maximum number of nines of a percentile. A histogram does not have enough values to show more.
const NINES_MAX: f64 = 9.0;
/// Distance of the largest value on the scale of nines, whose percentile would be infinitely far.
const NINES_BEFORE_MAX: f64 = 0.5;
/// Number of significant digits in text.
const DIGITS: i32 = 4;
/// Vertical distance between ticks, in pixels.
const LINE_PIXELS: f64 = 30.0;
/// Horizontal distance between ticks, in pixels.
const COLUMN_PIXELS: f64 = 64.0;
/// Average width of a letter of a label in pixels, at the font size of the style sheet.
pub(super) const LETTER_PIXELS: f64 = 7.2;

/// How values are distributed along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Proportional, from zero: a bar of twice the length is twice the value.
    Linear,
    /// By magnitude. Values up to zero can't be shown.
    Log10,
    /// Percentiles by their number of nines: 90, 99 and 99.9 are equally far apart.
    Nines,
}

/// The unit of the values on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A number of things.
    Count,
    /// A number of things per second.
    PerSecond,
    /// Bytes, shown in KiB, MiB and so on.
    Bytes,
    /// A time, shown in ns, µs, ms or s.
    Microseconds,
    /// Seconds since an event.
    Seconds,
    /// A percentage.
    Percent,
    /// A factor.
    Ratio,
}

/// One axis of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// The quantity shown along the axis.
    pub(crate) title: String,
    /// How values are distributed.
    pub(crate) scale: Scale,
    /// The unit of the values.
    pub(crate) unit: Unit,
}

impl Axis {
    /// Formats `value`, or a dash if there is no value.
    pub(super) fn text(&self, value: f64) -> String {
        match self.scale {
            _ if !value.is_finite() => "–".to_owned(),
            _ if value.abs() > MAGNITUDE_MAX => format!("{value:.3e}"),
            Scale::Nines if value >= 100.0 => "max".to_owned(),
            // Four digits would round 99.999 to 100.
            Scale::Nines => digits(value, 12),
            Scale::Linear | Scale::Log10 => self.unit.text(value),
        }
    }

    /// Returns the position of `value` on the scale, if it has one.
    fn position(&self, value: f64) -> Option<f64> {
        let drawable = value.is_finite() && value.abs() <= MAGNITUDE_MAX;
        match self.scale {
            _ if !drawable => None,
            Scale::Linear => Some(value),
            Scale::Log10 => (value >= LOGARITHM_MIN).then(|| value.log10()),
            Scale::Nines if !(0.0..100.0).contains(&value) => None,
            Scale::Nines => Some((-(1.0 - value / 100.0).log10()).min(NINES_MAX)),
        }
    }
}

impl Unit {
    /// Formats `value` with its unit.
    pub(crate) fn text(self, value: f64) -> String {
        const THOUSANDS: [(f64, &str); 4] = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
        const BINARY: [(f64, &str); 5] = [
            ((1_u64 << 40) as f64, " TiB"),
            ((1 << 30) as f64, " GiB"),
            ((1 << 20) as f64, " MiB"),
            ((1 << 10) as f64, " KiB"),
            (1.0, " B"),
        ];
        const TIMES: [(f64, &str); 4] = [(1e6, " s"), (1e3, " ms"), (1.0, " µs"), (1e-3, " ns")];
        match self {
            Self::Count => scaled(value, &THOUSANDS),
            Self::PerSecond => format!("{}/s", scaled(value, &THOUSANDS)),
            Self::Bytes => scaled(value, &BINARY),
            Self::Microseconds if value == 0.0 => "0 µs".to_owned(),
            Self::Microseconds => scaled(value, &TIMES),
            Self::Seconds => format!("{} s", digits(value, DIGITS)),
            Self::Percent => format!("{} %", digits(value, DIGITS)),
            // The same number of decimals for all, so that bounds can be compared at a glance.
            Self::Ratio if value.abs() >= 0.1 => format!("{value:.2}×"),
            Self::Ratio => format!("{}×", digits(value, DIGITS)),
        }
    }

    /// Returns the smallest useful step between ticks.
    fn step_min(self) -> f64 {
        if matches!(self, Self::Count | Self::Bytes) { 1.0 } else { 0.0 }
    }

    /// Returns the base whose round multiples are ticks, for steps of about `size`.
    fn base(self, size: f64) -> f64 {
        let kibis = if self == Self::Bytes { (size.log2() / 10.0).floor().max(0.0) } else { 0.0 };
        1024_f64.powf(kibis)
    }

    /// Returns the logarithmic tick with this number: 1, 2, 5, 10 and so on, or powers of two.
    fn rung(self, number: i32) -> f64 {
        if self == Self::Bytes {
            return 2_f64.powi(number);
        }
        [1.0, 2.0, 5.0][number.rem_euclid(3) as usize] * 10_f64.powi(number.div_euclid(3))
    }

    /// Returns the number of the last logarithmic tick that is not above `value`.
    fn rung_below(self, value: f64) -> i32 {
        let per_decade = if self == Self::Bytes { std::f64::consts::LOG2_10 } else { 3.0 };
        let mut number = (value.log10() * per_decade).floor() as i32 + 1;
        while self.rung(number) > value * (1.0 + 1e-9) {
            number -= 1;
        }
        number
    }

    /// Returns the possible numbers of logarithmic ticks from one label to the next.
    fn strides(self) -> &'static [i32] {
        if self == Self::Bytes { &[1, 2, 5, 10, 20, 40] } else { &[1, 3, 6, 9, 15, 30] }
    }
}

/// Formats `value` in the largest of `units` that it fills, or in the last one.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    // A value that would be shown as 1000 of a unit is shown in the next unit.
    let fills = |size: f64| value.abs() * (1.0 + 5e-5) >= size;
    let unit = units.iter().find(|(size, _)| fills(*size)).or(units.last());
    unit.map_or_else(String::new, |(size, name)| format!("{}{name}", digits(value / size, DIGITS)))
}

/// Formats `value` with this number of digits, without trailing zeros.
fn digits(value: f64, count: i32) -> String {
    let magnitude = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    let decimals = (count - 1 - magnitude as i32).clamp(0, 12) as usize;
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The direction of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the right. Ends with the last value if possible.
    Across,
    /// Upwards. Ends with a tick.
    Up,
}

/// A tick of an axis.
#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) text: String,
}

/// An axis that is mapped to pixels.
#[derive(Clone, Debug)]
pub(super) struct Ruler {
    axis: Axis,
    /// First and last position of the scale.
    ends: (f64, f64),
    /// The pixels of both ends.
    pixels: (f64, f64),
    /// The labelled ticks.
    pub(super) ticks: Vec<Tick>,
}

impl Ruler {
    /// Maps `axis` to the pixels between two ends, so that all `values` with a position fit.
    pub(super) fn new(
        axis: &Axis,
        direction: Direction,
        values: impl Iterator<Item = f64>,
        pixels: (f64, f64),
    ) -> Self {
        let values: Vec<f64> = values.collect();
        let spacing = if direction == Direction::Up { LINE_PIXELS } else { COLUMN_PIXELS };
        let steps = ((pixels.1 - pixels.0).abs() / spacing).floor().max(2.0);
        let (ends, ticks) = match axis.scale {
            Scale::Linear => linear(axis, direction, &values, steps),
            Scale::Log10 => logarithmic(axis, direction, &values, steps),
            Scale::Nines => nines(axis, &values),
        };
        let mut ruler = Self { axis: axis.clone(), ends, pixels, ticks: Vec::new() };
        let tick = |value| Some(Tick { at: ruler.at(value)?, text: axis.text(value) });
        let mut ticks: Vec<Tick> = ticks.into_iter().filter_map(tick).collect();
        if direction == Direction::Across {
            thin(&mut ticks);
        }
        ruler.ticks = ticks;
        ruler
    }

    /// Returns the pixel of `value`, if it has a position.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        let (low, high) = self.ends;
        // The largest value has no finite percentile, so it is drawn at the end.
        let last = self.axis.scale == Scale::Nines && value >= 100.0;
        let position = if last && value.is_finite() { high } else { self.axis.position(value)? };
        let share = ((position - low) / (high - low)).clamp(0.0, 1.0);
        Some(self.pixels.0 + share * (self.pixels.1 - self.pixels.0))
    }
}

type Laid = ((f64, f64), Vec<f64>);

fn linear(axis: &Axis, direction: Direction, values: &[f64], steps: f64) -> Laid {
    let values = values.iter().filter_map(|value| axis.position(*value));
    let (low, high) =
        values.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let high = if high > low { high } else { low + 1.0 };
    let step = round_step((high - low) / steps, axis.unit);
    let (first, last) = ((low / step).floor(), (high / step - 1e-9).ceil());
    let ticks = (0..=(last - first) as i64).map(|number| (first + number as f64) * step);
    let ends = match direction {
        Direction::Up => (first * step, last * step),
        Direction::Across => (low, high),
    };
    let within = |tick: &f64| (ends.0..=ends.1).contains(tick);
    (ends, ticks.filter(within).collect())
}

/// Returns the next of 1, 2, 5, 10 and so on that is not below `size`.
fn round_step(size: f64, unit: Unit) -> f64 {
    let base = unit.base(size);
    let magnitude = base * 10_f64.powf((size / base).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * magnitude >= size * 0.999_999);
    let step = factor.unwrap_or(10.0) * magnitude;
    // 1000 KiB is not a round number; the next one is 1 MiB.
    let step = if unit == Unit::Bytes && step > 512.0 * base { 1024.0 * base } else { step };
    step.max(unit.step_min())
}

fn logarithmic(axis: &Axis, direction: Direction, values: &[f64], steps: f64) -> Laid {
    let values = || values.iter().filter(|value| axis.position(**value).is_some()).copied();
    let low = values().reduce(f64::min).unwrap_or(1.0);
    let high = values().reduce(f64::max).unwrap_or(10.0);
    let unit = axis.unit;
    let (mut first, mut last) = (unit.rung_below(low), unit.rung_below(high));
    if unit.rung(last) < high * (1.0 - 1e-9) {
        last += 1;
    }
    if first == last {
        (first, last) = (first - 1, last + 1);
    }
    let fits = |stride: &&i32| f64::from((last - first) / **stride) <= steps;
    let stride = *unit.strides().iter().find(fits).unwrap_or(&i32::MAX);
    let ticks = (first..=last).filter(|number| number % stride == 0);
    let mut ticks: Vec<f64> = ticks.map(|number| unit.rung(number)).collect();
    let mut end = unit.rung(last);
    let reached = ticks.iter().filter(|tick| **tick <= high).count();
    if direction == Direction::Across && reached >= 2 {
        ticks.truncate(reached);
        end = high;
    }
    ((unit.rung(first).log10(), end.log10()), ticks)
}

fn nines(axis: &Axis, values: &[f64]) -> Laid {
    let positions = values.iter().filter_map(|value| axis.position(*value));
    let finite = positions.fold(1.0, f64::max);
    let last = values.iter().any(|value| value.is_finite() && *value >= 100.0);
    let whole =
        (1..=(finite + 1e-9).floor() as i32).map(|nines| 100.0 - 100.0 * 10_f64.powi(-nines));
    let mut ticks: Vec<f64> = [0.0, 50.0].into_iter().chain(whole).collect();
    let high = if last { finite + NINES_BEFORE_MAX } else { finite };
    ticks.extend(last.then_some(100.0));
    ((0.0, high), ticks)
}

/// Drops ticks whose labels would touch. The first and the last one show the range of the axis, so
/// they have priority.
fn thin(ticks: &mut Vec<Tick>) {
    let half = |tick: &Tick| (tick.text.chars().count() + 1) as f64 * LETTER_PIXELS / 2.0;
    let ends = |tick: &Tick| (tick.at - half(tick), tick.at + half(tick));
    let Some((start, first_ends)) = ticks.first().map(|tick| (tick.at, ends(tick))) else { return };
    let mut left = f64::INFINITY;
    ticks.reverse();
    ticks.retain(|tick| {
        let (tick_left, tick_right) = ends(tick);
        let free = tick_right <= left && (tick.at == start || first_ends.1 <= tick_left);
        if free {
            left = tick_left;
        }
        free
    });
    ticks.reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, unit: Unit) -> Axis {
        Axis { title: "title".to_owned(), scale, unit }
    }

    fn texts(axis: &Axis, direction: Direction, values: &[f64]) -> Vec<String> {
        let ruler = Ruler::new(axis, direction, values.iter().copied(), (0.0, 300.0));
        ruler.ticks.into_iter().map(|tick| tick.text).collect()
    }

    #[test]
    fn numbers_are_written_for_people() {
        for (unit, value, expected) in [
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 999.0, "999"),
            (Unit::Count, 999.999, "1k"),
            (Unit::Count, 10_000.0, "10k"),
            (Unit::Count, -1500.0, "-1.5k"),
            (Unit::Count, 20_480.0, "20.48k"),
            (Unit::PerSecond, 1_250_000.0, "1.25M/s"),
            (Unit::Bytes, 1_048_576.0, "1 MiB"),
            (Unit::Bytes, 1536.0, "1.5 KiB"),
            (Unit::Bytes, 0.0, "0 B"),
            (Unit::Microseconds, 0.0, "0 µs"),
            (Unit::Microseconds, 0.25, "250 ns"),
            (Unit::Microseconds, 250.0, "250 µs"),
            (Unit::Microseconds, 1234.0, "1.234 ms"),
            (Unit::Microseconds, 2_500_000.0, "2.5 s"),
            (Unit::Seconds, 600.0, "600 s"),
            (Unit::Percent, 0.1 + 0.2, "0.3 %"),
            (Unit::Ratio, 1.0, "1.00×"),
            (Unit::Ratio, 0.012_3, "0.0123×"),
        ] {
            assert_eq!(unit.text(value), expected);
        }
        let percentile = axis(Scale::Nines, Unit::Percent);
        assert_eq!(percentile.text(99.999), "99.999");
        assert_eq!(percentile.text(100.0), "max");
        assert_eq!(percentile.text(f64::NAN), "–");
    }

    #[test]
    fn linear_ticks_are_round_and_start_at_zero() {
        let count = axis(Scale::Linear, Unit::Count);
        assert_eq!(texts(&count, Direction::Across, &[1.0, 4.0]), ["0", "1", "2", "3", "4"]);
        let rate = axis(Scale::Linear, Unit::PerSecond);
        let expected = ["0/s", "10k/s", "20k/s", "30k/s", "40k/s"];
        assert_eq!(texts(&rate, Direction::Up, &[70_300.0])[..5], expected.map(str::to_owned)[..5]);
        let bytes = axis(Scale::Linear, Unit::Bytes);
        let expected = ["0 B", "50 MiB", "100 MiB", "150 MiB"];
        assert_eq!(texts(&bytes, Direction::Across, &[200e6]), expected);
        let expected = ["0 B", "1 MiB", "2 MiB", "3 MiB", "4 MiB", "5 MiB", "6 MiB"];
        assert_eq!(texts(&bytes, Direction::Up, &[6e6]), expected);
    }

    #[test]
    fn logarithmic_ticks_are_as_many_as_have_room() {
        let time = axis(Scale::Log10, Unit::Microseconds);
        let expected = ["50 µs", "100 µs", "200 µs", "500 µs", "1 ms"];
        assert_eq!(texts(&time, Direction::Up, &[80.0, 700.0]), expected);
        let expected = ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms"];
        assert_eq!(texts(&time, Direction::Up, &[1.0, 100_000.0]), expected);
        let bytes = axis(Scale::Log10, Unit::Bytes);
        let expected = ["1 KiB", "32 KiB", "1 MiB", "32 MiB"];
        assert_eq!(texts(&bytes, Direction::Across, &[1024.0, 1e9]), expected);
    }

    #[test]
    fn percentiles_are_as_far_apart_as_their_nines() {
        let percentile = axis(Scale::Nines, Unit::Percent);
        let values = [0.0, 50.0, 90.0, 99.0, 99.9, 100.0];
        let ruler = Ruler::new(&percentile, Direction::Across, values.into_iter(), (0.0, 350.0));
        let at = |value| ruler.at(value).unwrap();
        for (value, expected) in [(0.0, 0.0), (90.0, 100.0), (99.0, 200.0), (100.0, 350.0)] {
            assert!((at(value) - expected).abs() < 1e-6, "{value} is at {}", at(value));
        }
        let ticks: Vec<_> = ruler.ticks.iter().map(|tick| tick.text.as_str()).collect();
        assert_eq!(ticks, ["0", "50", "90", "99", "99.9", "max"]);
    }

    #[test]
    fn labels_that_would_touch_are_left_out_but_the_outermost() {
        let percentile = axis(Scale::Nines, Unit::Percent);
        let values = [0.0, 99.9999, 100.0].into_iter();
        let ruler = Ruler::new(&percentile, Direction::Across, values, (0.0, 130.0));
        let ticks: Vec<_> = ruler.ticks.iter().map(|tick| tick.text.as_str()).collect();
        assert_eq!(ticks, ["0", "99", "99.99", "max"]);
    }

    #[test]
    fn what_has_no_place_stands_nowhere_and_does_not_stretch_the_axis() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -f64::MAX];
        for scale in [Scale::Linear, Scale::Log10, Scale::Nines] {
            let axis = axis(scale, Unit::Count);
            for values in [vec![], odd.to_vec(), [&odd[..], &[50.0, 60.0]].concat()] {
                let values = values.into_iter();
                let ruler = Ruler::new(&axis, Direction::Across, values, (0.0, 300.0));
                assert!((2..=8).contains(&ruler.ticks.len()), "{scale:?}: {:?}", ruler.ticks);
                assert_eq!(ruler.at(f64::NAN), None);
                assert_eq!(ruler.at(f64::INFINITY), None);
                assert!((0.0..=300.0).contains(&ruler.at(55.0).unwrap()));
            }
        }
        let log = Ruler::new(
            &axis(Scale::Log10, Unit::Count),
            Direction::Up,
            [0.0, -1.0, 10.0].into_iter(),
            (300.0, 0.0),
        );
        assert_eq!((log.at(0.0), log.at(-1.0)), (None, None));
    }
}
