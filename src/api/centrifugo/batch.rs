//! Several commands in one request: `batch`, and the legacy form.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::methods::{self, Method};
use super::reply::{CallError, CallResult, Reply, raw};
use super::request::{self, BatchRequest, LegacyCommand};
use crate::api::error::ApiError;
use crate::api::http;
use crate::api::service::Service;
use crate::api::state::Api;
use crate::limits::{API_BATCH_MAX, API_WINDOW_MAX};
use crate::reason::ClientError;

/// The parameters of a command without parameters.
const NO_PARAMS: &str = "{}";

/// Carries out the commands of `POST /api`: `{"method","params"}`, one or several in a row.
///
/// # Errors
/// `Malformed` if a command is invalid. The commands before it have been carried out.
pub(super) async fn legacy_commands(service: &Service, body: &[u8]) -> Result<Vec<u8>, CallError> {
    let mut out = Vec::new();
    let commands = serde_json::Deserializer::from_slice(body).into_iter::<LegacyCommand>();
    for (index, command) in commands.enumerate() {
        let command = command.map_err(|error| CallError::Malformed(error.to_string()))?;
        if index >= API_BATCH_MAX {
            return Err(CallError::Malformed(format!("more than {API_BATCH_MAX} commands")));
        }
        let params = command.params.as_ref().map_or(NO_PARAMS, |params| params.get());
        let reply = Reply::from(call(service, &command.method, params).await);
        if !out.is_empty() {
            out.push(b'\n');
        }
        out.extend_from_slice(&http::encode(&reply));
    }
    if out.is_empty() { Err(CallError::Malformed("no command".to_owned())) } else { Ok(out) }
}

/// Carries out a batch, in order or in parallel.
///
/// # Errors
/// `Malformed` if the body is not a batch. The error of a single command is in its own reply.
pub(super) async fn batch(api: &Arc<Api>, body: &[u8]) -> Result<Vec<u8>, CallError> {
    let batch: BatchRequest = request::read(body)?;
    if batch.commands.len() > API_BATCH_MAX {
        let count = batch.commands.len();
        let detail = format!("commands has {count} entries; the maximum is {API_BATCH_MAX}");
        return Err(ApiError::bad_request(detail).into());
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
    if crate::sabotage!(SwappedReplies) {
        replies.reverse();
    }
    Ok(http::encode(&Replies { replies }))
}

/// The response to a batch.
#[derive(Serialize)]
struct Replies {
    replies: Vec<Box<RawValue>>,
}

/// A command of a batch: the name of the method and its parameters. `None` if the object is empty.
type Command = Option<(String, Box<RawValue>)>;

/// Carries out commands in parallel. Returns the outcomes in the order of the commands.
async fn batch_window(api: &Arc<Api>, window: Vec<Command>) -> Vec<(String, CallResult)> {
    let missing = || Err(ApiError::internal("the command did not finish").into());
    let mut answers: Vec<(String, CallResult)> =
        window.iter().map(|_| (String::new(), missing())).collect();
    let mut running = JoinSet::new();
    for (index, command) in window.into_iter().enumerate() {
        let api = Arc::clone(api);
        running.spawn(async move {
            let (name, params) = command.unzip();
            let name = name.unwrap_or_default();
            let params = params.as_ref().map_or(NO_PARAMS, |params| params.get());
            let outcome = call(&api.service, &name, params).await;
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
fn batch_reply(name: &str, outcome: CallResult) -> CallResult {
    match outcome {
        Ok(result) => raw(&std::collections::BTreeMap::from([(name, result)])),
        Err(error) => raw(&Reply::Error(error.body())),
    }
}

async fn call(service: &Service, name: &str, params: &str) -> CallResult {
    if name == "batch" {
        let error = ClientError::MethodNotFound;
        let detail = "a batch must not contain a batch".to_owned();
        return Err(ApiError::Refused { error, detail }.into());
    }
    methods::call(service, Method::from_name(name)?, params.as_bytes()).await
}
