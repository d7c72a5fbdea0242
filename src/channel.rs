//! Channel names, the namespaces that set their options, and publications.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use regex_lite::Regex;

use crate::ids::{ClientId, Epoch, Moment};
use crate::limits::{CHANNEL_BYTES_MAX, JSON_DEPTH_MAX, RECOVERY_BYTES_MAX};
use crate::reason::ClientError;

/// A channel's name, shared by everything that mentions it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// Longest name, in bytes, that any setting allows.
    pub const BYTES_MAX: usize = CHANNEL_BYTES_MAX;

    /// The name `text`. Whether a client may use it is [`Namespaces::resolve`]'s question.
    pub fn new(text: &str) -> ChannelName {
        ChannelName(Arc::from(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What a namespace's payloads are. Checked once, where a publication enters.
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

/// What happens to a subscriber whose outbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SlowPolicy {
    /// It is closed with 3008, comes back and recovers.
    #[default]
    Disconnect,
    /// It misses publications until it has read what it has.
    Skip,
}

/// The options of a namespace. Names and meanings are Centrifugo's.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the configuration")]
pub struct Namespace {
    /// The text before the first `:`; empty for channels without one.
    pub name: String,
    /// What payloads are.
    pub data: DataType,
    /// Publications kept; 0 keeps none.
    pub history_size: usize,
    /// How long a publication is kept.
    pub history_ttl: Duration,
    /// Redis keeps the history of each channel for itself, beside the bus.
    pub durable_history: bool,
    /// Subscriptions recover unasked.
    pub force_recovery: bool,
    /// Subscriptions are positioned unasked.
    pub force_positioning: bool,
    /// A client may ask for recovery.
    pub allow_recovery: bool,
    /// A client may ask for positioning.
    pub allow_positioning: bool,
    /// Clients with a user may subscribe without a token.
    pub allow_subscribe_for_client: bool,
    /// Clients without a user may, too.
    pub allow_subscribe_for_anonymous: bool,
    /// Subscribers may publish.
    pub allow_publish_for_subscriber: bool,
    /// Clients may publish without being subscribed.
    pub allow_publish_for_client: bool,
    /// Clients without a user may publish where the two above allow it.
    pub allow_publish_for_anonymous: bool,
    /// Subscribers may read the history.
    pub allow_history_for_subscriber: bool,
    /// Clients may read the history without being subscribed.
    pub allow_history_for_client: bool,
    /// Clients without a user may read it where the two above allow it.
    pub allow_history_for_anonymous: bool,
    /// What happens to a slow subscriber.
    pub slow_policy: SlowPolicy,
    /// What the application is told of.
    pub events: ChannelEvents,
    /// What the text after `name:` must match; absent: names are printable ASCII.
    pub channel_regex: Option<ChannelRegex>,
}

/// Which events of a namespace's channels the application is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelEvents {
    /// Subscriptions that begin.
    pub subscribe: bool,
    /// Subscriptions that end.
    pub unsubscribe: bool,
    /// Publications of clients.
    pub publish: bool,
}

impl ChannelEvents {
    /// Whether there are any.
    pub fn is_on(self) -> bool {
        self.subscribe || self.unsubscribe || self.publish
    }
}

/// An expression that channel names must match. Matching is linear in the name's length.
#[derive(Clone, Debug)]
pub struct ChannelRegex(Regex);

impl ChannelRegex {
    /// The expression `text`.
    ///
    /// # Errors
    /// `text` is not a regular expression; the error says where.
    pub fn new(text: &str) -> Result<ChannelRegex, regex_lite::Error> {
        Regex::new(text).map(ChannelRegex)
    }

    fn matches(&self, channel: &str) -> bool {
        self.0.is_match(channel)
    }
}

impl PartialEq for ChannelRegex {
    fn eq(&self, other: &ChannelRegex) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Namespace {
    /// Whether the namespace keeps a history, and so shows positions to clients.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }

    /// Checks that a publication which takes `bytes` of a recovery (see [`recovery_bytes`]) can be
    /// recovered, if it is to be kept.
    ///
    /// # Errors
    /// `PublicationTooLong` if it takes more than [`RECOVERY_BYTES_MAX`].
    pub fn check_recoverable(&self, bytes: usize, skip_history: bool) -> Result<(), ClientError> {
        let kept = self.has_history() && !skip_history;
        if kept && bytes > RECOVERY_BYTES_MAX {
            return Err(ClientError::PublicationTooLong);
        }
        Ok(())
    }
}

/// All namespaces of a node.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// Options of channels without a namespace, then those of each namespace.
    all: Vec<Arc<Namespace>>,
    channel_bytes_max: usize,
}

impl Namespaces {
    /// The namespaces in `all`, of which the first is for channels without one.
    pub fn new(all: Vec<Namespace>, channel_bytes_max: usize) -> Namespaces {
        assert!(!all.is_empty(), "channels without a namespace need options too");
        Namespaces { all: all.into_iter().map(Arc::new).collect(), channel_bytes_max }
    }

    /// The options of `channel`.
    ///
    /// # Errors
    /// `BadRequest` for a name that is empty, too long or not printable ASCII, `UnknownChannel`
    /// for a namespace that is not configured. Both are the asker's fault.
    pub fn resolve(&self, channel: &str) -> Result<&Arc<Namespace>, ClientError> {
        // Centrifugo looks for the namespace before it looks at the name.
        let bare = channel.strip_prefix('$').unwrap_or(channel);
        let (namespace, rest) = bare.split_once(':').unwrap_or(("", bare));
        let namespace = match namespace {
            "" if rest.len() == bare.len() => &self.all[0],
            name => self.all[1..]
                .iter()
                .find(|namespace| namespace.name == name)
                .ok_or(ClientError::UnknownChannel)?,
        };
        let fits = !channel.is_empty() && channel.len() <= self.channel_bytes_max;
        let allowed = || match &namespace.channel_regex {
            Some(regex) => regex.matches(rest),
            None => channel.bytes().all(|byte| matches!(byte, b' '..=b'~')),
        };
        if fits && allowed() { Ok(namespace) } else { Err(ClientError::BadRequest) }
    }
}

impl DataType {
    /// Bytes that JSON needs for `data`: text is escaped, and bytes become base64.
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

/// Who published, where a client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// The client's user; empty for anonymous.
    pub user: Box<str>,
    /// The client's connection.
    pub client: ClientId,
}

/// One message in a channel, shared by everyone that delivers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The payload, of its namespace's type.
    pub data: Box<[u8]>,
    /// Its place in the channel; 0 until the home shard has ordered it.
    pub offset: u64,
    /// Who published, where a client did.
    pub publisher: Option<Box<Publisher>>,
    /// Labels that the application gave.
    pub tags: Box<[(Box<str>, Box<str>)]>,
    /// When it was accepted at its entrance.
    pub accepted: Moment,
}

