//! Profiles: files that describe how to speak to a kind of server. They contain its address, the
//! messages after the upgrade, the answer to pings, and the ways to publish. No other module has
//! details of a server.

use crate::error::Error;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// The profiles that come with the program, by name.
const SHIPPED: [(&str, &str); 10] = [
    ("bun", include_str!("../profiles/bun.toml")),
    ("centrifugo", include_str!("../profiles/centrifugo.toml")),
    ("corecast", include_str!("../profiles/corecast.toml")),
    ("fastapi", include_str!("../profiles/fastapi.toml")),
    ("gorilla", include_str!("../profiles/gorilla.toml")),
    ("limit", include_str!("../profiles/limit.toml")),
    ("nchan", include_str!("../profiles/nchan.toml")),
    ("plain", include_str!("../profiles/plain.toml")),
    ("socketio", include_str!("../profiles/socketio.toml")),
    ("tungstenite", include_str!("../profiles/tungstenite.toml")),
];

/// Maximum size of a profile file in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Maximum number of steps of an opening. A connection stores the number of its step in one byte.
const STEPS_MAX: usize = 16;

/// One kind of server. In all texts `{channel}` stands for the channel's name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// Description in one line.
    pub(crate) about: String,
    /// Default URL for clients.
    pub(crate) url: String,
    /// Additional headers of the upgrade request.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Messages after the upgrade. The client is subscribed once all steps are done.
    #[serde(default)]
    pub(crate) open: Vec<Step>,
    /// A message that contains this text while opening is a refusal of the connection or the
    /// subscription.
    pub(crate) refuse: Option<String>,
    pub(crate) ping: Option<Ping>,
    #[serde(default)]
    pub(crate) publish: Publish,
    pub(crate) recover: Option<Recover>,
}

/// Waits for a message that contains `wait`, then sends `send`; either may be absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) wait: Option<String>,
    pub(crate) send: Option<String>,
}

/// Pings that are messages. Pings of WebSocket itself are always answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ping {
    /// The whole message, or one line of it.
    pub(crate) message: String,
    pub(crate) answer: Option<String>,
}

/// Ways to publish. The first one that is present is the default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publish {
    pub(crate) http: Option<PublishHttp>,
    pub(crate) frame: Option<PublishFrame>,
    pub(crate) trigger: Option<PublishTrigger>,
}

/// One POST per publication. `{data}` stands for its payload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishHttp {
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// A body that contains this text is a refusal, whatever the status.
    pub(crate) refuse: Option<String>,
}

/// One message per publication, on a separate WebSocket of the publisher. `{data}` stands for its
/// payload and `{id}` for a number that counts up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishFrame {
    /// URL for the publisher, if it differs from that of subscribers.
    pub(crate) url: Option<String>,
    /// Messages after the upgrade, if they differ from those of subscribers.
    pub(crate) open: Option<Vec<Step>>,
    pub(crate) send: String,
    /// A message with this text confirms the publication. Without it, no confirmation is awaited.
    pub(crate) confirm: Option<String>,
}

/// One byte per publication, for a server of canned frames. Each of its frames counts as the next
/// publication.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishTrigger {
    pub(crate) address: SocketAddr,
}

/// How a returning subscriber requests missed publications.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recover {
    /// Replaces `send` of the first step; `{epoch}` and `{offset}` are filled in.
    pub(crate) send: String,
    /// The number after this text in a publication is its offset.
    pub(crate) offset: String,
    /// The text between this and the next quotation mark in a confirmation is the epoch.
    pub(crate) epoch: String,
}

impl Profile {
    /// Loads the profile in the file `name`, or the one of that name that comes with the program.
    pub(crate) fn load(name: &str) -> Result<Self, Error> {
        let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
        let text = match shipped {
            Some((_, text)) => (*text).to_owned(),
            None => read(name)?,
        };
        Self::parse(&text).map_err(|why| Error::Usage(format!("profile {name}: {why}")))
    }

    /// Returns the name of a profile in reports. A path is called after its file.
    pub(crate) fn short_name(name: &str) -> String {
        let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str());
        stem.filter(|stem| !stem.is_empty()).unwrap_or(name).to_owned()
    }

    /// Parses the text of a profile. Returns the reason if it is invalid.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let publisher = profile.publish.frame.as_ref().and_then(|frame| frame.open.as_ref());
        for steps in [Some(&profile.open), publisher].into_iter().flatten() {
            if steps.len() > STEPS_MAX {
                return Err(format!("{} steps to open; the maximum is {STEPS_MAX}", steps.len()));
            }
        }
        Ok(profile)
    }

    /// Returns the names of the profiles that come with the program.
    pub(crate) fn names() -> [&'static str; SHIPPED.len()] {
        SHIPPED.map(|(name, _)| name)
    }
}

fn read(name: &str) -> Result<String, Error> {
    let wrong = |why: String| {
        let names = Profile::names().join(", ");
        Error::Usage(format!("profile {name:?} is neither one of {names} nor a file: {why}"))
    };
    let bytes = fs::metadata(name).map_err(|error| wrong(error.to_string()))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(wrong(format!("it has {bytes} bytes; the maximum is {FILE_BYTES_MAX}")));
    }
    fs::read_to_string(name).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_called_after_its_file() {
        for (name, short) in [
            ("corecast", "corecast"),
            ("./profiles/my.server.toml", "my.server"),
            ("/p/a.toml", "a"),
        ] {
            assert_eq!(Profile::short_name(name), short);
        }
    }

    #[test]
    fn every_profile_that_is_shipped_can_be_read_and_says_how_to_publish() {
        for (name, _) in SHIPPED {
            let profile = Profile::load(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            let Publish { http, frame, trigger } = profile.publish;
            assert!(http.is_some() || frame.is_some() || trigger.is_some(), "{name}");
            assert!(!profile.about.is_empty(), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let text = Profile::load("nobody").unwrap_err().to_string();
        assert!(text.contains("corecast, fastapi"), "{text}");
    }

    #[test]
    fn an_unknown_key_and_too_many_steps_are_refused() {
        let text = Profile::parse("about = 'x'\nurl = 'ws://a'\nsubscribe = 1\n").unwrap_err();
        assert!(text.contains("subscribe"), "{text}");
        let steps = "[[open]]\nsend = 'x'\n".repeat(STEPS_MAX + 1);
        let text = Profile::parse(&format!("about = 'x'\nurl = 'ws://a'\n{steps}")).unwrap_err();
        assert!(text.contains("17 steps"), "{text}");
    }
}
