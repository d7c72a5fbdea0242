//! Reads the text of a configuration. Errors contain nothing of the text, because it has secrets.

use serde_json::Value as Json;
use serde_saphyr::Error as Yaml;

use crate::config::load::place;

/// The form of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
}

/// Returns the settings in a text.
///
/// # Errors
/// The text is not of this format. The error is the message to print.
pub(super) fn parse(text: &str, format: Format) -> Result<Json, String> {
    match format {
        // Its messages are fixed texts with a line and a column.
        Format::Json => {
            serde_json::from_str(text).map_err(|error| format!("is not valid JSON: {error}"))
        }
        Format::Toml => toml::from_str(text).map_err(|error: toml::de::Error| {
            let place = place(text, error.span());
            format!("is not valid TOML: {place}: {}", error.message())
        }),
        Format::Yaml => serde_saphyr::from_str(text).map_err(|error| {
            let error = error.without_snippet();
            let place = error.location().filter(|location| location.line() > 0);
            let place = place.map_or(String::new(), |location| {
                format!("line {}, column {}: ", location.line(), location.column())
            });
            format!("is not valid YAML: {place}{}", yaml_words(error))
        }),
    }
}

/// Says what is wrong. Most errors of the library show a part of the text, so only those are told
/// in its words whose words are fixed.
fn yaml_words(error: &Yaml) -> String {
    match error {
        Yaml::ExternalMessage { msg, .. } => msg.clone(),
        Yaml::Eof { .. } => "the text ends too early".to_owned(),
        Yaml::Unexpected { expected, .. } => format!("expected {expected}"),
        Yaml::UnknownAnchor { .. } => "there is no such anchor".to_owned(),
        Yaml::DuplicateMappingKey { .. } => "the key is there twice".to_owned(),
        Yaml::MultipleDocuments { .. } => "there is more than one document".to_owned(),
        _ => "this has no meaning in a configuration".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_place_and_show_nothing_of_the_text() {
        for (text, format, expected) in [
            ("[http_api]\nkey = supersecret", Format::Toml, "TOML: line 2, column 7: "),
            ("[http_api]\nkey = \"supersecret", Format::Toml, "TOML: line 2, "),
            ("supersecret", Format::Toml, "TOML: line 1, "),
            ("http_api:\n  key: \"supersecret\n", Format::Yaml, "YAML: line "),
            ("http_api:\n  key: supersecret\n bad: [", Format::Yaml, "YAML: line 3, "),
            ("key: *supersecret", Format::Yaml, "YAML: line 1, column 6: "),
            ("key: !supersecret 1\nkey: !supersecret 2", Format::Yaml, "YAML: line "),
            ("key: !!int supersecret", Format::Yaml, "YAML: line 1, "),
            ("supersecret: 1\nsupersecret: 2", Format::Yaml, "YAML: line 2, column 1: "),
            ("{\"http_api\": {\"key\": supersecret}}", Format::Json, "line 1 column 22"),
            ("{\"http_api\": {\"key\": \"supersecret}}", Format::Json, "line 1 column 35"),
            ("{\"supersecret\" 1}", Format::Json, "line 1 column 16"),
        ] {
            let error = parse(text, format).expect_err(text);
            assert!(!error.contains("supersecret"), "{error}");
            assert!(error.starts_with("is not valid ") && error.contains(expected), "{error}");
        }
    }
}
