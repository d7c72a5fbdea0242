//! Medians and their confidence intervals.

use serde::Serialize;

/// Number of resamplings of a bootstrap.
const RESAMPLES: usize = 10_000;
/// Share that is cut off at each end of the interval, so that 90 % stay.
const TAIL: f64 = 0.05;
/// Seed of the resampling. It is fixed, so that the same figures give the same interval.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A median with its 90 % bootstrap interval (percentile method).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) samples: usize,
}

impl Estimate {
    /// Estimates the median of `values`. Returns `None` if there are none or one is not a number.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mut state = SEED;
        let mut draw = || {
            // xorshift64*. Any generator without visible patterns is good enough here.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let high = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize;
            values[high % values.len()]
        };
        let resample = |_| median(&mut (0..values.len()).map(|_| draw()).collect::<Vec<_>>());
        let mut medians = (0..RESAMPLES).map(resample).collect::<Vec<_>>();
        medians.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| medians[((RESAMPLES - 1) as f64 * share).round() as usize];
        Some(Self {
            median: median(&mut values.to_vec()),
            low: at(TAIL),
            high: at(1.0 - TAIL),
            samples: values.len(),
        })
    }
}

/// Returns the median of `values`, which must not be empty.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
    }

    #[test]
    fn an_interval_holds_the_median_and_grows_with_the_spread() {
        let close = [1.00, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0];
        let far = [1.0, 1.5, 0.5, 1.0, 2.0, 0.3, 1.0];
        let (close, far) = (Estimate::of(&close).unwrap(), Estimate::of(&far).unwrap());
        for estimate in [close, far] {
            assert!(estimate.low <= estimate.median && estimate.median <= estimate.high);
        }
        assert!(close.high - close.low < far.high - far.low);
        assert_eq!(Estimate::of(&[1.0, 1.0]), Estimate::of(&[1.0, 1.0]));
    }

    #[test]
    fn nothing_and_no_number_have_no_estimate() {
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[1.0, f64::NAN]), None);
    }
}
