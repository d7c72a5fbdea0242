//! Namespaces: the options of channels, by the text before the first `:` of their names.

use std::sync::Arc;
use std::time::Duration;

use regex_lite::Regex;
use serde::de::{Deserializer, Error as _};

use super::payload::DataType;
use crate::limits::RECOVERY_BYTES_MAX;
use crate::reason::ClientError;
use crate::units;

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

/// The options of a namespace, as the settings name them. Names and meanings are Centrifugo's.
///
/// This is the only list of them in the program; `config/default.toml` has their defaults.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the configuration")]
pub struct Namespace {
    /// The text before the first `:`; empty for channels without one.
    #[serde(default)]
    pub name: String,
    /// What payloads are.
    pub data: DataType,
    /// Publications kept; 0 keeps none.
    pub history_size: usize,
    /// How long a publication is kept.
    #[serde(deserialize_with = "units::duration")]
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
    pub events: AppEventFilter,
    /// What the text after `name:` must match; absent: names are printable ASCII.
    #[serde(deserialize_with = "channel_regex")]
    pub channel_regex: Option<ChannelRegex>,
}

/// Which events of a namespace's channels the application is told of. Written as a list of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "Vec<ChannelEvent>")]
pub struct AppEventFilter {
    /// Subscriptions that begin.
    pub subscribe: bool,
    /// Subscriptions that end.
    pub unsubscribe: bool,
    /// Publications of clients.
    pub publish: bool,
}

/// An event that a namespace may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChannelEvent {
    Subscribe,
    Unsubscribe,
    Publish,
}

impl From<Vec<ChannelEvent>> for AppEventFilter {
    fn from(named: Vec<ChannelEvent>) -> AppEventFilter {
        AppEventFilter {
            subscribe: named.contains(&ChannelEvent::Subscribe),
            unsubscribe: named.contains(&ChannelEvent::Unsubscribe),
            publish: named.contains(&ChannelEvent::Publish),
        }
    }
}

impl AppEventFilter {
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

/// For serde: a regular expression, or "" for none.
fn channel_regex<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ChannelRegex>, D::Error> {
    let text = units::text(from, "a regular expression such as \"^news:[0-9]+$\"")?;
    if text.is_empty() {
        return Ok(None);
    }
    ChannelRegex::new(&text)
        .map(Some)
        .map_err(|error| D::Error::custom(format!("{text:?} is not a regular expression: {error}")))
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

    /// Checks that a publication which takes `bytes` of a recovery (see [`super::recovery_bytes`])
    /// can be recovered, if it is to be kept.
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

    /// Options of channels without a namespace.
    pub fn plain(&self) -> &Namespace {
        &self.all[0]
    }

    /// Options of channels without a namespace, then those of each namespace.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Namespace> {
        self.all.iter().map(Arc::as_ref)
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
