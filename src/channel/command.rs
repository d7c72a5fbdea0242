//! The publication that an application asks for, by HTTP in one wording or another, or through a
//! stream of Redis.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::namespace::Namespace;
use super::payload::{DataType, check_payload, payload_of_json};
use super::publication::{Publication, Tags, recovery_bytes};
use crate::ids::Moment;
use crate::limits::{API_BATCH_MAX, IDEMPOTENCY_KEY_BYTES_MAX};
use crate::reason::ClientError;

/// A publication to be made, the same for one channel or several.
#[derive(Clone, Debug)]
pub struct PublishCommand {
    /// What to publish.
    pub payload: Payload,
    /// Labels.
    pub tags: Box<Tags>,
    /// Do not keep it.
    pub skip_history: bool,
    /// A repeat of this key is not published again.
    pub idempotency_key: Option<Box<str>>,
}

/// The payload of a [`PublishCommand`].
#[derive(Clone, Debug)]
pub enum Payload {
    /// A JSON value. What it means depends on the namespace's type: see [`payload_of_json`].
    Json(Box<RawValue>),
    /// The payload itself.
    Bytes(Box<[u8]>),
}

/// Why something can't be published: the asker's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", error.row().text)]
pub struct Unfit {
    /// Code and text.
    pub error: ClientError,
    /// What exactly, for the person who reads it.
    pub detail: String,
}

impl Unfit {
    /// A value is missing, malformed or too long.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Unfit {
        Unfit { error: ClientError::BadRequest, detail: detail.into() }
    }
}

impl PublishCommand {
    /// Checks the number of channels that a command is for.
    ///
    /// # Errors
    /// 107 if there is none, or too many.
    pub fn check_count(channels: usize) -> Result<(), Unfit> {
        if channels == 0 || channels > API_BATCH_MAX {
            let detail = format!("{channels} channels, where 1 to {API_BATCH_MAX} are expected");
            return Err(Unfit::bad_request(detail));
        }
        Ok(())
    }

    /// Checks what does not depend on a channel.
    ///
    /// # Errors
    /// 107 for a key that is too long.
    pub fn check(&self) -> Result<(), Unfit> {
        let bytes = self.idempotency_key.as_ref().map_or(0, |key| key.len());
        if bytes > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(Unfit::bad_request(format!(
                "an idempotency_key of {bytes} bytes, where {IDEMPOTENCY_KEY_BYTES_MAX} are allowed"
            )));
        }
        Ok(())
    }

    /// The payload in the one form that its namespace's type has: for JSON the value itself, for
    /// text a JSON string's content, for binary what its base64 means.
    ///
    /// # Errors
    /// 107 if it is not of this type.
    pub fn payload(&self, data_type: DataType) -> Result<Box<[u8]>, Unfit> {
        let bytes: Cow<'_, [u8]> = match &self.payload {
            Payload::Bytes(bytes) => Cow::Borrowed(bytes),
            Payload::Json(json) => {
                payload_of_json(data_type, json.get().as_bytes()).map_err(|_| {
                    let name = type_text(data_type);
                    Unfit::bad_request(format!("for {name} data must be a JSON string"))
                })?
            }
        };
        let wrong = |_| Unfit::bad_request(format!("the payload is not {}", type_text(data_type)));
        check_payload(data_type, &bytes).map_err(wrong)
    }

    /// The publication for channels of `namespace`, accepted at `now`.
    ///
    /// # Errors
    /// 107 if the payload is not of the namespace's type, 106 as
    /// [`PublishCommand::check_recoverable`].
    pub fn publication(&self, namespace: &Namespace, now: Moment) -> Result<Publication, Unfit> {
        let data = self.payload(namespace.data)?;
        let bytes = recovery_bytes(namespace.data, &data, &self.tags);
        self.check_recoverable(namespace, bytes)?;
        let tags = self.tags.clone();
        Ok(Publication { data, offset: 0, publisher: None, tags, accepted: now })
    }

    /// Checks that a publication which takes `bytes` of a recovery can be recovered, if it is to be
    /// kept.
    ///
    /// # Errors
    /// 106 if it is too long for that.
    pub fn check_recoverable(&self, namespace: &Namespace, bytes: usize) -> Result<(), Unfit> {
        namespace.check_recoverable(bytes, self.skip_history).map_err(|error| {
            let detail =
                format!("this one has {bytes}: shorten it, or publish it with skip_history");
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
