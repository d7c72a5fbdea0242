//! Answers of the API: one result or error, a batch of them, or HTTP's own words.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::Api;
use super::error::{ApiError, ErrorBody};
use super::methods::{self, Method, Outcome};
use super::request::{BatchRequest, OldCommand};
use crate::limits::{API_BATCH_MAX, API_WINDOW_MAX};
use crate::reason::ClientError;

/// Header by which a client asks for errors as HTTP statuses.
const ERROR_MODE: &str = "x-centrifugo-error-mode";

/// What a command without parameters has.
const NO_PARAMS: &str = "{}";

/// `{"result":{..}}` or `{"error":{..}}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reply {
    Result(Box<RawValue>),
    Error(ErrorBody),
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Reply {
        match outcome {
            Ok(result) => Reply::Result(result),
            Err(error) => Reply::Error(error.body()),
        }
    }
}

/// The HTTP response to one method's outcome.
pub(super) fn respond(outcome: Outcome, headers: &HeaderMap) -> Response<Body> {
    let by_status = headers.get(ERROR_MODE).is_some_and(|mode| mode == "transport");
    match outcome {
        Err(ApiError::Malformed(detail)) => text(StatusCode::BAD_REQUEST, &detail),
        Err(ApiError::Busy) => busy(),
        Err(error) if by_status => json(error.transport_status(), &error.body()),
        outcome => json(StatusCode::OK, &Reply::from(outcome)),
    }
}

/// Carries out the commands of `POST /api`: `{"method","params"}`, one or several in a row.
///
/// # Errors
/// `Malformed` if the body is no such thing; then what stood before it has been carried out.
pub(super) async fn old(api: &Arc<Api>, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut out = Vec::new();
    let commands = serde_json::Deserializer::from_slice(body).into_iter::<OldCommand>();
    for (index, command) in commands.enumerate() {
        let command = command.map_err(|error| ApiError::Malformed(error.to_string()))?;
        if index >= API_BATCH_MAX {
            return Err(ApiError::Malformed(format!("more than {API_BATCH_MAX} commands")));
        }
        let params = command.params.as_ref().map_or(NO_PARAMS, |params| params.get());
        let reply = Reply::from(call(api, &command.method, params).await);
        if !out.is_empty() {
            out.push(b'\n');
        }
        out.extend_from_slice(&encode(&reply));
    }
    if out.is_empty() { Err(ApiError::Malformed("no command".to_owned())) } else { Ok(out) }
}

/// Carries out a batch, in order or side by side.
///
/// # Errors
/// `Malformed` if the body is none; what fails in one command is its own reply.
pub(super) async fn batch(api: &Arc<Api>, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let batch: BatchRequest = methods::read(body)?;
    if batch.commands.len() > API_BATCH_MAX {
        let count = batch.commands.len();
        let detail = format!("{count} commands, where {API_BATCH_MAX} are allowed");
        return Err(ApiError::bad_request(detail));
    }
    let mut replies: Vec<Box<RawValue>> = Vec::with_capacity(batch.commands.len());
    let mut commands = batch.commands.into_iter().map(|command| command.into_iter().next());
    let width = if batch.parallel { API_WINDOW_MAX } else { 1 };
    loop {
        let window: Vec<_> = commands.by_ref().take(width).collect();
        if window.is_empty() {
            break;
        }
        for (name, outcome) in batch_window(api, window).await {
            replies.push(batch_reply(&name, outcome)?);
        }
    }
    Ok(encode(&Replies { replies }))
}

/// The answer to a batch.
#[derive(Serialize)]
struct Replies {
    replies: Vec<Box<RawValue>>,
}

/// A command of a batch: a method's name and its parameters; absent if the object was empty.
type Command = Option<(String, Box<RawValue>)>;

/// Carries out commands side by side; the answers are in the commands' order.
async fn batch_window(api: &Arc<Api>, window: Vec<Command>) -> Vec<(String, Outcome)> {
    let missing = || Err(ApiError::internal("the command did not finish"));
    let mut answers: Vec<(String, Outcome)> =
        window.iter().map(|_| (String::new(), missing())).collect();
    let mut running = JoinSet::new();
    for (index, command) in window.into_iter().enumerate() {
        let api = Arc::clone(api);
        running.spawn(async move {
            let (name, params) = command.unzip();
            let name = name.unwrap_or_default();
            let params = params.as_ref().map_or(NO_PARAMS, |params| params.get());
            let outcome = call(&api, &name, params).await;
            (index, name, outcome)
        });
    }
    while let Some(finished) = running.join_next().await {
        if let Ok((index, name, outcome)) = finished {
            answers[index] = (name, outcome);
        }
    }
    answers
}

/// `{"publish":{..}}`, named after the method, or `{"error":{..}}`.
fn batch_reply(name: &str, outcome: Outcome) -> Outcome {
    match outcome {
        Ok(result) => methods::raw(&std::collections::BTreeMap::from([(name, result)])),
        Err(error) => methods::raw(&Reply::Error(error.body())),
    }
}

async fn call(api: &Arc<Api>, name: &str, params: &str) -> Outcome {
    if name == "batch" {
        let error = ClientError::MethodNotFound;
        return Err(ApiError::Refused { error, detail: "a batch in a batch".to_owned() });
    }
    methods::call(api, Method::from_name(name)?, params.as_bytes()).await
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    // Our own types can be written; if not, the client must still get an error it can read.
    serde_json::to_vec(value)
        .unwrap_or_else(|_| br#"{"error":{"code":100,"message":"internal server error"}}"#.to_vec())
}

/// A JSON response.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    json_bytes(status, encode(value))
}

/// A response of JSON that is written already.
pub(super) fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
    with_type(status, "application/json", Body::from(bytes))
}

/// One line for a person.
pub(super) fn text(status: StatusCode, line: &str) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", Body::from(format!("{line}\n")))
}

/// Too much is under way.
pub(super) fn busy() -> Response<Body> {
    let line = "too many requests are under way; try again in a second";
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, line);
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    response
}

/// A response whose body has the type `content_type`.
pub(super) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
