//! Parsers for durations, sizes and counts: a number and a unit, such as "25s", "64KiB" and "10k".

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};

/// Units of durations. If a name ends with another one, the longer name comes first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Units of sizes. Only powers of two, because "KB" is ambiguous.
const SIZE_UNITS: [(&str, u64); 4] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

/// Units of counts. Powers of ten, as people say them.
const COUNT_UNITS: [(&str, u64); 4] =
    [("k", 1_000), ("K", 1_000), ("M", 1_000_000), ("m", 1_000_000)];

/// Parses a count such as "500", "1_000", "10k" or "1M".
///
/// # Errors
/// A message with the text and the expected form.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    let digits = text.trim().replace('_', "");
    let value = digits.parse().ok().or_else(|| parse_with_units(&digits, &COUNT_UNITS));
    value.ok_or_else(|| {
        format!("{text:?} is not a whole number: use digits, and k or M after them, such as 10k")
    })
}

/// Parses a duration such as "300ms", "25s", "5m" or "2h".
///
/// # Errors
/// A message with the text and the expected form.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let value = parse_with_units(text, &DURATION_UNITS);
    value.map(Duration::from_millis).ok_or_else(|| {
        format!("{text:?} is not a duration: use a number and ms, s, m, h or d, such as \"25s\"")
    })
}

/// Parses a size such as "512B", "64KiB" or "1MiB", in bytes. A number without a unit counts bytes.
///
/// # Errors
/// A message with the text and the expected form.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().or_else(|| parse_with_units(text, &SIZE_UNITS));
    let value = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    value.ok_or_else(|| {
        format!("{text:?} is not a size: use a number and B, KiB, MiB or GiB, such as \"64KiB\"")
    })
}

/// Parses a whole number with a unit. Returns their product.
fn parse_with_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (digits, unit) = text.split_at(digits_end);
    let worth = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    digits.parse::<u64>().ok()?.checked_mul(worth)
}

/// Deserializes a duration.
pub(crate) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse_duration(&text(from, "a duration such as \"25s\"")?).map_err(D::Error::custom)
}

/// Deserializes a size in bytes.
pub(crate) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    match toml::Value::deserialize(from)? {
        toml::Value::String(text) => parse_size(&text).map_err(D::Error::custom),
        toml::Value::Integer(bytes) if bytes >= 0 => {
            usize::try_from(bytes).map_err(D::Error::custom)
        }
        other => Err(D::Error::custom(format!("{other} is not a size such as \"64KiB\""))),
    }
}

/// Deserializes a string. The error for other types contains `expected`.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D, expected: &str) -> Result<String, D::Error> {
    match toml::Value::deserialize(from)? {
        toml::Value::String(text) => Ok(text),
        other => Err(D::Error::custom(format!("{other} is not {expected}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_numbers_with_a_unit() {
        for (text, millis) in [("300ms", 300), ("25s", 25_000), ("5m", 300_000), ("2 h", 7_200_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, bytes) in [("0B", 0), ("512", 512), ("64KiB", 65_536), ("1 MiB", 1 << 20)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, count) in
            [("0", 0), ("1_000", 1_000), ("10k", 10_000), ("10K", 10_000), ("1M", 1_000_000)]
        {
            assert_eq!(parse_count(text), Ok(count), "{text}");
        }
        for text in ["", "k", "-1", "+", "1.5M", "1G", "64KiB", "20000000000000000000M"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
        for text in ["", "5", "s", "-5s", "1.5s", "5 seconds", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["", "-1", "64KB", "64kib", "1e3B", "20000000000GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
