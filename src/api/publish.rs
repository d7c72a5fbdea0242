//! `publish` and `broadcast`.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::courier::Waiting;
use super::error::ApiError;
use super::methods::{Outcome, raw};
use super::request::{BroadcastResult, PublishRequest, PublishResult};
use super::{Api, reply};
use crate::channel::{ChannelName, DataType, Publication, check_payload};
use crate::limits::{ANSWER_TIMEOUT, API_BATCH_MAX, API_WINDOW_MAX, IDEMPOTENCY_KEY_BYTES_MAX};
use crate::mesh::{Answer, Asker, Message, Publish};
use crate::protocol::read_data;

/// Publishes to one channel. Answers once the publication is in its history.
///
/// # Errors
/// 107 for a missing or wrong channel or payload, 102 for an unknown namespace.
pub(super) async fn publish(
    api: &Arc<Api>,
    request: PublishRequest,
) -> Result<PublishResult, ApiError> {
    publish_answer(publish_send(api, &request.channel, &request)?).await
}

/// Publishes the same to several channels, in their order.
///
/// # Errors
/// 107 if there is no payload, no channel, or too many. What fails for one channel is its own
/// entry.
pub(super) async fn broadcast(
    api: &Arc<Api>,
    request: PublishRequest,
) -> Result<BroadcastResult, ApiError> {
    if request.channels.is_empty() || request.channels.len() > API_BATCH_MAX {
        let count = request.channels.len();
        let detail = format!("{count} channels, where 1 to {API_BATCH_MAX} are expected");
        return Err(ApiError::bad_request(detail));
    }
    if request.b64data.is_empty() && request.data.is_none() {
        return Err(ApiError::bad_request("data is missing"));
    }
    let mut responses = Vec::with_capacity(request.channels.len());
    for window in request.channels.chunks(API_WINDOW_MAX) {
        let send = |channel: &String| publish_send(api, channel, &request);
        let waiting: Vec<_> = window.iter().map(send).collect();
        for one in waiting {
            responses.push(broadcast_response(one).await?);
        }
    }
    Ok(BroadcastResult { responses })
}

/// One channel's entry: `{"result":{..}}` or `{"error":{..}}`.
async fn broadcast_response(waiting: Result<Waiting, ApiError>) -> Outcome {
    let outcome = match waiting {
        Ok(waiting) => publish_answer(waiting).await.and_then(|result| raw(&result)),
        Err(error) => Err(error),
    };
    raw(&reply::Reply::from(outcome))
}

/// Checks a publication, and sends it to the channel's home shard.
fn publish_send(
    api: &Arc<Api>,
    channel: &str,
    request: &PublishRequest,
) -> Result<Waiting, ApiError> {
    let namespace = api.resolve(channel)?;
    if request.version != 0 {
        return Err(ApiError::not_available("version is not part of this version"));
    }
    let key = &request.idempotency_key;
    if key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        let bytes = key.len();
        let detail = format!(
            "an idempotency_key of {bytes} bytes, where {IDEMPOTENCY_KEY_BYTES_MAX} are allowed"
        );
        return Err(ApiError::bad_request(detail));
    }
    let publication = Publication {
        data: publish_payload(namespace.data, request)?,
        offset: 0,
        publisher: None,
        tags: request.tags.iter().map(|(key, value)| (boxed(key), boxed(value))).collect(),
        accepted: api.status.now(),
    };
    let make = |ticket| {
        Message::Publish(Box::new(Publish {
            channel: ChannelName::new(channel),
            publication,
            skip_history: request.skip_history,
            idempotency_key: (!key.is_empty()).then(|| boxed(key)),
            asker: Asker::Control(ticket),
        }))
    };
    api.courier.send(api.courier.orderer(channel), make)
}

async fn publish_answer(waiting: Waiting) -> Result<PublishResult, ApiError> {
    match waiting.answer(ANSWER_TIMEOUT).await? {
        Answer::Published(None) => Ok(PublishResult::default()),
        Answer::Published(Some(position)) => Ok(PublishResult {
            offset: Some(position.offset),
            epoch: Some(position.epoch.to_string()),
        }),
        other => Err(ApiError::internal(format!("{other:?} to a publication"))),
    }
}

fn boxed(text: &str) -> Box<str> {
    Box::from(text)
}

/// The payload in the one form that its namespace's type has: for JSON the value itself, for text
/// a JSON string's content, for binary what its base64 means.
fn publish_payload(data_type: DataType, request: &PublishRequest) -> Result<Box<[u8]>, ApiError> {
    let bytes: Cow<'_, [u8]> = if request.b64data.is_empty() {
        let data = request.data.as_ref().ok_or_else(|| ApiError::bad_request("data is missing"))?;
        read_data(data_type, data.get().as_bytes()).map_err(|_| {
            let name = type_text(data_type);
            ApiError::bad_request(format!("for {name} data must be a JSON string"))
        })?
    } else {
        let decoded = BASE64.decode(&request.b64data);
        Cow::Owned(decoded.map_err(|error| ApiError::bad_request(format!("b64data: {error}")))?)
    };
    let wrong = |_| ApiError::bad_request(format!("the payload is not {}", type_text(data_type)));
    check_payload(data_type, &bytes).map_err(wrong)
}

fn type_text(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Json => "JSON, or nested too deeply",
        DataType::Text => "UTF-8 text",
        DataType::Binary => "binary",
    }
}
