//! `publish` and `broadcast`.

use std::sync::Arc;

use super::courier::Waiting;
use super::error::ApiError;
use super::methods::{Outcome, raw};
use super::request::{BroadcastResult, PublishResult};
use super::{Api, reply};
use crate::channel::{ChannelName, Publication};
use crate::limits::{ANSWER_TIMEOUT, API_WINDOW_MAX};
use crate::mesh::{Answer, Asker, Publish};
use crate::protocol::{PublishRequest, check_recoverable};

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
    request.check_broadcast()?;
    let mut responses = Vec::with_capacity(request.channels.len());
    for window in request.channels.chunks(API_WINDOW_MAX) {
        let send = |channel: &String| publish_send(api, channel, &request);
        let waiting: Vec<_> = window.iter().map(send).collect();
        for one in waiting {
            responses.push(broadcast_response(one).await?);
        }
    }
    if crate::sabotage!(SwappedAnswers) {
        responses.reverse();
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
    request.check()?;
    let publication = Publication {
        data: request.payload(namespace.data)?,
        offset: 0,
        publisher: None,
        tags: request.tags(),
        accepted: api.status.now(),
    };
    let bytes = publication.recovery_bytes(namespace.data);
    check_recoverable(namespace, bytes, request.skip_history)?;
    let make = |ticket| {
        api.courier.publish(Publish {
            channel: ChannelName::new(channel),
            publication,
            skip_history: request.skip_history,
            idempotency_key: request.idempotency_key(),
            asker: Asker::Control(ticket),
        })
    };
    api.courier.send(make)
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
