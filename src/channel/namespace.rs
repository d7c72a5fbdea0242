//! Namespaces: the options of channels. The text before the first `:` of a name selects one.

use std::sync::Arc;
use std::time::Duration;

use regex_lite::Regex;
use serde::de::{Deserializer, Error as _};

use super::payload::DataType;
use super::publication::HistoryUse;
use crate::limits::RECOVERY_BYTES_MAX;
use crate::reason::ClientError;
use crate::units;

/// The policy for a subscriber whose outbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SlowPolicy {
    /// The connection is closed with 3008, and the client returns and recovers.
    #[default]
    Disconnect,
    /// The subscriber misses publications until it has read its outbox.
    Skip,
}

/// The options of a namespace, with the names of the settings. Names and meanings are those of
/// Centrifugo.
///
/// This is the only list of them in the program; `config/default.toml` has their defaults.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each field is a setting")]
pub struct Namespace {
    /// The text before the first `:`; empty for channels without one.
    #[serde(default)]
    pub name: String,
    /// Type of payloads.
    pub data: DataType,
    /// Number of publications that a history keeps; 0 keeps none.
    pub history_size: usize,
    /// Lifetime of a publication in a history.
    #[serde(deserialize_with = "units::duration")]
    pub history_ttl: Duration,
    /// Redis keeps a separate history of each channel, in addition to the bus.
    pub durable_history: bool,
    /// Subscriptions recover even if the client does not ask for it.
    pub force_recovery: bool,
    /// Subscriptions are positioned even if the client does not ask for it.
    pub force_positioning: bool,
    /// A client may ask for recovery.
    pub allow_recovery: bool,
    /// A client may ask for positioning.
    pub allow_positioning: bool,
    /// Clients with a user may subscribe without a token.
    pub allow_subscribe_for_client: bool,
    /// Clients without a user may subscribe as well.
    pub allow_subscribe_for_anonymous: bool,
    /// Subscribers may publish.
    pub allow_publish_for_subscriber: bool,
    /// Clients may publish without being subscribed.
    pub allow_publish_for_client: bool,
    /// Clients without a user may publish if one of the two options above allows it.
    pub allow_publish_for_anonymous: bool,
    /// Subscribers may read the history.
    pub allow_history_for_subscriber: bool,
    /// Clients may read the history without being subscribed.
    pub allow_history_for_client: bool,
    /// Clients without a user may read the history if one of the two options above allows it.
    pub allow_history_for_anonymous: bool,
    /// Policy for slow subscribers.
    pub slow_policy: SlowPolicy,
    /// Events that are sent to the application.
    pub events: AppEventFilter,
    /// Expression that the whole text after `name:` must match. `None` allows printable ASCII.
    #[serde(deserialize_with = "channel_regex")]
    pub channel_regex: Option<ChannelRegex>,
}

/// The events of a namespace's channels that are sent to the application. Settings have a list of
/// names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "Vec<ChannelEvent>")]
pub struct AppEventFilter {
    /// The beginning of subscriptions.
    pub subscribe: bool,
    /// The end of subscriptions.
    pub unsubscribe: bool,
    /// Publications of clients.
    pub publish: bool,
}

/// The name of an event in the settings of a namespace.
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
    /// Whether any event is enabled.
    pub fn is_on(self) -> bool {
        self.subscribe || self.unsubscribe || self.publish
    }
}

/// A regular expression for channel names. It matches whole names only: `[0-9]+` must not allow a
/// name that only contains a digit. Matching is linear in the length of the name.
#[derive(Clone, Debug)]
pub struct ChannelRegex(Regex);

impl ChannelRegex {
    /// Parses the expression `text`.
    ///
    /// # Errors
    /// `text` is not a regular expression. The error has the position.
    pub fn new(text: &str) -> Result<ChannelRegex, regex_lite::Error> {
        // First alone, so that an error has the position in the text of the setting.
        Regex::new(text)?;
        Regex::new(&format!(r"\A(?:{text})\z")).map(ChannelRegex)
    }

    fn matches(&self, channel: &str) -> bool {
        self.0.is_match(channel)
    }
}

/// Deserializes a regular expression, or "" for none.
fn channel_regex<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ChannelRegex>, D::Error> {
    let text = units::text(from, "a regular expression such as \"[a-z]+[0-9]*\"")?;
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
    /// Whether the namespace keeps a history. If so, clients see positions.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }

    /// Checks that a publication with `bytes` in a recovery (see [`super::recovery_bytes`]) can be
    /// recovered, if the history keeps it.
    ///
    /// # Errors
    /// `PublicationTooLong` for more than [`RECOVERY_BYTES_MAX`].
    pub fn check_recoverable(&self, bytes: usize, history: HistoryUse) -> Result<(), ClientError> {
        let kept = self.has_history() && history == HistoryUse::Keep;
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
    unknown: Unknown,
}

/// What a name means whose namespace is not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    /// It is refused.
    Refused,
    /// It has the options of channels without a namespace.
    Plain,
}

