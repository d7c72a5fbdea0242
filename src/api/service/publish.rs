//! Publishes to one channel, or the same payload to several.

use super::shared::Service;
use crate::api::courier::PendingAnswer;
use crate::api::error::ApiError;
use crate::channel::{ChannelName, PublishCommand};
use crate::ids::Position;
use crate::limits::{ANSWER_TIMEOUT, API_WINDOW_MAX};
use crate::mesh::{Answer, Asker, Publish};

/// Publishes to one channel. Returns once the publication is in its history, with its position if
/// there is a history.
///
/// # Errors
/// 107 for a missing or invalid channel or payload, 102 for an unknown namespace, 106 for a
/// publication that is too long for recovery.
pub(in crate::api) async fn publish(
    service: &Service,
    channel: &str,
    command: &PublishCommand,
) -> Result<Option<Position>, ApiError> {
    answer(send(service, channel, command)?).await
}

/// Publishes the same payload to several channels, in order. Returns one result for each.
///
/// # Errors
/// 107 if there are no channels or too many. The error of a single channel is in its own result.
pub(in crate::api) async fn broadcast(
    service: &Service,
    channels: &[String],
    command: &PublishCommand,
) -> Result<Vec<Result<Option<Position>, ApiError>>, ApiError> {
    PublishCommand::check_count(channels.len())?;
    let mut results = Vec::with_capacity(channels.len());
    for window in channels.chunks(API_WINDOW_MAX) {
        let waiting: Vec<_> =
            window.iter().map(|channel| send(service, channel, command)).collect();
        for one in waiting {
            results.push(match one {
                Ok(waiting) => answer(waiting).await,
                Err(error) => Err(error),
            });
        }
    }
    if crate::sabotage!(SwappedAnswers) {
        results.reverse();
    }
    Ok(results)
}

/// Checks a publication, and sends it to the bus or home shard, which orders the channel.
fn send(
    service: &Service,
    channel: &str,
    command: &PublishCommand,
) -> Result<PendingAnswer, ApiError> {
    let namespace = service.resolve(channel)?;
    command.check()?;
    let publication = command.publication(namespace, service.parts.status.now())?;
    let courier = service.courier();
    courier.send(|ticket| {
        courier.publish(Publish {
            channel: ChannelName::new(channel),
            publication,
            history: command.history,
            idempotency_key: command.idempotency_key.clone(),
            asker: Asker::Control(ticket),
        })
    })
}

async fn answer(waiting: PendingAnswer) -> Result<Option<Position>, ApiError> {
    match waiting.answer(ANSWER_TIMEOUT).await? {
        Answer::Published(position) => Ok(position),
        other => Err(ApiError::internal(format!("unexpected answer to a publication: {other:?}"))),
    }
}
