//! The generated parts of pages in `docs`, made from the source.

pub mod codes;
pub mod configuration;
pub mod metrics;

/// `text` without what Markdown would take for markup, outside of code.
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
