//! No fabrication: every received publication was published before, in the same channel.

use super::{Violation, wrongly_seen};
use crate::history::History;

pub(super) fn check(history: &History) -> Vec<Violation> {
    wrongly_seen(history, |seen, publication| match publication {
        None => Some("which nobody published".to_owned()),
        Some(publication) if publication.channel != seen.channel => {
            Some(format!("which was published to {}", history.channel(publication.channel)))
        }
        Some(publication) if publication.invoked > seen.at => {
            Some("before it was published".to_owned())
        }
        Some(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;

    #[test]
    fn a_publication_from_nowhere_is_noticed() {
        let mut history = sound();
        history.clients[0].events.push(live(1, place(0, 5), 77));
        assert!(only(check, &history).contains("nobody published"));
    }

    #[test]
    fn a_publication_in_the_wrong_channel_is_noticed() {
        let mut history = sound();
        history.channels.push("check:1".to_owned());
        history.publications[3].channel = 1;
        let found = check(&history);
        assert_eq!(found.len(), 3, "the client and both nodes: {found:?}");
        assert!(found[0].text.contains("published to check:1"));
    }

    #[test]
    fn a_publication_from_the_future_is_noticed() {
        let mut history = sound();
        history.publications[3].invoked = 100 * SECOND;
        assert!(only(check, &history).contains("before it was published"));
    }
}
