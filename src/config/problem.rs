//! Problems of settings, and the collection of all of them.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limits::SETTING_DURATION_MAX;

/// A setting with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting.
    pub key: String,
    /// Value, limit, reason and fix.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.text)
    }
}

/// The problems found so far.
#[derive(Default)]
pub(super) struct Found {
    pub(super) problems: Vec<Problem>,
}

impl Found {
    pub(super) fn add(&mut self, key: &str, text: String) {
        self.problems.push(Problem { key: key.to_owned(), text });
    }

    /// Adds a problem unless `value` is in `range`.
    pub(super) fn range(&mut self, key: &str, value: usize, range: RangeInclusive<usize>) {
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            self.add(key, format!("= {value} is out of range: use {least} to {most}"));
        }
    }

    /// Adds a problem unless `value` is at least `least` and at most the maximum of all durations.
    pub(super) fn duration(&mut self, key: &str, value: Duration, least: Duration) {
        if value < least || value > SETTING_DURATION_MAX {
            self.add(key, format!("= {value:?} is out of range: use {least:?} to 24h"));
        }
    }
}
