//! No duplicate appends: a publication has one place.
//!
//! There are two exceptions, both in another epoch. A repeat with an idempotency key may have a
//! second place, if Redis lost the first append together with the key. Publications in a durable
//! history keep their offsets in the next epoch.

use super::Violation;
use crate::history::{History, Sighting};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut places: Vec<Option<Sighting>> = vec![None; history.publications.len()];
    let mut found = Vec::new();
    for seen in history.sightings() {
        // Unknown publications are reported by another check.
        let Some(first) = places.get_mut(seen.pid as usize) else { continue };
        let Some(first) = first else {
            *first = Some(seen);
            continue;
        };
        let repeated = history.publications[seen.pid as usize].attempts > 1;
        let elsewhere = seen.place != first.place;
        // A durable history outlives an epoch, and continues its offsets.
        let carried = history.is_durable(seen.channel) && seen.place.offset == first.place.offset;
        let allowed = (repeated || carried) && seen.place.epoch != first.place.epoch;
        if elsewhere && !allowed {
            found.push(Violation::at(
                seen.at,
                format!(
                    "publication {} stands at {} by {}, and at {} by {}",
                    seen.pid,
                    history.show(first.channel, first.place),
                    first.by,
                    history.show(seen.channel, seen.place),
                    seen.by
                ),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;

    #[test]
    fn a_publication_in_two_places_is_noticed() {
        let mut history = sound();
        history.clients[0].events.push(live(1, place(0, 5), 3));
        assert!(only(check, &history).contains("old:4"));
    }

    #[test]
    fn a_durable_history_is_carried_into_the_next_epoch_at_its_offsets() {
        let mut history = renewed();
        history.channels = vec!["kept:0".to_owned()];
        history.finals[0].publications = vec![(2, 1)];
        assert_eq!(check(&history), []);
        history.finals[0].publications = vec![(3, 1)];
        assert!(only(check, &history).contains("publication 1 stands at kept:0 old:2"));
        history.channels = vec!["check:0".to_owned()];
        history.finals[0].publications = vec![(2, 1)];
        assert_eq!(check(&history).len(), 1, "no other history is");
    }

    #[test]
    fn a_repeat_may_stand_again_in_another_epoch_but_not_in_the_same() {
        let mut history = renewed();
        history.publications[3].attempts = 2;
        history.clients[0].events.push(live(2, place(1, 2), 3));
        assert_eq!(check(&history), []);
        history.publications[3].attempts = 1;
        assert!(only(check, &history).contains("publication 3"));
        history.publications[3].attempts = 2;
        history.clients[0].events.push(live(2, place(0, 5), 3));
        assert_eq!(check(&history).len(), 1);
    }
}
