//! `corecast publish`: publishes one message through the HTTP API.

use std::io::Read as _;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::failure::Failure;
use super::print::print_line;
use crate::limits::{INPUT_BYTES_MAX, PUBLISH_TIMEOUT};

/// Arguments of `publish`.
#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// Channel to publish to, such as news or chat:42.
    channel: String,
    /// Message as JSON. Any other text is sent as a JSON string; "-" reads the message from
    /// standard input.
    data: String,
    /// Send the message as a JSON string, even if it is valid JSON.
    #[arg(long)]
    text: bool,
    /// URL of the HTTP API.
    #[arg(long, value_name = "URL", env = "CORECAST_API_URL")]
    #[arg(default_value = "http://127.0.0.1:9000")]
    api: String,
    /// One of the server's api.keys. The variable hides it from other users; the flag does not.
    #[arg(long, value_name = "KEY", env = "CORECAST_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Print the result of the API as JSON.
    #[arg(long)]
    json: bool,
}

/// The body of the request.
#[derive(Serialize)]
struct PublishBody<'a> {
    channel: &'a str,
    data: Box<RawValue>,
}

/// The body of the response.
#[derive(Debug, Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ErrorBody>,
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    code: u16,
    message: String,
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
    let body = serde_json::to_vec(&body).map_err(|error| Failure::Words(error.to_string()))?;
    let (status, answer) = send(args, &body)?;
    print_line(&outcome(args, status, &answer).map_err(Failure::Words)?)
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

/// Posts `body`. Returns status and body of the response.
fn send(args: &PublishArgs, body: &[u8]) -> Result<(u16, String), Failure> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PUBLISH_TIMEOUT))
        .build();
    let url = format!("{}/api/publish", args.api.trim_end_matches('/').trim_end_matches("/api"));
    let mut request = ureq::Agent::new_with_config(config).post(&url);
    request = request.header("content-type", "application/json");
    if let Some(key) = &args.api_key {
        request = request.header("x-api-key", key);
    }
    let mut response = request.send(body).map_err(|error| unreachable_words(&args.api, &error))?;
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string();
    let text = text.map_err(|error| unreachable_words(&args.api, &error))?;
    Ok((status, text))
}

/// The error message if the API did not respond.
fn unreachable_words(api: &str, error: &ureq::Error) -> Failure {
    Failure::Words(match error {
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => format!(
            "no API at {api}: connection refused. Is the server running? Start one with \
             `corecast serve --dev`, or set the URL of its API with --api"
        ),
        ureq::Error::HostNotFound => format!("{api}: the host name does not exist"),
        ureq::Error::BadUri(_) => {
            format!("{api:?} is not a valid URL: use the form http://127.0.0.1:9000")
        }
        ureq::Error::Timeout(_) => {
            format!("{api} did not respond within {} s", PUBLISH_TIMEOUT.as_secs())
        }
        other => format!("{api}: {other}"),
    })
}

/// The message to print for a response.
///
/// # Errors
/// The request failed. The error is the message to print.
fn outcome(args: &PublishArgs, status: u16, answer: &str) -> Result<String, String> {
    let PublishArgs { channel, api, .. } = args;
    match status {
        200 => {}
        401 if args.api_key.is_none() => {
            return Err(format!(
                "{api} requires a key: set CORECAST_API_KEY to one of its api.keys"
            ));
        }
        401 => return Err(format!("{api} does not accept this key")),
        404 => return Err(format!("{api} is not a Corecast API: it returns status 404")),
        _ => return Err(format!("{api} returned status {status}: {}", answer.trim_end())),
    }
    let no_api = || format!("{api} is not a Corecast API: it returned {answer:?}");
    let answer: Answer<'_> = serde_json::from_str(answer).map_err(|_| no_api())?;
    if let Some(error) = answer.error {
        let hint = match error.code {
            102 => "; the part before ':' must be a namespace in the server's settings",
            _ => "",
        };
        let ErrorBody { code, message } = error;
        return Err(format!("can't publish to {channel:?}: {message} ({code}){hint}"));
    }
    let result = answer.result.ok_or_else(no_api)?;
    if args.json {
        return Ok(result.get().to_owned());
    }
    let position: Position = serde_json::from_str(result.get()).map_err(|_| no_api())?;
    Ok(match position.offset {
        Some(offset) => format!("published to {channel} at {}:{offset}", position.epoch),
        None => format!("published to {channel}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(json: bool) -> PublishArgs {
        PublishArgs {
            channel: "news".to_owned(),
            data: "x".to_owned(),
            text: false,
            api: "http://127.0.0.1:9".to_owned(),
            api_key: None,
            json,
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
    fn answers_are_told_in_words() {
        let with = r#"{"result":{"offset":7,"epoch":"ab"}}"#;
        let table = [
            (200, with, Ok("published to news at ab:7")),
            (200, r#"{"result":{}}"#, Ok("published to news")),
            (200, r#"{"error":{"code":108,"message":"m"}}"#, Err("can't publish to \"news\": m")),
            (200, r#"{"error":{"code":102,"message":"m"}}"#, Err("must be a namespace")),
            (200, "<html>", Err("not a Corecast API")),
            (401, "", Err("CORECAST_API_KEY")),
            (503, "busy\n", Err("status 503: busy")),
        ];
        for (status, answer, expected) in table {
            match (outcome(&args(false), status, answer), expected) {
                (Ok(words), Ok(expected)) => assert_eq!(words, expected),
                (Err(words), Err(part)) => assert!(words.contains(part), "{words}"),
                (found, expected) => panic!("{found:?} where {expected:?} was expected"),
            }
        }
        assert_eq!(outcome(&args(true), 200, with), Ok(r#"{"offset":7,"epoch":"ab"}"#.to_owned()));
    }

    #[test]
    fn without_a_server_the_error_says_how_to_start_one() {
        let mut args = args(false);
        args.api = "http://127.0.0.1:1".to_owned();
        let words = run(&args).expect_err("nobody listens").to_string();
        assert!(words.contains("connection refused") && words.contains("serve --dev"), "{words}");
    }
}
