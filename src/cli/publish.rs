//! `corecast publish`: publishes one message through the HTTP API.

use std::io::Read as _;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api::{API_HELP, ApiArgs, Call};
use super::failure::Failure;
use super::print::print_line;
use super::table::visible;
use crate::limits::INPUT_BYTES_MAX;

/// Arguments of `publish`.
#[derive(Debug, Args)]
#[command(after_help = API_HELP)]
pub(super) struct PublishArgs {
    /// Channel to publish to, such as news or chat:42.
    channel: String,
    /// Message as JSON. Any other text is sent as a JSON string; "-" reads the message from
    /// standard input.
    data: String,
    /// Send the message as a JSON string, even if it is valid JSON.
    #[arg(long)]
    text: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// The body of the request.
#[derive(Serialize)]
struct PublishBody<'a> {
    channel: &'a str,
    data: Box<RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Position {
    offset: Option<u64>,
    epoch: String,
}

/// Publishes the message, and prints its position.
pub(super) fn run(args: &PublishArgs) -> Result<(), Failure> {
    let text = if args.data == "-" { read_input()? } else { args.data.clone() };
    let data = if args.text { json_string(&text) } else { json(&text) };
    let body = PublishBody { channel: &args.channel, data: data.map_err(Failure::Words)? };
    let purpose = format!("publish to {:?}", args.channel);
    let result = args.api.call(&Call { method: "publish", params: &body, purpose })?;
    print_line(&outcome(args, &result)?)
}

fn read_input() -> Result<String, Failure> {
    let mut text = String::new();
    let input = std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_string(&mut text);
    input.map_err(|error| Failure::Words(format!("can't read the message: {error}")))?;
    Ok(text)
}

/// The message unchanged if it is JSON, otherwise as a JSON string.
fn json(text: &str) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text.trim().to_owned()).or_else(|_| json_string(text))
}

fn json_string(text: &str) -> Result<Box<RawValue>, String> {
    serde_json::value::to_raw_value(text).map_err(|error| error.to_string())
}

/// The message to print for a result.
fn outcome(args: &PublishArgs, result: &str) -> Result<String, Failure> {
    if args.api.json {
        return Ok(result.to_owned());
    }
    let channel = visible(&args.channel);
    let position: Position = args.api.read(result)?;
    Ok(match position.offset {
        Some(offset) => format!("published to {channel} at {}:{offset}", position.epoch),
        None => format!("published to {channel}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq)]
    enum Json {
        Yes,
        No,
    }

    fn args(json: Json) -> PublishArgs {
        let api = "http://127.0.0.1:9".to_owned();
        PublishArgs {
            channel: "news".to_owned(),
            data: "x".to_owned(),
            text: false,
            api: ApiArgs { api, api_key: None, api_key_file: None, json: json == Json::Yes },
        }
    }

    #[test]
    fn what_is_no_json_is_sent_as_a_text() {
        let table = [
            (json("Hello"), r#""Hello""#),
            (json(r#" {"a": 1} "#), r#"{"a": 1}"#),
            (json("5"), "5"),
            (json_string("5"), r#""5""#),
            (json("{"), r#""{""#),
        ];
        for (sent, expected) in table {
            assert_eq!(sent.map(|raw| raw.get().to_owned()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn the_result_is_the_position_or_its_json() {
        let with = r#"{"offset":7,"epoch":"ab"}"#;
        for (json, result, expected) in [
            (Json::No, with, "published to news at ab:7"),
            (Json::No, "{}", "published to news"),
            (Json::Yes, with, with),
        ] {
            assert_eq!(outcome(&args(json), result).expect("a result"), expected);
        }
    }
}
