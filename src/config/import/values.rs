//! Values of Centrifugo in the form of Corecast.

use serde_json::Value as Json;
use toml::Value;

use crate::config::centrifugo::Kind;

/// Converts a value. `None` means that it is the same as not set.
///
/// # Errors
/// The value has another form. The error is the beginning of a message, with the value.
pub(super) fn convert(kind: Kind, value: &Json) -> Result<Option<Value>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let wrong = |expected: &str| format!("{value} is not {expected}");
    let some =
        |value: Option<Value>, expected: &str| value.map(Some).ok_or_else(|| wrong(expected));
    match kind {
        Kind::Flag => some(value.as_bool().map(Value::Boolean), "true or false"),
        Kind::Count => match count(value) {
            Some(number) => Ok(Some(Value::Integer(number))),
            None => Err(wrong("a number")),
        },
        // 0 means no limit there, and is out of range here.
        Kind::Limit => match count(value) {
            Some(0) => Ok(None),
            Some(number) => Ok(Some(Value::Integer(number))),
            None => Err(wrong("a number")),
        },
        Kind::Bytes => match count(value) {
            Some(0) => Ok(None),
            Some(bytes) => Ok(Some(Value::String(size(bytes)))),
            None => Err(wrong("a number of bytes")),
        },
        Kind::Duration => {
            some(milliseconds(value).map(|millis| Value::String(duration(millis))), "a duration")
        }
        Kind::Text => Ok(Some(Value::String(text(value))).filter(|_| !is_off(value))),
        Kind::Texts => {
            let texts: Vec<Value> = texts(value).into_iter().map(Value::String).collect();
            Ok((!texts.is_empty()).then_some(Value::Array(texts)))
        }
        Kind::Level => match text(value).as_str() {
            level @ ("trace" | "debug" | "info" | "warn" | "error") => {
                Ok(Some(Value::String(level.to_owned())))
            }
            "" => Ok(None),
            _ => Err(wrong("a level of Corecast")),
        },
        Kind::DataFormat => match text(value).as_str() {
            format @ ("json" | "binary") => Ok(Some(Value::String(format.to_owned()))),
            "" => Ok(None),
            _ => Err(wrong("json or binary")),
        },
    }
}

/// Returns the expression that matches a whole name if `regex` matches any part of it.
pub(super) fn regex_of_whole_name(regex: &str) -> String {
    let anchored = regex.starts_with('^')
        && regex.ends_with('$')
        && !regex.ends_with(r"\$")
        && !regex.contains('|');
    if anchored { regex.to_owned() } else { format!(".*(?:{regex}).*") }
}

/// Whether a value is the same as a feature that is not used.
pub(super) fn is_off(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(on) => !on,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(all) => all.is_empty(),
        Json::Object(all) => all.is_empty(),
    }
}

/// The value as text. Numbers may be texts, and the reverse.
pub(super) fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.trim().to_owned(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

/// The elements of a list. A text is a list as well, with its parts between spaces.
pub(super) fn texts(value: &Json) -> Vec<String> {
    match value {
        Json::Array(all) => all.iter().map(text).filter(|text| !text.is_empty()).collect(),
        other => text(other).split_whitespace().map(str::to_owned).collect(),
    }
}

fn count(value: &Json) -> Option<i64> {
    text(value).parse().ok().filter(|&number: &i64| number >= 0)
}

/// A size in its largest unit.
fn size(bytes: i64) -> String {
    for (unit, worth) in [("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes % worth == 0 {
            return format!("{}{unit}", bytes / worth);
        }
    }
    format!("{bytes}B")
}

/// A duration in its largest unit.
pub(super) fn duration(millis: u64) -> String {
    if millis == 0 {
        return "0s".to_owned();
    }
    for (unit, worth) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis.is_multiple_of(worth) {
            return format!("{}{unit}", millis / worth);
        }
    }
    format!("{millis}ms")
}

/// The milliseconds of a duration in Go's form, such as "1h30m" or "1.5s". A number counts
/// nanoseconds.
pub(super) fn milliseconds(value: &Json) -> Option<u64> {
    const UNITS: [(&str, f64); 7] = [
        ("ms", 1.0),
        ("us", 1e-3),
        ("µs", 1e-3),
        ("ns", 1e-6),
        ("h", 3_600_000.0),
        ("m", 60_000.0),
        ("s", 1_000.0),
    ];
    if let Some(nanos) = value.as_u64() {
        return Some(nanos / 1_000_000);
    }
    let text = value.as_str()?.trim();
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut millis) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, worth) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        millis += number * worth;
        rest = &rest[unit.len()..];
    }
    // Durations of settings are far from the end of this range.
    (!text.is_empty() && millis < 1e15).then_some(millis.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_and_sizes_have_one_unit() {
        for (value, expected) in [
            (json!("1h30m"), Some("90m")),
            (json!("25s"), Some("25s")),
            (json!("1.5s"), Some("1500ms")),
            (json!("1m0s"), Some("1m")),
            (json!(1_000_000_000u64), Some("1s")),
            (json!("0"), Some("0s")),
            (json!("soon"), None),
            (json!(""), None),
            (json!("5"), None),
            (json!(true), None),
        ] {
            let found = milliseconds(&value).map(duration);
            assert_eq!(found.as_deref(), expected, "{value}");
        }
        for (bytes, text) in [(65_536, "64KiB"), (1 << 20, "1MiB"), (1000, "1000B")] {
            assert_eq!(size(bytes), text);
        }
    }
}
