//! The parts of pages that are generated from the source, or name parts of it.

pub mod codes;
pub mod configuration;
pub mod metrics;
pub mod names;

/// Escapes characters outside of code that Markdown would interpret as markup.
fn escaped(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let escape = |(at, part): (usize, &str)| {
        if at % 2 == 1 {
            return format!("`{part}`");
        }
        part.replace('*', "\\*").replace('<', "\\<").replace('|', "\\|")
    };
    parts.map(escape).collect()
}

#[test]
fn markup_is_escaped_outside_of_code() {
    assert_eq!(escaped("a * `b *` <c>"), "a \\* `b *` \\<c>");
}
