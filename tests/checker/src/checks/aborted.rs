//! No aborted read: a publication that was certainly refused is never seen.

use super::Violation;
use crate::history::{History, Outcome};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for seen in history.seen() {
        let Some(publication) = history.publications.get(seen.pid as usize) else { continue };
        if publication.outcome == Outcome::Fail {
            let place = history.show(seen.channel, seen.place);
            let text = format!("{} has publication {}, refused, at {place}", seen.by, seen.pid);
            found.push(Violation::at(seen.at, text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;

    #[test]
    fn a_refused_publication_that_is_seen_is_noticed() {
        let mut history = sound();
        history.publications.push(publication(4, Outcome::Fail));
        assert_eq!(check(&history), []);
        history.clients[0].events.push(live(1, place(0, 5), 4));
        assert!(only(check, &history).contains("publication 4, refused"));
    }

    #[test]
    fn an_unknown_publication_may_be_seen() {
        let mut history = sound();
        history.publications[3].outcome = Outcome::Info;
        assert_eq!(check(&history), []);
    }
}
