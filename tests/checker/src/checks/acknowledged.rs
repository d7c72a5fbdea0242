//! No lost acknowledgements: an acknowledged publication is in every final history that reaches
//! back to it, unless its epoch ended for a reason, or a fault deleted the publication.

use std::collections::{HashMap, HashSet};

use super::Violation;
use crate::history::{Final, History, Micros, Outcome, Place, Publication, Takes};

/// Time after an answer in which a fault that deletes from a stream may delete this publication
/// before every node has read it. It covers the pause of a stopped node.
const UNREAD_MAX: Micros = 20_000_000;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut finals: HashMap<u16, Vec<Kept<'_>>> = HashMap::new();
    for read in &history.finals {
        finals.entry(read.channel).or_default().push(Kept::new(read));
    }
    let received: HashSet<u32> = history.seen().map(|seen| seen.pid).collect();
    let mut found = Vec::new();
    for publication in &history.publications {
        let Outcome::Ok(place) = publication.outcome else { continue };
        let kept = finals.get(&publication.channel).map_or(&[][..], Vec::as_slice);
        let wrong = match place {
            None => Some("was acknowledged without a place".to_owned()),
            Some(place) => {
                lost(history, (publication, place), kept, received.contains(&publication.pid))
            }
        };
        if let Some(wrong) = wrong {
            let place = place.map_or(String::new(), |place| {
                format!(" at {}", history.show(publication.channel, place))
            });
            let text = format!("publication {}{place} {wrong}", publication.pid);
            found.push(Violation::at(publication.done, text));
        }
    }
    found
}

/// A final history with the set of its offsets.
struct Kept<'h> {
    read: &'h Final,
    offsets: HashSet<u32>,
}

impl Kept<'_> {
    fn new(read: &Final) -> Kept<'_> {
        Kept { read, offsets: read.publications.iter().map(|(offset, _)| *offset).collect() }
    }
}

/// Describes how the publication was lost, if it was.
fn lost(
    history: &History,
    (publication, place): (&Publication, Place),
    finals: &[Kept<'_>],
    received: bool,
) -> Option<String> {
    let took = |what| {
        let channel = publication.channel;
        history.faults.iter().filter(move |fault| fault.took(what, channel))
    };
    let top = finals.iter().map(|kept| kept.read.top).max()?;
    if top.epoch != place.epoch {
        let ended = took(Takes::Epoch).any(|fault| fault.end >= publication.invoked);
        return (!ended).then(|| "is in an epoch that ended without a reason".to_owned());
    }
    let mut below_all = true;
    for kept in finals.iter().filter(|kept| kept.read.top.epoch == place.epoch) {
        let node = kept.read.node;
        if place.offset > kept.read.top.offset {
            return Some(format!("is above the top of node {node}, {}", kept.read.top.offset));
        }
        if place.offset >= kept.read.first() {
            below_all = false;
            if !kept.offsets.contains(&place.offset) {
                return Some(format!("is missing in the history of node {node}"));
            }
        }
    }
    let taken = || {
        took(Takes::Entries).any(|fault| {
            fault.end >= publication.invoked && fault.begin <= publication.done + UNREAD_MAX
        })
    };
    (below_all && !received && !taken()).then(|| "was never seen by anybody".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;

    #[test]
    fn a_hole_in_a_final_history_is_noticed() {
        let mut history = sound();
        history.finals[1].publications.remove(2);
        assert!(only(check, &history).contains("missing in the history of node 1"));
    }

    #[test]
    fn a_lost_tail_is_noticed() {
        let mut history = sound();
        history.finals[0].top = place(0, 3);
        history.finals[0].publications.pop();
        assert!(only(check, &history).contains("above the top of node 0, 3"));
    }

    #[test]
    fn an_epoch_that_ended_without_a_reason_is_noticed() {
        let mut history = renewed();
        assert_eq!(check(&history), []);
        history.faults.clear();
        assert_eq!(check(&history).len(), 4, "all publications of the old epoch");
    }

    #[test]
    fn what_nobody_ever_saw_is_noticed_unless_it_was_taken_away() {
        let mut history = sound();
        history.clients.clear();
        history.finals.iter_mut().for_each(|read| read.publications = vec![(2, 1), (3, 2), (4, 3)]);
        assert!(only(check, &history).contains("never seen by anybody"));
        history.faults.push(fault("trim", (SECOND, 2 * SECOND), Takes::Entries));
        assert_eq!(check(&history), []);
    }

    #[test]
    fn an_answer_without_a_place_is_noticed() {
        let mut history = sound();
        history.publications[0].outcome = Outcome::Ok(None);
        assert!(only(check, &history).contains("without a place"));
    }
}
