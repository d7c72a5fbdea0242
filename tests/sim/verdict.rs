//! Decides whether a client that behaved may be closed with a code.

use super::centrifugo::Centrifugo;
use super::client::{Client, Speech};
use super::scene::Scene;

pub fn may_close(client: &Client, scene: &Scene<'_>, code: u16, text: &str) -> bool {
    let kicked = scene.truth.kicks.iter().any(|(kick, meant)| {
        let me = match &client.speech {
            Speech::Centrifugo(centrifugo) => centrifugo.client.as_deref(),
            Speech::Plain(_) => None,
        };
        *kick == code && (meant.is_none() || meant.as_deref() == me)
    });
    match (code, &client.speech) {
        // Memory for input is short, the outbox is full, or pings were not answered in time.
        (1013 | 3008 | 3012, _) => true,
        (3001, _) => scene.truth.draining,
        (3502, Speech::Centrifugo(centrifugo)) => centrifugo.client.is_none(),
        (3010, Speech::Plain(plain)) => !plain.envelope,
        // It would not subscribe again to a channel to which the application has subscribed it.
        (3010, Speech::Centrifugo(centrifugo)) => centrifugo.resumes,
        // The homes of its channels did not answer in time.
        (3004, Speech::Centrifugo(centrifugo)) => {
            is_resuming(centrifugo)
                && text.starts_with("subscribing took longer than 3s")
                && centrifugo.wanted.iter().any(|channel| names(scene, text, *channel))
        }
        (3013, Speech::Centrifugo(centrifugo)) => {
            is_resuming(centrifugo)
                && scene.setup.lacks_channels()
                && names_limit(text)
                && centrifugo.wanted.iter().any(|channel| names(scene, text, *channel))
        }
        // It publishes to a channel that may be new.
        (3013, Speech::Plain(plain)) => {
            plain.publish.is_some() && scene.setup.lacks_channels() && names_limit(text)
        }
        (3505, Speech::Centrifugo(centrifugo)) => {
            is_resuming(centrifugo)
                && centrifugo.wanted.len() > scene.setup.options.client().channels_max
                && text.contains("client.channels_max")
        }
        (3503, Speech::Plain(plain)) => {
            let ended = |channel: &usize| {
                let one = |ended: &Option<usize>| ended.is_none_or(|ended| ended == *channel);
                scene.truth.unsubscribed.iter().any(one)
            };
            kicked || plain.channels.iter().any(ended)
        }
        _ => kicked,
    }
}

/// Whether a client waits for the reply to a `connect` with subscriptions.
fn is_resuming(centrifugo: &Centrifugo) -> bool {
    centrifugo.resumes && centrifugo.client.is_none()
}

/// Whether the text of a close names a channel.
pub fn names(scene: &Scene<'_>, text: &str, channel: usize) -> bool {
    text.contains(&format!("channel {:?}", scene.setup.channels[channel].name))
}

/// Whether the text of a close names the setting that limits channels.
pub fn names_limit(text: &str) -> bool {
    let limits = [
        "client.channels_created_per_second_max",
        "channel.created_per_second_max",
        "channel.channels_max",
    ];
    text.starts_with("too many requests: ") && limits.iter().any(|limit| text.contains(limit))
}
