//! Decides whether a client that behaved may be closed with a code.

use super::client::{Client, Speech};
use super::scene::Scene;

pub fn may_close(client: &Client, scene: &Scene<'_>, code: u16) -> bool {
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
        (3004, Speech::Centrifugo(centrifugo)) => centrifugo.resumes && centrifugo.client.is_none(),
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
