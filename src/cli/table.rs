//! Tables for the terminal: columns as wide as their longest cell, two spaces apart.

use super::print::must_be_escaped;

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    head: &'static str,
    side: Side,
}

/// The side at which the cells of a column begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Text.
    Left,
    /// Numbers, so that their digits stand below each other.
    Right,
}

impl Column {
    /// A column of text.
    pub(super) const fn text(head: &'static str) -> Column {
        Column { head, side: Side::Left }
    }

    /// A column of numbers.
    pub(super) const fn number(head: &'static str) -> Column {
        Column { head, side: Side::Right }
    }
}

/// Returns the table with these rows, each of which has a cell for each column. Lines do not end
/// with spaces.
pub(super) fn table<const N: usize>(columns: [Column; N], rows: &[[String; N]]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.fold(columns[at].head.chars().count(), usize::max)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let heads = columns.map(|column| column.head.to_owned());
    let mut out = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for ((cell, column), width) in row.iter().zip(&columns).zip(widths) {
            let cell = match column.side {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            };
            line.push_str(&cell);
            line.push_str("  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.pop();
    out
}

/// Returns `text` with escapes for all characters that would change the terminal or the order of
/// the text on it. Names and payloads come from clients.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if must_be_escaped(letter) {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_at_the_right_and_lines_have_no_spaces_at_their_end() {
        let columns = [Column::text("name"), Column::number("n"), Column::text("note")];
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        assert_eq!(
            table(columns, &[row(["a", "1", ""]), row(["news:é", "1234", "x"])]),
            "name       n  note\n\
             a          1\n\
             news:é  1234  x"
        );
    }

    #[test]
    fn text_of_clients_does_not_reach_the_terminal_as_it_is() {
        assert_eq!(visible("a\u{1b}[2Jb\u{202e}c\n\u{9b}é"), "a\\u{1b}[2Jb\\u{202e}c\\n\\u{9b}é");
    }
}
