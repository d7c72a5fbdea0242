//! Parsers for the values of flags.

use clap::builder::RangedU64ValueParser;
use clap::value_parser;
use std::time::Duration;

/// Processors by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(pub(super) Vec<usize>);

/// Maximum duration in any flag: thirty days.
const SECONDS_MAX: u64 = 30 * 24 * 60 * 60;

/// Maximum number of pairs of windows.
const PAIRS_MAX: u64 = 10_000;
/// Maximum number of publications missed in a storm. All of them stay distinguishable until every
/// client is back.
const MISSED_MAX: u64 = 50_000;

/// Bounds of a time in seconds.
pub(super) fn seconds() -> RangedU64ValueParser {
    value_parser!(u64).range(1..=SECONDS_MAX)
}

/// Bounds of a number of pairs.
pub(super) fn pairs() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=PAIRS_MAX)
}

/// Bounds of the number of missed publications.
pub(super) fn missed() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=MISSED_MAX)
}

/// Parses a number with its unit: 500ms, 5s, 2m. The default unit is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a time such as 5s"))?;
    let time = match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        unit => return Err(format!("{unit:?} is not a unit of time; use ms, s or m")),
    };
    match time.as_secs() {
        0..=SECONDS_MAX => Ok(time),
        _ => Err(format!("{text} is longer than {SECONDS_MAX} s")),
    }
}

/// Parses a list of numbers and ranges, such as 1,4-7.
pub(crate) fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let number = text.parse::<usize>().ok().filter(|cpu| *cpu < libc::CPU_SETSIZE as usize);
            number.ok_or_else(|| format!("{text:?} is not a processor number"))
        };
        cpus.extend(number(first)?..=number(last)?);
    }
    Ok(Cpus(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, milliseconds) in [("500ms", 500), ("5s", 5000), ("5", 5000), ("2m", 120_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in ["", "s", "5h", "-1s", "1.5s", "50000m", "18446744073709551615s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors_are_lists_and_ranges() {
        for (text, cpus) in
            [("", vec![]), ("1", vec![1]), ("0,2-4", vec![0, 2, 3, 4]), ("3-1", vec![])]
        {
            assert_eq!(parse_cpus(text), Ok(Cpus(cpus)));
        }
        for text in ["x", "1-", "99999"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }
}
