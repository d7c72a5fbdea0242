//! Reads settings from environment variables. The type of each follows from its default.
//!
//! A variable whose name ends in `_FILE` names a file with the value, because credentials of
//! systemd and secrets of containers are files.

use std::io::Read as _;
use std::path::Path;

use toml::{Table, Value};

use super::error::{Error, Origin};
use super::keys::{known_keys, nearest};
use crate::limits::SECRET_FILE_BYTES_MAX;

/// Prefix of the environment variables that are settings.
const ENVIRONMENT_PREFIX: &str = "CORECAST_";

/// Ending of the variables that name a file with the value of a setting.
const FILE_SUFFIX: &str = "_FILE";

/// Variables with this prefix that the command line reads itself.
const ENVIRONMENT_OF_COMMANDS: [&str; 4] =
    ["CORECAST_CONFIG", "CORECAST_API_URL", "CORECAST_API_KEY", "CORECAST_URL"];

/// Returns the settings among the environment variables.
pub(super) fn load_environment(
    defaults: &Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Table, Error> {
    let known = known_keys(defaults);
    let mut layer = Table::new();
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        if ENVIRONMENT_OF_COMMANDS.contains(&name.as_str()) || is_service_link(rest) {
            continue;
        }
        let invalid = |message: String| Error::Value {
            origin: Origin::Environment,
            key: name.clone(),
            message,
        };
        let (dotted, text) = match setting_in_file(rest, &known) {
            Some(dotted) => (dotted, read_value(Path::new(&text)).map_err(invalid)?),
            None => (to_dotted(rest), text),
        };
        if !known.contains(&dotted) {
            let Some(nearest) = nearest_variable(&dotted, &known) else { continue };
            return Err(Error::UnknownKey { origin: Origin::Environment, nearest, key: name });
        }
        let (section, key) = dotted.split_once('.').unwrap_or_default();
        let default = defaults.get(section).and_then(|settings| settings.get(key));
        let value = environment_value(&dotted, default, &text).map_err(invalid)?;
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

/// Returns the setting of a variable, from its name without the prefix.
fn to_dotted(rest: &str) -> String {
    rest.to_ascii_lowercase().replacen('_', ".", 1)
}

/// Returns the setting whose value is in the file that the variable names.
fn setting_in_file(rest: &str, known: &[String]) -> Option<String> {
    let dotted = to_dotted(rest.strip_suffix(FILE_SUFFIX)?);
    (known.contains(&dotted) && !known.contains(&to_dotted(rest))).then_some(dotted)
}

/// Returns the variable of the most similar setting for an unknown one. `None` if the name
/// resembles no setting: then it belongs to some other program and is not a typo.
fn nearest_variable(dotted: &str, known: &[String]) -> Option<Option<String>> {
    let nearest = nearest(dotted, known);
    let in_section = known.iter().any(|key| key.split('.').next() == dotted.split('.').next());
    let to_variable = |key: String| {
        format!("{ENVIRONMENT_PREFIX}{}", key.replacen('.', "_", 1).to_ascii_uppercase())
    };
    (nearest.is_some() || in_section).then(|| nearest.map(to_variable))
}

/// Reads the value of a setting from a file, without the white space around it, because editors end
/// files with a line break.
fn read_value(path: &Path) -> Result<String, String> {
    let named = |error: std::io::Error| {
        format!("can't read {}: {error}. Check the path and its permissions", path.display())
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(named)?;
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(named)?;
    if text.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!(
            "{} is longer than {SECRET_FILE_BYTES_MAX} bytes, the maximum for a single setting",
            path.display()
        ));
    }
    Ok(text.trim().to_owned())
}

/// Whether Kubernetes sets this variable. In every pod it sets variables such as
/// `CORECAST_SERVICE_HOST` and `CORECAST_PORT_8000_TCP_ADDR` for a service whose name begins with
/// "corecast". They are neither settings nor mistakes.
fn is_service_link(rest: &str) -> bool {
    let padded = format!("_{rest}_");
    ["_SERVICE_HOST_", "_SERVICE_PORT_", "_PORT_"].iter().any(|mark| padded.contains(mark))
}

/// Converts the text of a variable to the type of the default.
fn environment_value(dotted: &str, default: Option<&Value>, text: &str) -> Result<Value, String> {
    let wrong = |expected: &str| format!("{text:?} is not {expected}");
    match default {
        Some(Value::Integer(_)) => {
            let digits = text.replace('_', "");
            digits.parse().map(Value::Integer).map_err(|_| wrong("a whole number"))
        }
        Some(Value::Boolean(_)) => {
            text.parse().map(Value::Boolean).map_err(|_| wrong("true or false"))
        }
        Some(Value::Array(_)) if dotted == "channel.namespaces" => serde_json::from_str(text)
            .map_err(|error| format!("is not a JSON list of namespaces: {error}")),
        Some(Value::Array(_)) if dotted == "server.cpu_affinity" => {
            let numbers = environment_list(text)?.into_iter();
            let numbers: Result<Vec<Value>, _> =
                numbers.map(|part| part.parse().map(Value::Integer)).collect();
            numbers.map(Value::Array).map_err(|_| wrong("a list such as 0,2,4"))
        }
        Some(Value::Array(_)) => environment_texts(text),
        None if ["channel.events", "redis.ingest"].contains(&dotted) => environment_texts(text),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Splits a list at its commas. Brackets, as in a file, are an error: they would silently become
/// part of the first and last element.
fn environment_list(text: &str) -> Result<Vec<&str>, String> {
    let trimmed = text.trim();
    if trimmed.starts_with('[') && trimmed.ends_with(']') {
        return Err(format!(
            "{text:?} has the form of a file: in the environment a list has neither brackets nor \
             quotes, only commas between its elements, such as a,b"
        ));
    }
    Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect())
}

fn environment_texts(text: &str) -> Result<Value, String> {
    let texts = environment_list(text)?.into_iter();
    Ok(Value::Array(texts.map(|part| Value::String(part.to_owned())).collect()))
}
