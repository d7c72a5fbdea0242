//! Reads settings from environment variables. The type of each follows from its default.

use toml::{Table, Value};

use super::error::{Error, Origin};
use super::keys::{equivalent, known_keys, nearest};
use super::later::later;
use super::secrets;
use super::value_files::{Variable, names_a_file};
use crate::units::parse_count;

/// Prefix of the environment variables that are settings.
const ENVIRONMENT_PREFIX: &str = "CORECAST_";

/// Variables with this prefix that are no settings: those of the commands, that of the examples,
/// and the one that names this program to scripts.
const ENVIRONMENT_OF_OTHERS: [&str; 7] = [
    "CORECAST_CONFIG",
    "CORECAST_API_URL",
    "CORECAST_API_KEY",
    "CORECAST_API_KEY_FILE",
    "CORECAST_URL",
    "CORECAST_WS_URL",
    "CORECAST_BIN",
];

/// Variables of the tests and the checker of Corecast, which a program with built-in faults
/// inherits from them. All other programs refuse them, because nothing reads them.
const ENVIRONMENT_OF_TESTS: &[&str] = if cfg!(feature = "sabotage") {
    &[
        "CORECAST_FAULT",
        "CORECAST_SABOTAGED",
        "CORECAST_CHECKER_NETWORK",
        "CORECAST_SATURATED_SECONDS",
        "CORECAST_SIM_SEED",
        "CORECAST_SIM_SCHEDULES",
        "CORECAST_SIM_TRACE",
    ]
} else {
    &[]
};

/// Settings of the commands that call a server, in the form of variables without their prefix.
const OF_CALLERS: [&str; 3] = ["api.url", "api.key", "url"];

