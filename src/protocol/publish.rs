//! What an application asks to publish: the parameters of `publish` and `broadcast`, which are the
//! same whether they come by HTTP or through a stream of Redis, and how they are checked.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

use super::read_data;
use crate::channel::{DataType, Namespace, check_payload};
use crate::limits::{API_BATCH_MAX, IDEMPOTENCY_KEY_BYTES_MAX};
use crate::reason::ClientError;

/// Parameters of `publish` and `broadcast`. Names and meanings are Centrifugo's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PublishRequest {
    /// Where to: `publish` only.
    #[serde(deserialize_with = "or_default")]
    pub channel: String,
    /// Where to: `broadcast` only.
    #[serde(deserialize_with = "or_default")]
    pub channels: Vec<String>,
    /// The payload as a JSON value.
    #[serde(deserialize_with = "payload")]
    pub data: Option<Box<RawValue>>,
    /// Instead of `data`; wins if both are there.
    #[serde(deserialize_with = "or_default")]
    pub b64data: String,
    /// Do not keep it.
    #[serde(deserialize_with = "or_default")]
    pub skip_history: bool,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub tags: BTreeMap<String, String>,
    /// A repeat of this key is not published again.
    #[serde(deserialize_with = "or_default")]
    pub idempotency_key: String,
    /// Not part of this version, and not to be ignored: who sends it relies on it.
    #[serde(deserialize_with = "or_default")]
    pub version: u64,
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

impl PublishRequest {
    /// Checks what does not depend on a channel.
    ///
    /// # Errors
    /// 107 for a key that is too long, 108 for what is not part of this version.
    pub fn check(&self) -> Result<(), Unfit> {
        if self.version != 0 {
            let detail = "version is not part of this version".to_owned();
            return Err(Unfit { error: ClientError::NotAvailable, detail });
        }
        let bytes = self.idempotency_key.len();
        if bytes > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(Unfit::bad_request(format!(
                "an idempotency_key of {bytes} bytes, where {IDEMPOTENCY_KEY_BYTES_MAX} are allowed"
            )));
        }
        Ok(())
    }

    /// Checks what only a broadcast must have.
    ///
    /// # Errors
    /// 107 if there is no payload, no channel, or too many.
    pub fn check_broadcast(&self) -> Result<(), Unfit> {
        if self.channels.is_empty() || self.channels.len() > API_BATCH_MAX {
            let count = self.channels.len();
            let detail = format!("{count} channels, where 1 to {API_BATCH_MAX} are expected");
            return Err(Unfit::bad_request(detail));
        }
        if self.b64data.is_empty() && self.data.is_none() {
            return Err(Unfit::bad_request("data is missing"));
        }
        Ok(())
    }

    /// The payload in the one form that its namespace's type has: for JSON the value itself, for
    /// text a JSON string's content, for binary what its base64 means.
    ///
    /// # Errors
    /// 107 if there is none, or another one.
    pub fn payload(&self, data_type: DataType) -> Result<Box<[u8]>, Unfit> {
        let bytes: Cow<'_, [u8]> = if self.b64data.is_empty() {
            let data = self.data.as_ref().ok_or_else(|| Unfit::bad_request("data is missing"))?;
            read_data(data_type, data.get().as_bytes()).map_err(|_| {
                let name = type_text(data_type);
                Unfit::bad_request(format!("for {name} data must be a JSON string"))
            })?
        } else {
            Cow::Owned(decode_base64(&self.b64data)?)
        };
        checked_payload(data_type, &bytes)
    }

    /// The labels as publications have them.
    pub fn tags(&self) -> Box<[(Box<str>, Box<str>)]> {
        let boxed = |text: &String| Box::from(text.as_str());
        self.tags.iter().map(|(key, value)| (boxed(key), boxed(value))).collect()
    }

    /// The key, if there is one.
    pub fn idempotency_key(&self) -> Option<Box<str>> {
        (!self.idempotency_key.is_empty()).then(|| Box::from(self.idempotency_key.as_str()))
    }
}

/// Checks that a publication which takes `bytes` of a recovery can be recovered, if it is to be
/// kept.
///
/// # Errors
/// 106 if it is too long for that.
pub(crate) fn check_recoverable(
    namespace: &Namespace,
    bytes: usize,
    skip_history: bool,
) -> Result<(), Unfit> {
    namespace.check_recoverable(bytes, skip_history).map_err(|error| {
        let detail = format!("this one has {bytes}: shorten it, or publish it with skip_history");
        Unfit { error, detail }
    })
}

/// A payload of bytes, checked against its namespace's type.
///
/// # Errors
/// 107 if it is not of this type.
pub(crate) fn checked_payload(data_type: DataType, bytes: &[u8]) -> Result<Box<[u8]>, Unfit> {
    let wrong = |_| Unfit::bad_request(format!("the payload is not {}", type_text(data_type)));
    check_payload(data_type, bytes).map_err(wrong)
}

/// What `b64data` means.
///
/// # Errors
/// 107 if it is no base64.
pub(crate) fn decode_base64(text: &str) -> Result<Vec<u8>, Unfit> {
    BASE64.decode(text).map_err(|error| Unfit::bad_request(format!("b64data: {error}")))
}

/// Reads a method's parameters.
///
/// # Errors
/// What is wrong, with the place.
pub(crate) fn read_params<T: DeserializeOwned>(params: &[u8]) -> Result<T, String> {
    let params = params.trim_ascii();
    if params.first().is_some_and(|&first| first != b'{') {
        // A list would be read as the fields in their order.
        return Err("a JSON object is expected".to_owned());
    }
    serde_json::from_slice(params).map_err(|error| error.to_string())
}

/// A field that may be null.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A payload that may be the JSON value null: absent and null differ.
fn payload<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

fn type_text(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Json => "JSON, or nested too deeply",
        DataType::Text => "UTF-8 text",
        DataType::Binary => "binary",
    }
}
