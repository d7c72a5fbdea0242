//! `corecast history`: the publications that a channel keeps.

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api::{API_HELP, ApiArgs, Call};
use super::failure::Failure;
use super::print::print_line;
use super::table::{Column, table, visible};
use crate::limits::HISTORY_SHOWN;
use crate::units::parse_count;

/// Arguments of `history`.
#[derive(Debug, Args)]
#[command(after_help = API_HELP)]
pub(super) struct HistoryArgs {
    /// Channel, such as news or chat:42.
    channel: String,
    /// Maximum number of publications, such as 50 or 10k, or "all".
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    #[arg(default_value_t = Limit(HISTORY_SHOWN))]
    limit: Limit,
    /// Show the first publications after this position, instead of the last ones.
    #[arg(long, value_name = "EPOCH:OFFSET", value_parser = parse_position)]
    since: Option<Position>,
    #[command(flatten)]
    api: ApiArgs,
}

/// The maximum number of publications. [`Limit::ALL`] has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit(u64);

impl Limit {
    const ALL: Limit = Limit(u64::MAX);

    /// The limit as the API takes it, where a negative number means all.
    fn wire(self) -> i32 {
        i32::try_from(self.0).unwrap_or(-1)
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

fn parse_limit(text: &str) -> Result<Limit, String> {
    match text {
        "all" => Ok(Limit::ALL),
        // The API understands 0 as a question for the position alone.
        number => parse_count(number).map(Limit),
    }
}

/// A position in the form in which the commands print it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Position {
    offset: u64,
    epoch: String,
}

fn parse_position(text: &str) -> Result<Position, String> {
    let parts = text.rsplit_once(':').and_then(|(epoch, offset)| {
        Some(Position { offset: offset.parse().ok()?, epoch: epoch.to_owned() })
    });
    parts.ok_or_else(|| format!("{text:?} is not a position: use EPOCH:OFFSET, such as abcd:42"))
}

#[derive(Debug, Serialize)]
struct Params<'a> {
    channel: &'a str,
    limit: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<&'a Position>,
    reverse: bool,
}

/// The result of the API.
#[derive(Debug, Serialize, Deserialize)]
struct History {
    publications: Vec<Box<RawValue>>,
    offset: u64,
    epoch: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    omitted: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug, Deserialize)]
struct Publication<'a> {
    #[serde(default)]
    offset: u64,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
}

/// Prints the publications, the oldest first.
pub(super) fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let since = args.since.as_ref();
    let reverse = since.is_none();
    let params = Params { channel: &args.channel, limit: args.limit.wire(), since, reverse };
    let purpose = format!("read the history of {:?}", args.channel);
    let result = args.api.call(&Call { method: "history", params: &params, purpose })?;
    let mut history: History = args.api.read(&result)?;
    if reverse {
        history.publications.reverse();
    }
    if args.api.json {
        let text = serde_json::to_string(&history);
        return print_line(&text.map_err(|error| Failure::Words(error.to_string()))?);
    }
    let mut rows = Vec::with_capacity(history.publications.len());
    for publication in &history.publications {
        rows.push(row(&args.api.read::<Publication<'_>>(publication.get())?));
    }
    if !rows.is_empty() {
        print_line(&publications_table(&rows))?;
    }
    let channel = visible(&args.channel);
    eprintln!("corecast: {channel} is at {}:{}", visible(&history.epoch), history.offset);
    if history.omitted > 0 {
        eprintln!(
            "corecast: {} more publications did not fit into the response: use --since",
            history.omitted
        );
    }
    Ok(())
}

fn row(publication: &Publication<'_>) -> [String; 3] {
    let tags = publication.tags.map_or("", |tags| tags.get());
    [publication.offset.to_string(), visible(publication.data.get()), visible(tags)]
}

/// The table, without a column for tags if there are none.
fn publications_table(rows: &[[String; 3]]) -> String {
    let offset = Column::number("offset");
    let data = Column::text("data");
    if rows.iter().any(|[_, _, tags]| !tags.is_empty()) {
        // The payloads come last, because their lengths differ most.
        let rows: Vec<[String; 3]> = rows
            .iter()
            .map(|[offset, data, tags]| [offset.clone(), tags.clone(), data.clone()])
            .collect();
        return table([offset, Column::text("tags"), data], &rows);
    }
    let rows: Vec<[String; 2]> =
        rows.iter().map(|[offset, data, _]| [offset.clone(), data.clone()]).collect();
    table([offset, data], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_positions_are_those_that_the_commands_print() {
        for (text, wire) in [("10", 10), ("10k", 10_000), ("all", -1), ("5000M", -1), ("0", 0)] {
            assert_eq!(parse_limit(text).map(Limit::wire), Ok(wire), "{text}");
        }
        let position = Position { offset: 42, epoch: "ab".to_owned() };
        assert_eq!(parse_position("ab:42"), Ok(position));
        for wrong in ["ab", "42", "ab:x", "ab:-1", ""] {
            assert!(parse_position(wrong).expect_err(wrong).contains("EPOCH:OFFSET"), "{wrong}");
        }
    }

    #[test]
    fn tags_have_a_column_only_if_there_are_any() {
        let row = |offset: &str, tags: &str| [offset.to_owned(), "1".to_owned(), tags.to_owned()];
        assert_eq!(
            publications_table(&[row("9", ""), row("10", "")]),
            "offset  data\n     9  1\n    10  1"
        );
        assert_eq!(publications_table(&[row("9", "{}")]), "offset  tags  data\n     9  {}    1");
    }
}
