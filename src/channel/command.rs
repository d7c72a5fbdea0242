//! A publication that the application requests, through the HTTP API or a stream in Redis.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::namespace::Namespace;
use super::payload::{DataType, check_payload, payload_of_json};
use super::publication::{HistoryUse, Publication, Tags, recovery_bytes};
use crate::ids::Moment;
use crate::limits::{API_BATCH_MAX, IDEMPOTENCY_KEY_BYTES_MAX};
use crate::reason::ClientError;

/// A requested publication, for one channel or several.
#[derive(Clone, Debug)]
pub struct PublishCommand {
    /// The payload.
    pub payload: Payload,
    /// The labels.
    pub tags: Box<Tags>,
    /// Whether the history keeps the publication.
    pub history: HistoryUse,
    /// The idempotency key: a repeat with the same key is not published again.
    pub idempotency_key: Option<Box<str>>,
}

/// The payload of a [`PublishCommand`].
#[derive(Clone, Debug)]
pub enum Payload {
    /// A JSON value. Its meaning depends on the type of the namespace: see [`payload_of_json`].
    Json(Box<RawValue>),
    /// The payload itself.
    Bytes(Box<[u8]>),
}

/// The error of an invalid request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", error.details().text)]
pub struct Unfit {
    /// Code and text.
    pub error: ClientError,
    /// A detail for the reader of the message.
    pub detail: String,
}

impl Unfit {
    /// A value is missing, malformed or too long.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Unfit {
        Unfit { error: ClientError::BadRequest, detail: detail.into() }
    }
}

impl PublishCommand {
    /// Checks the number of channels of a command.
    ///
    /// # Errors
    /// 107 if there are no channels or too many.
    pub fn check_count(channels: usize) -> Result<(), Unfit> {
        if channels == 0 || channels > API_BATCH_MAX {
            let detail = format!("broadcast has {channels} channels; use 1 to {API_BATCH_MAX}");
            return Err(Unfit::bad_request(detail));
        }
        Ok(())
    }

    /// Checks the parts that do not depend on a channel.
    ///
    /// # Errors
    /// 107 for a key that is too long.
    pub fn check(&self) -> Result<(), Unfit> {
        let bytes = self.idempotency_key.as_ref().map_or(0, |key| key.len());
        if bytes > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(Unfit::bad_request(format!(
                "idempotency_key is {bytes} bytes; the maximum is {IDEMPOTENCY_KEY_BYTES_MAX}"
            )));
        }
        Ok(())
    }

    /// Returns the payload in the form of the namespace's type: the JSON value itself, the content
    /// of a JSON string for text, or the decoded base64 for binary data.
    ///
    /// # Errors
    /// 107 if the payload does not have this type.
    pub fn payload(&self, data_type: DataType) -> Result<Box<[u8]>, Unfit> {
        let bytes: Cow<'_, [u8]> = match &self.payload {
            Payload::Bytes(bytes) => Cow::Borrowed(bytes),
            Payload::Json(json) => {
                payload_of_json(data_type, json.get().as_bytes()).map_err(|_| {
                    let name = type_text(data_type);
                    Unfit::bad_request(format!(
                        "data must be a JSON string in a channel for {name}"
                    ))
                })?
            }
        };
        let wrong = |_| Unfit::bad_request(format!("the payload is not {}", type_text(data_type)));
        check_payload(data_type, &bytes).map_err(wrong)
    }

    /// Returns the publication for channels of `namespace`, accepted at `now`.
    ///
    /// # Errors
    /// 107 if the payload does not have the type of the namespace; 106 as for
    /// [`PublishCommand::check_recoverable`].
    pub fn publication(&self, namespace: &Namespace, now: Moment) -> Result<Publication, Unfit> {
        let data = self.payload(namespace.data)?;
        let bytes = recovery_bytes(namespace.data, &data, &self.tags);
        self.check_recoverable(namespace, bytes)?;
        let tags = self.tags.clone();
        Ok(Publication { data, offset: 0, publisher: None, tags, accepted: now })
    }

    /// Checks that a publication with `bytes` in a recovery can be recovered, if a history keeps
    /// it.
    ///
    /// # Errors
    /// 106 if the publication is too long.
    pub fn check_recoverable(&self, namespace: &Namespace, bytes: usize) -> Result<(), Unfit> {
        namespace.check_recoverable(bytes, self.history).map_err(|error| {
            let detail =
                format!("this one has {bytes} bytes; shorten it, or publish it with skip_history");
            Unfit { error, detail }
        })
    }
}

fn type_text(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Json => "JSON, or nested too deeply",
        DataType::Text => "UTF-8 text",
        DataType::Binary => "binary",
    }
}
