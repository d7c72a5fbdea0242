//! Agreement: a place of a channel holds one publication. All clients, all histories and all
//! answers to publishers must agree on it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Violation;
use crate::history::{History, Place, Sighting};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut holders: HashMap<(u16, Place), Sighting> = HashMap::new();
    let mut found = Vec::new();
    for seen in history.sightings() {
        match holders.entry((seen.channel, seen.place)) {
            Entry::Vacant(vacant) => {
                vacant.insert(seen);
            }
            Entry::Occupied(held) if held.get().pid != seen.pid => {
                let (other, place) = (held.get(), history.show(seen.channel, seen.place));
                found.push(Violation::at(
                    seen.at,
                    format!(
                        "{place} holds publication {} by {}, and {} by {}",
                        other.pid, other.by, seen.pid, seen.by
                    ),
                ));
            }
            Entry::Occupied(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;
    use crate::history::Outcome;

    #[test]
    fn two_publications_in_one_place_are_noticed() {
        let mut history = sound();
        history.finals[1].publications[2].1 = 3;
        assert!(only(check, &history).contains("node 1's history"));
    }

    #[test]
    fn an_answer_that_clients_contradict_is_noticed() {
        let mut history = sound();
        history.publications.push(publication(4, Outcome::Ok(Some(place(0, 2)))));
        let found = check(&history);
        assert_eq!(found.len(), 1, "the second answer for the place: {found:?}");
        assert!(found[0].text.contains("publisher 0's answer"));
    }
}
