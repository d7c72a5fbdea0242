//! The settings, from the file with the defaults.

use std::fmt::Write as _;

use corecast::config::DEFAULT_TOML;

use super::escaped;

/// Returns the generated part of `configuration.md`: a heading for each section and each setting.
pub fn page() -> String {
    let (mut page, mut section, mut comment) = (String::new(), String::new(), Vec::new());
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
            let text = std::mem::take(&mut comment);
            writeln!(page, "## `[{section}]`\n\n{}", paragraphs(&text)).expect("a text");
        } else if let Some((key, value)) = setting(line) {
            let text = std::mem::take(&mut comment);
            let by_default = match value {
                Value::Default(value) => format!("Default: `{value}`"),
                Value::Example(value) => format!("Not set by default. Example: `{value}`"),
            };
            writeln!(page, "### `{section}.{key}`\n\n{by_default}\n\n{}", paragraphs(&text))
                .expect("a text");
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text.strip_prefix(' ').unwrap_or(text));
        } else if section.is_empty() {
            // The first lines of the file describe the file.
            comment.clear();
        }
    }
    page.replace("\n\n\n", "\n\n")
}

enum Value<'l> {
    Default(&'l str),
    /// The setting is commented out.
    Example(&'l str),
}

/// Returns the setting in a line, if it has one: `key = value` or `#key = value`.
fn setting(line: &str) -> Option<(&str, Value<'_>)> {
    let (left, value) = line.split_once(" = ")?;
    let key = left.strip_prefix('#').unwrap_or(left);
    let is_key = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let value = if left == key { Value::Default(value) } else { Value::Example(value) };
    is_key.then_some((key, value))
}

/// Turns comment lines into paragraphs, and indented ones into code.
fn paragraphs(lines: &[&str]) -> String {
    let (mut text, mut in_code) = (String::new(), false);
    for line in lines {
        let code = line.strip_prefix("  ");
        if code.is_some() != in_code && !line.is_empty() {
            text.truncate(text.trim_end().len());
            text.push_str(if in_code { "\n```\n\n" } else { "\n\n```toml\n" });
            in_code = !in_code;
        }
        match code {
            Some(code) => writeln!(text, "{code}").expect("a text"),
            None => writeln!(text, "{}", escaped(line)).expect("a text"),
        }
    }
    if in_code {
        text.push_str("```\n");
    }
    text.replace("\n\n\n", "\n\n")
}