/// Labels of a publication.
pub type Tags = [(Box<str>, Box<str>)];

impl Publication {
    /// Bytes that keeping this publication costs, more or less.
    pub fn cost_bytes(&self) -> usize {
        self.data.len() + overhead_bytes(&self.tags)
    }

    /// Bytes that this publication takes of a recovery, as JSON and more or less.
    pub fn recovery_bytes(&self, data_type: DataType) -> usize {
        recovery_bytes(data_type, &self.data, &self.tags)
    }
}

/// Bytes that a publication with this payload and these labels takes of a recovery.
pub fn recovery_bytes(data_type: DataType, data: &[u8], tags: &Tags) -> usize {
    data_type.json_bytes(data) + overhead_bytes(tags)
}

fn overhead_bytes(tags: &Tags) -> usize {
    let tags: usize = tags.iter().map(|(key, value)| key.len() + value.len() + 32).sum();
    tags + size_of::<Publication>() + crate::limits::ENTRY_OVERHEAD_BYTES
}

/// What a codec must know of a channel to write its publications.
#[derive(Clone, Copy, Debug)]
pub struct ChannelView<'a> {
    /// The channel's name.
    pub name: &'a str,
    /// What its payloads are.
    pub data: DataType,
    /// Whether its publications carry offsets for clients.
    pub has_history: bool,
    /// The life its offsets belong to.
    pub epoch: Epoch,
}

/// Checks a payload where it enters, and brings it into the one form that codecs rely on: JSON
/// without raw line feeds, which separate messages of Centrifugo's protocol.
///
/// # Errors
/// `BadRequest` if `data` is not what the namespace says, or nested deeper than
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
    // Syntax first: the two scans below rely on it. `RawValue` is skipped without recursion.
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

/// Deepest nesting of arrays and objects in `json`, which must be valid.
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
