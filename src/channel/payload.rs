//! Payloads: their types, the check of new payloads, and their form in JSON.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::limits::JSON_DEPTH_MAX;
use crate::reason::ClientError;

/// The type of a namespace's payloads. A payload is checked once, when its publication is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// One JSON value.
    #[default]
    Json,
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

impl DataType {
    /// Returns the length of `data` as JSON: text is escaped, and bytes become base64.
    pub fn json_bytes(self, data: &[u8]) -> usize {
        const ESCAPE_BYTES: usize = 6; // \u001f, the longest.
        match self {
            DataType::Json => data.len(),
            DataType::Binary => data.len().div_ceil(3) * 4,
            DataType::Text => {
                let escaped = data.iter().filter(|byte| matches!(byte, ..b' ' | b'"' | b'\\'));
                data.len() + escaped.count() * (ESCAPE_BYTES - 1)
            }
        }
    }
}

/// Converts a JSON value to a payload: JSON stays as it is, text is a string, and bytes are a
/// string in base64 (RFC 4648 §4). The value is not checked here.
///
/// # Errors
/// `BadRequest` for a text or binary payload that is not a JSON string, or not base64.
pub fn payload_of_json(data_type: DataType, json: &[u8]) -> Result<Cow<'_, [u8]>, ClientError> {
    if data_type == DataType::Json {
        return Ok(Cow::Borrowed(json));
    }
    let text: String = serde_json::from_slice(json).map_err(|_| ClientError::BadRequest)?;
    match data_type {
        DataType::Binary => BASE64.decode(text).map(Cow::Owned),
        DataType::Json | DataType::Text => Ok(Cow::Owned(text.into_bytes())),
    }
    .map_err(|_| ClientError::BadRequest)
}

/// Checks a new payload, and converts it to the form that codecs rely on: JSON without raw line
/// feeds, because these separate messages of Centrifugo's protocol.
///
/// # Errors
/// `BadRequest` if `data` does not have the type of the namespace, or is nested deeper than
/// [`JSON_DEPTH_MAX`].
pub fn check_payload(data_type: DataType, data: &[u8]) -> Result<Box<[u8]>, ClientError> {
    match data_type {
        DataType::Binary => Ok(Box::from(data)),
        DataType::Text => {
            simdutf8::basic::from_utf8(data).map_err(|_| ClientError::BadRequest)?;
            Ok(Box::from(data))
        }
        DataType::Json => check_payload_json(data),
    }
}

fn check_payload_json(data: &[u8]) -> Result<Box<[u8]>, ClientError> {
    // Check the syntax first, because the two scans below rely on it. `RawValue` does not recurse.
    serde_json::from_slice::<&serde_json::value::RawValue>(data)
        .map_err(|_| ClientError::BadRequest)?;
    if json_depth(data) > JSON_DEPTH_MAX {
        return Err(ClientError::BadRequest);
    }
    let data = data.trim_ascii();
    if memchr::memchr2(b'\n', b'\r', data).is_none() {
        return Ok(Box::from(data));
    }
    // In valid JSON a raw line break is always white space between tokens.
    Ok(data.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect())
}

/// Returns the maximum nesting of arrays and objects in `json`, which must be valid.
fn json_depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_checked_against_their_type() {
        let json = |data: &str| check_payload(DataType::Json, data.as_bytes());
        assert_eq!(json(" {\"a\":\r\n 1}\n").as_deref(), Ok(&b"{\"a\": 1}"[..]));
        assert_eq!(json(r#"["[[", "\"]"]"#).as_deref(), Ok(&br#"["[[", "\"]"]"#[..]));
        for bad in ["", "{", "1 2", "nul", "{\"a\":}", "\"\u{1}\""] {
            assert_eq!(json(bad), Err(ClientError::BadRequest), "{bad:?}");
        }
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(json(&nested(JSON_DEPTH_MAX)).is_ok());
        assert_eq!(json(&nested(JSON_DEPTH_MAX + 1)), Err(ClientError::BadRequest));
        assert_eq!(json(&nested(100_000)), Err(ClientError::BadRequest));
        assert!(check_payload(DataType::Text, b"not json").is_ok());
        assert!(check_payload(DataType::Text, b"\xff").is_err());
        assert!(check_payload(DataType::Binary, b"\xff").is_ok());
    }
}