/// Returns the settings among the environment variables.
pub(super) fn load_environment(
    defaults: &Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Table, Error> {
    let known = known_keys(defaults);
    let mut layer = Table::new();
    for (name, text) in environment {
        let Some(dotted) = setting_of(&name, &text) else { continue };
        let invalid = |message: String| Error::Value {
            origin: Origin::Environment,
            key: name.clone(),
            message,
        };
        let Variable { dotted, text } =
            Variable { dotted, text }.resolved(&known).map_err(invalid)?;
        if !known.contains(&dotted) {
            return Err(unknown_variable(name, &dotted, &known));
        }
        if text.contains(char::REPLACEMENT_CHARACTER) {
            let message = "is not valid UTF-8: set it again, or unset it".to_owned();
            return Err(Error::Value { origin: Origin::Environment, key: name, message });
        }
        let (section, key) = dotted.split_once('.').unwrap_or_default();
        let default = defaults.get(section).and_then(|settings| settings.get(key));
        let value = environment_value(&dotted, default, &text).map_err(|message| Error::Value {
            origin: Origin::Environment,
            key: name.clone(),
            message,
        })?;
        let settings = layer.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(settings) = settings
            && settings.insert(key.to_owned(), value).is_some()
        {
            let words = format!("sets {dotted}, which another variable sets too: keep one of them");
            return Err(invalid(words));
        }
    }
    Ok(layer)
}

/// Finds a variable that nothing reads, for a command that reads no settings.
pub(super) fn check_names(
    defaults: &Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(), Error> {
    let mut known = known_keys(defaults);
    for (name, text) in environment {
        let Some(dotted) = setting_of(&name, &text) else { continue };
        if !known.contains(&dotted) && !names_a_file(&dotted, &known) {
            known.extend(OF_CALLERS.map(str::to_owned));
            return Err(unknown_variable(name, &dotted, &known));
        }
    }
    Ok(())
}

/// Returns what a variable would set, as `section.key`, if it is not for something else.
fn setting_of(name: &str, text: &str) -> Option<String> {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX)?;
    let is_other = ENVIRONMENT_OF_OTHERS.contains(&name) || ENVIRONMENT_OF_TESTS.contains(&name);
    let is_setting = !is_other && !is_service_link(rest, text);
    is_setting.then(|| rest.to_ascii_lowercase().replacen('_', ".", 1))
}

/// The error for a variable that nothing reads. A typo must not silently keep a default.
fn unknown_variable(name: String, dotted: &str, known: &[String]) -> Error {
    let origin = Origin::Environment;
    let to_variable = |key: String| {
        format!("{ENVIRONMENT_PREFIX}{}", key.replacen('.', "_", 1).to_ascii_uppercase())
    };
    match (equivalent(dotted), later(dotted)) {
        (None, Some(later)) => Error::Later { origin, key: name, later },
        (same, _) => {
            let nearest = same.or_else(|| nearest(dotted, known)).map(to_variable);
            Error::UnknownKey { origin, nearest, key: name }
        }
    }
}

/// Whether Kubernetes sets this variable. In every pod it sets variables such as
/// `CORECAST_SERVICE_HOST`, `CORECAST_PORT` and `CORECAST_API_PORT_9000_TCP_ADDR` for services
/// called "corecast" and "corecast-api". They are neither settings nor mistakes. The value tells
/// them from a mistake such as `CORECAST_SERVER_PORT=8000`.
fn is_service_link(rest: &str, value: &str) -> bool {
    let padded = format!("_{rest}");
    if padded.ends_with("_SERVICE_HOST") {
        return true;
    }
    let is_port = || value.parse::<u16>().is_ok();
    if padded.ends_with("_SERVICE_PORT") || padded.contains("_SERVICE_PORT_") {
        return is_port();
    }
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    if padded.ends_with("_PORT") && is_url {
        return true;
    }
    // `…_PORT_9000_TCP`, and the same with `_PROTO`, `_PORT` or `_ADDR` at its end.
    let Some((_, port)) = padded.split_once("_PORT_") else { return false };
    let mut parts = port.split('_');
    let number = parts.next().is_some_and(|number| number.parse::<u16>().is_ok());
    let protocol = parts.next().is_some_and(|name| ["TCP", "UDP", "SCTP"].contains(&name));
    let last = parts.next().is_none_or(|part| ["PROTO", "PORT", "ADDR"].contains(&part));
    number && protocol && last && parts.next().is_none()
}

/// Converts a number such as "500", "10k" or "1M".
pub(super) fn whole_number(text: &str) -> Result<Value, String> {
    let number = i64::try_from(parse_count(text)?);
    number.map(Value::Integer).map_err(|_| format!("{text:?} is too large a number"))
}

/// Converts the text of a variable to the type of the default.
fn environment_value(dotted: &str, default: Option<&Value>, text: &str) -> Result<Value, String> {
    let shown = secrets::shown(dotted, text);
    let wrong = |expected: &str| format!("{shown} is not {expected}");
    match default {
        Some(Value::Integer(_)) => whole_number(text),
        Some(Value::Boolean(_)) => {
            text.parse().map(Value::Boolean).map_err(|_| wrong("true or false"))
        }
        Some(Value::Array(_)) if dotted == "channel.namespaces" => serde_json::from_str(text)
            .map_err(|error| format!("is not a JSON list of namespaces: {error}")),
        Some(Value::Array(_)) if dotted == "server.cpu_affinity" => {
            let numbers = environment_list(text, &shown)?.into_iter();
            let numbers: Result<Vec<Value>, _> =
                numbers.map(|part| part.parse().map(Value::Integer)).collect();
            numbers.map(Value::Array).map_err(|_| wrong("a list such as 0,2,4"))
        }
        Some(Value::Array(_)) => environment_texts(text, &shown),
        None if ["channel.events", "redis.ingest"].contains(&dotted) => {
            environment_texts(text, &shown)
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Splits a list at its commas and at its line breaks, so that a file may have one element in each
/// line. Brackets, as in a file, are an error: they would silently become
/// part of the first and last element. Messages show the text as `shown`.
fn environment_list<'t>(text: &'t str, shown: &str) -> Result<Vec<&'t str>, String> {
    let trimmed = text.trim();
    if trimmed.starts_with('[') && trimmed.ends_with(']') {
        return Err(format!(
            "{shown} has the form of a file: in the environment a list has neither brackets nor \
             quotes, only commas between its elements, such as a,b"
        ));
    }
    let parts = text.split([',', '\n', '\r']).map(str::trim);
    Ok(parts.filter(|part| !part.is_empty()).collect())
}

fn environment_texts(text: &str, shown: &str) -> Result<Value, String> {
    let texts = environment_list(text, shown)?.into_iter();
    Ok(Value::Array(texts.map(|part| Value::String(part.to_owned())).collect()))
}
