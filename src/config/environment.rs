//! Reads settings from environment variables. The type of each follows from its default.

use toml::{Table, Value};

use super::error::{Error, Origin};
use super::keys::{known_keys, nearest};
use super::secrets;
use super::value_files::Variable;

/// Prefix of the environment variables that are settings.
const ENVIRONMENT_PREFIX: &str = "CORECAST_";

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
        let dotted = rest.to_ascii_lowercase().replacen('_', ".", 1);
        let Variable { dotted, text } =
            Variable { dotted, text }.resolved(&known).map_err(invalid)?;
        if !known.contains(&dotted) {
            let nearest = nearest(&dotted, &known);
            let in_section =
                known.iter().any(|key| key.split('.').next() == dotted.split('.').next());
            if nearest.is_none() && !in_section {
                // The name resembles no setting, so it belongs to some other program and is not a
                // typo.
                continue;
            }
            let to_variable = |key: String| {
                format!("{ENVIRONMENT_PREFIX}{}", key.replacen('.', "_", 1).to_ascii_uppercase())
            };
            return Err(Error::UnknownKey {
                origin: Origin::Environment,
                nearest: nearest.map(to_variable),
                key: name,
            });
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

/// Whether Kubernetes sets this variable. In every pod it sets variables such as
/// `CORECAST_SERVICE_HOST` and `CORECAST_PORT_8000_TCP_ADDR` for a service whose name begins with
/// "corecast". They are neither settings nor mistakes.
fn is_service_link(rest: &str) -> bool {
    let padded = format!("_{rest}_");
    ["_SERVICE_HOST_", "_SERVICE_PORT_", "_PORT_"].iter().any(|mark| padded.contains(mark))
}

/// Converts the text of a variable to the type of the default.
fn environment_value(dotted: &str, default: Option<&Value>, text: &str) -> Result<Value, String> {
    let shown = secrets::shown(dotted, text);
    let wrong = |expected: &str| format!("{shown} is not {expected}");
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

/// Splits a list at its commas. Brackets, as in a file, are an error: they would silently become
/// part of the first and last element. Messages show the text as `shown`.
fn environment_list<'t>(text: &'t str, shown: &str) -> Result<Vec<&'t str>, String> {
    let trimmed = text.trim();
    if trimmed.starts_with('[') && trimmed.ends_with(']') {
        return Err(format!(
            "{shown} has the form of a file: in the environment a list has neither brackets nor \
             quotes, only commas between its elements, such as a,b"
        ));
    }
    Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect())
}

fn environment_texts(text: &str, shown: &str) -> Result<Value, String> {
    let texts = environment_list(text, shown)?.into_iter();
    Ok(Value::Array(texts.map(|part| Value::String(part.to_owned())).collect()))
}
