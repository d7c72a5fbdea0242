//! The table of kernel settings, which `kernel-tuning` shares.

/// The table as text.
pub const KEYS: &str = include_str!("../../kernel-tuning/keys");

/// Numbers of connections, one for each column of the table.
pub const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// Number of columns before those of the sizes: key, rule, place.
const COLUMNS_BEFORE: usize = 3;

/// The required relation of a value to the value in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Each number must be at least as large.
    Min,
    /// Each number must be at most as large.
    Max,
    /// The numbers must be equal.
    Is,
}

/// A row of the table, for one number of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The name of the sysctl.
    pub name: &'static str,
    /// The required relation to `value`.
    pub rule: Rule,
    /// One number, or three numbers for `tcp_mem`, `tcp_rmem` and `tcp_wmem`.
    pub value: Vec<u64>,
}

impl Key {
    /// Returns all rows for `connections`, with the values of the first column that is large
    /// enough, or else of the last one.
    pub fn all(connections: u64) -> Vec<Key> {
        let enough = SIZES.iter().position(|&size| connections <= size);
        let column = COLUMNS_BEFORE + enough.unwrap_or(SIZES.len() - 1);
        KEYS.lines().filter_map(|line| Key::parse(line, column)).collect()
    }

    fn parse(line: &'static str, column: usize) -> Option<Key> {
        let counters: Vec<&str> = line.split('|').map(str::trim).collect();
        let rule = match *counters.get(1)? {
            "min" => Rule::Min,
            "max" => Rule::Max,
            "is" => Rule::Is,
            _ => return None,
        };
        let value = numbers(counters.get(column)?)?;
        Some(Key { name: counters[0], rule, value })
    }

    /// Whether a value from `/proc/sys` satisfies the row. `None` if it is not a number, or has
    /// another count of numbers.
    pub fn holds(&self, found: &str) -> Option<bool> {
        let found = numbers(found)?;
        let fits = |(found, wanted): (&u64, &u64)| match self.rule {
            Rule::Min => found >= wanted,
            Rule::Max => found <= wanted,
            Rule::Is => found == wanted,
        };
        (found.len() == self.value.len()).then(|| found.iter().zip(&self.value).all(fits))
    }

    /// Returns the value in the form that sysctl accepts.
    pub fn text(&self) -> String {
        let numbers: Vec<String> = self.value.iter().map(u64::to_string).collect();
        numbers.join(" ")
    }

    /// Returns the command that sets the value.
    pub fn command(&self) -> String {
        command(self.name, &self.text())
    }
}

/// Returns the command that sets a kernel setting.
pub(crate) fn command(name: &str, value: &str) -> String {
    let quote = if value.contains(' ') { "\"" } else { "" };
    format!("sysctl -w {name}={quote}{value}{quote}")
}

/// Parses the numbers of a value. `None` if it contains anything else.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let numbers: Option<Vec<u64>> = text.split_whitespace().map(|one| one.parse().ok()).collect();
    numbers.filter(|numbers| !numbers.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_says_something_for_the_largest_size() {
        let rows = KEYS.lines().filter(|line| !line.starts_with('#')).count();
        assert!(rows > 10, "{rows} rows");
        assert_eq!(Key::all(10_000_000).len(), rows);
        assert!(Key::all(10_000).len() < rows, "few connections need fewer settings");
        assert_eq!(Key::all(u64::MAX), Key::all(10_000_000));
    }

    #[test]
    fn the_columns_are_those_of_the_sizes() {
        let head = KEYS.lines().find(|line| line.starts_with("# key |")).expect("a head");
        let sizes: Vec<u64> = head.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
        assert_eq!(sizes, SIZES);
    }

    #[test]
    fn a_value_is_compared_number_by_number() {
        let key = |rule, value: &[u64]| Key { name: "a.b", rule, value: value.to_vec() };
        let three = [4, 5, 6];
        for (rule, found, holds) in [
            (Rule::Min, "4\t5\t7\n", Some(true)),
            (Rule::Min, "9 9 5", Some(false)),
            (Rule::Max, "4 5 6", Some(true)),
            (Rule::Max, "4 6 6", Some(false)),
            (Rule::Is, "4 5 6", Some(true)),
            (Rule::Is, "4 5 7", Some(false)),
            (Rule::Min, "4", None),
            (Rule::Min, "much", None),
            (Rule::Min, "", None),
        ] {
            assert_eq!(key(rule, &three).holds(found), holds, "{rule:?} {found}");
        }
        assert_eq!(key(Rule::Is, &three).command(), "sysctl -w a.b=\"4 5 6\"");
        assert_eq!(key(Rule::Is, &[1]).command(), "sysctl -w a.b=1");
    }
}
