//! The parameters of Centrifugo's methods `publish` and `broadcast`. They are the same over HTTP
//! and in an entry of a stream of Redis.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

use crate::channel::{HistoryUse, Payload, PublishCommand, Unfit};
use crate::reason::ClientError;

/// Parameters of `publish` and `broadcast`. Names and meanings are Centrifugo's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PublishParams {
    /// The channel, for `publish`.
    #[serde(deserialize_with = "or_default")]
    pub channel: String,
    /// The channels, for `broadcast`.
    #[serde(deserialize_with = "or_default")]
    pub channels: Vec<String>,
    /// The payload as a JSON value.
    #[serde(deserialize_with = "payload")]
    pub data: Option<Box<RawValue>>,
    /// The payload as base64. It takes precedence over `data`.
    #[serde(deserialize_with = "or_default")]
    pub b64data: String,
    /// Whether to leave the publication out of the history.
    #[serde(deserialize_with = "or_default")]
    pub skip_history: bool,
    /// The tags of the publication.
    #[serde(deserialize_with = "or_default")]
    pub tags: BTreeMap<String, String>,
    /// A publication with the key of an earlier one is not published again.
    #[serde(deserialize_with = "or_default")]
    pub idempotency_key: String,
    /// This version does not support it. It is refused and not ignored, because applications that
    /// set it rely on it.
    #[serde(deserialize_with = "or_default")]
    pub version: u64,
}

impl PublishParams {
    /// Returns the command, without the channels.
    ///
    /// # Errors
    /// 107 if there is no payload or its base64 is invalid, 108 for unsupported parameters.
    pub fn command(&self) -> Result<PublishCommand, Unfit> {
        if self.version != 0 {
            let detail = "the parameter version is not supported yet".to_owned();
            return Err(Unfit { error: ClientError::NotAvailable, detail });
        }
        let payload = match &self.data {
            _ if !self.b64data.is_empty() => Payload::Bytes(decode_base64(&self.b64data)?),
            Some(json) => Payload::Json(json.clone()),
            None => return Err(Unfit::bad_request("data is missing")),
        };
        Ok(PublishCommand {
            payload,
            tags: boxed_tags(&self.tags),
            history: if self.skip_history { HistoryUse::Skip } else { HistoryUse::Keep },
            idempotency_key: boxed_key(&self.idempotency_key),
        })
    }
}

/// Returns tags in the form that publications have.
pub(crate) fn boxed_tags(tags: &BTreeMap<String, String>) -> Box<[(Box<str>, Box<str>)]> {
    let boxed = |text: &String| Box::from(text.as_str());
    tags.iter().map(|(key, value)| (boxed(key), boxed(value))).collect()
}

/// Returns the idempotency key, if there is one.
pub(crate) fn boxed_key(key: &str) -> Option<Box<str>> {
    (!key.is_empty()).then(|| Box::from(key))
}

/// Returns the bytes of `b64data`.
///
/// # Errors
/// 107 if it is not valid base64.
pub(crate) fn decode_base64(text: &str) -> Result<Box<[u8]>, Unfit> {
    let wrong = |error| Unfit::bad_request(format!("b64data: {error}"));
    BASE64.decode(text).map(Vec::into_boxed_slice).map_err(wrong)
}

/// Reads a method's parameters.
///
/// # Errors
/// The error with its place in the JSON.
pub(crate) fn read_params<T: DeserializeOwned>(params: &[u8]) -> Result<T, String> {
    let params = params.trim_ascii();
    if params.first().is_some_and(|&first| first != b'{') {
        // Derived readers would accept a list as the fields in their order.
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
