//! Lines on standard output.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use super::failure::Failure;

/// Prints one line on standard output.
pub(super) fn print_line(line: &str) -> Result<(), Failure> {
    print_line_to(&mut io::stdout(), line)
}

/// Prints one line and flushes, because a pipe is expected to deliver it immediately.
pub(super) fn print_line_to(out: &mut dyn io::Write, line: &str) -> Result<(), Failure> {
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Whether a character would change the terminal, or the order of the text on it: control
/// characters, directions of text, and separators of lines.
pub(super) fn must_be_escaped(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}')
}

/// Returns `text` with escapes for such characters, which are also valid in JSON. Otherwise a
/// message could clear a terminal, change its title, or look like several lines.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(must_be_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for next in text.chars() {
        match next {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a text does not fail.
            next if must_be_escaped(next) => {
                write!(out, "\\u{:04x}", u32::from(next)).unwrap_or_default();
            }
            next => out.push(next),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_escapes() {
        for (text, expected) in [
            ("plain ü \u{1f600}", "plain ü \u{1f600}"),
            ("\u{1b}[2J\u{7}", "\\u001b[2J\\u0007"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{7f}\u{9b}1m", "\\u007f\\u009b1m"),
            ("a\u{202e}b\u{2028}", "a\\u202eb\\u2028"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }
}
