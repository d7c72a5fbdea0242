//! The format of the log, for errors that come before the settings are known.

use toml::{Table, Value};

use super::load::Flags;
use crate::settings::LogFormat;

/// The variable of the environment that sets the format.
const VARIABLE: &str = "CORECAST_LOG_FORMAT";

/// Returns the format of the log that the environment or the file wants, even if other settings are
/// invalid. It is text if neither can be read.
pub fn log_format(
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
) -> LogFormat {
    let of_variable = environment.into_iter().find(|(name, _)| name == VARIABLE);
    let format = of_variable.map(|(_, value)| value).or_else(|| {
        let text = std::fs::read_to_string(flags.config.as_ref()?).ok()?;
        of_file(&text)
    });
    match format.as_deref() {
        Some("json") => LogFormat::Json,
        _ => LogFormat::Text,
    }
}

fn of_file(text: &str) -> Option<String> {
    match text.parse::<Table>() {
        Ok(table) => table.get("log")?.get("format").and_then(Value::as_str).map(str::to_owned),
        // Other sections may be malformed.
        Err(_) => {
            let is_format = |line: &&str| line.trim_start().starts_with("format");
            let (_, value) = text.lines().find(is_format)?.split_once('=')?;
            value.split('"').nth(1).map(str::to_owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_found_in_invalid_settings_too() {
        let table = [
            ("[log]\nformat = \"json\"\n", Some("json")),
            ("[log]\nformat = \"json\"\n[server]\nlisten = 7\n", Some("json")),
            ("[log]\nformat = \"json\" # for a program\n[server\n", Some("json")),
            ("[log]\nlevel = \"info\"\n", None),
            ("", None),
        ];
        for (text, format) in table {
            assert_eq!(of_file(text).as_deref(), format, "{text}");
        }
        let environment = || [(VARIABLE.to_owned(), "json".to_owned())];
        assert_eq!(log_format(&Flags::default(), environment()), LogFormat::Json);
        assert_eq!(log_format(&Flags::default(), []), LogFormat::Text);
    }
}
