//! Tables.

use maud::{Markup, html};

/// Rows of cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// Titles of the columns.
    pub(crate) head: Vec<String>,
    /// One cell for each column.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// Renders the table. A screen reader announces it as `title`.
    pub(super) fn markup(&self, title: &str) -> Markup {
        let columns = 0..self.rows.iter().map(Vec::len).max().unwrap_or(0).max(self.head.len());
        let classes: Vec<_> =
            columns.map(|column| self.is_numeric(column).then_some("number")).collect();
        html! {
            // A table that is wider than a phone scrolls, with the keyboard as well.
            div.table tabindex="0" role="region" aria-label=(title) {
                table {
                    thead {
                        tr {
                            @for (name, class) in self.head.iter().zip(&classes) {
                                th scope="col" class=[class] { (name) }
                            }
                        }
                    }
                    tbody {
                        @for row in &self.rows {
                            tr {
                                @for (cell, class) in row.iter().zip(&classes) {
                                    td class=[class] { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Whether a column contains only numbers, which are aligned to the right. The first column
    /// names its rows, even by numbers.
    pub(crate) fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.get(column)).peekable();
        let starts = |cell: &String| {
            let bare = cell.trim_start_matches(['-', '–', '+', '<', '>', '~', ' ']);
            bare.is_empty() || bare.starts_with(|first: char| first.is_ascii_digit())
        };
        column > 0 && cells.peek().is_some() && cells.all(starts)
    }
}