impl Namespaces {
    /// Creates the list of namespaces. The first one is for channels without a namespace.
    pub fn new(all: Vec<Namespace>, channel_bytes_max: usize) -> Namespaces {
        assert!(!all.is_empty(), "channels without a namespace need options too");
        let all = all.into_iter().map(Arc::new).collect();
        Namespaces { all, channel_bytes_max, unknown: Unknown::Refused }
    }

    /// Gives every namespace the options of channels without one, if none is configured. A
    /// configuration with namespaces is tried as it is.
    pub fn accept_any(&mut self) {
        if self.all.len() == 1 {
            self.unknown = Unknown::Plain;
        }
    }

    /// Returns the options of channels without a namespace.
    pub fn plain(&self) -> &Namespace {
        &self.all[0]
    }

    /// Iterates over the options of channels without a namespace, then those of each namespace.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Namespace> {
        self.all.iter().map(Arc::as_ref)
    }

    /// Returns the options of `channel`.
    ///
    /// # Errors
    /// `BadRequest` for a name that is empty, too long, has control characters, or is not allowed
    /// by the namespace; `UnknownChannel` for a namespace that is not configured.
    pub fn resolve(&self, channel: &str) -> Result<&Arc<Namespace>, ClientError> {
        // Like Centrifugo, check the namespace before the name.
        // The `$` of private channels is not a part of the namespace.
        let bare = channel.strip_prefix('$').unwrap_or(channel);
        let (namespace, rest) = bare.split_once(':').unwrap_or(("", bare));
        let namespace = match namespace {
            // An empty name before the `:` is no namespace either.
            "" => &self.all[0],
            name => self.all[1..]
                .iter()
                .find(|namespace| namespace.name == name)
                .or_else(|| (self.unknown == Unknown::Plain).then(|| &self.all[0]))
                .ok_or(ClientError::UnknownChannel)?,
        };
        let fits = !channel.is_empty() && channel.len() <= self.channel_bytes_max;
        let allowed = || match &namespace.channel_regex {
            // Control characters could forge lines of logs and terminals.
            Some(regex) => regex.matches(rest) && !channel.chars().any(char::is_control),
            None => channel.bytes().all(|byte| matches!(byte, b' '..=b'~')),
        };
        if fits && allowed() { Ok(namespace) } else { Err(ClientError::BadRequest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// Names that are allowed, and names with the expected error.
    fn check(namespaces: &Namespaces, good: &[(&str, &str)], bad: &[(&str, ClientError)]) {
        for (channel, namespace) in good {
            let found = namespaces.resolve(channel).map(|found| found.name.as_str());
            assert_eq!(found, Ok(*namespace), "{channel:?}");
        }
        for (channel, error) in bad {
            let found = namespaces.resolve(channel).map(|found| found.name.as_str());
            assert_eq!(found, Err(*error), "{channel:?}");
        }
    }

    fn namespaces(regex: &str) -> Namespaces {
        let plain = Settings::default().channel.namespaces.plain().clone();
        let channel_regex = Some(ChannelRegex::new(regex).expect("a regular expression"));
        let named = Namespace { name: "n".to_owned(), channel_regex, ..plain.clone() };
        Namespaces::new(vec![plain, named], 20)
    }

    #[test]
    fn the_text_before_the_first_colon_selects_the_namespace() {
        let good = [("a", ""), (":room", ""), ("$:room", ""), ("#a!~ ", ""), ("n:7", "n")];
        let (unknown, wrong) = (ClientError::UnknownChannel, ClientError::BadRequest);
        let bad = [
            ("x:1", unknown),
            ("", wrong),
            ("aaaaaaaaaaaaaaaaaaaaa", wrong),
            ("a\n", wrong),
            ("é", wrong),
        ];
        check(&namespaces("[0-9]"), &good, &bad);
    }

    #[test]
    fn an_expression_must_match_the_whole_name_and_never_allows_control_characters() {
        let wrong = ClientError::BadRequest;
        let bad = [("n:a1", wrong), ("n:1\n", wrong), ("n:", wrong), ("n:1a", wrong)];
        check(&namespaces("[0-9]+"), &[("n:12", "n"), ("$n:1", "n")], &bad);
        let bad = [("n:a1", wrong), ("n:1\n", wrong)];
        check(&namespaces("^[0-9]+$|^x"), &[("n:12", "n"), ("n:x", "n")], &bad);
        let bad = [("n:a\tb", wrong), ("n:\u{7f}", wrong), ("n:\u{9b}", wrong)];
        check(&namespaces("(?s).*"), &[("n:", "n"), ("n:é ", "n")], &bad);
        assert!(ChannelRegex::new("(").is_err() && ChannelRegex::new("a)|(?:b").is_err());
    }
}
