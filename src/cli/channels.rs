//! `corecast channels`: the channels with subscribers.

use std::collections::BTreeMap;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::api::{API_HELP, ApiArgs, Call};
use super::failure::Failure;
use super::print::print_line;
use super::table::{Column, table, visible};
use crate::limits::{API_CHANNELS_PAGE_MAX, CHANNELS_SHOWN};
use crate::units::parse_count;

/// Arguments of `channels`.
#[derive(Debug, Args)]
#[command(after_help = API_HELP)]
pub(super) struct ChannelsArgs {
    /// Only channels that match; * stands for any text, and ? for one character.
    pattern: Option<String>,
    /// Maximum number of channels, such as 50 or 10k.
    #[arg(long, value_name = "N", value_parser = parse_count, default_value_t = CHANNELS_SHOWN)]
    limit: u64,
    /// Begin after this channel, because channels are sorted by name.
    #[arg(long, value_name = "CHANNEL")]
    after: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Serialize)]
struct Params<'a> {
    pattern: &'a str,
    limit: u64,
    cursor: &'a str,
}

/// A page of the list, and the list of all pages.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Channels {
    channels: BTreeMap<String, Channel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Channel {
    num_clients: u64,
}

/// Prints the channels with the number of their subscribers.
pub(super) fn run(args: &ChannelsArgs) -> Result<(), Failure> {
    let found = ask(args)?;
    if args.api.json {
        let text = serde_json::to_string(&found);
        return print_line(&text.map_err(|error| Failure::Words(error.to_string()))?);
    }
    let row =
        |(name, channel): (&String, &Channel)| [visible(name), channel.num_clients.to_string()];
    let rows: Vec<[String; 2]> = found.channels.iter().map(row).collect();
    if rows.is_empty() {
        eprintln!("corecast: no such channel has subscribers");
        return Ok(());
    }
    print_line(&table([Column::text("channel"), Column::number("subscribers")], &rows))?;
    if let Some(cursor) = &found.cursor {
        eprintln!(
            "corecast: there are more channels: use --limit, or --after '{}'",
            visible(cursor)
        );
    }
    Ok(())
}

/// Asks page by page until there are enough channels.
fn ask(args: &ChannelsArgs) -> Result<Channels, Failure> {
    let mut all = Channels { cursor: args.after.clone(), ..Channels::default() };
    loop {
        let missing = args.limit.saturating_sub(all.channels.len() as u64);
        let cursor = all.cursor.take().unwrap_or_default();
        let pattern = args.pattern.as_deref().unwrap_or_default();
        let params = Params {
            pattern,
            limit: missing.clamp(1, API_CHANNELS_PAGE_MAX as u64),
            cursor: &cursor,
        };
        let purpose = "list the channels".to_owned();
        let result = args.api.call(&Call { method: "channels", params: &params, purpose })?;
        let page: Channels = args.api.read(&result)?;
        all.channels.extend(page.channels);
        all.cursor = page.cursor;
        if all.cursor.is_none() || all.channels.len() as u64 >= args.limit {
            return Ok(all);
        }
    }
}
