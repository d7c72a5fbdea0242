//! No aborted reads: nobody may receive a publication that was certainly refused.

use super::{Violation, wrongly_seen};
use crate::history::{History, Outcome};

pub(super) fn check(history: &History) -> Vec<Violation> {
    wrongly_seen(history, |_, publication| {
        (publication?.outcome == Outcome::Fail).then(|| "which was refused".to_owned())
    })
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
        assert!(
            only(check, &history).contains("publication 4 at check:0 old:5, which was refused")
        );
    }

    #[test]
    fn an_unknown_publication_may_be_seen() {
        let mut history = sound();
        history.publications[3].outcome = Outcome::Info;
        assert_eq!(check(&history), []);
    }
}
