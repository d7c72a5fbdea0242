//! Real-time order: a publication that was acknowledged before another one of the channel began has
//! the earlier place. Once a new epoch has been observed, later publications must not enter an
//! older one.

use std::collections::HashMap;

use super::Violation;
use crate::history::{History, Micros, Outcome, Place, Publication, Takes};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = offsets(history);
    found.extend(epochs(history));
    found
}

/// Publications with a known place, by channel and epoch, in the order of their offsets.
fn streams(history: &History) -> HashMap<(u16, u16), Vec<(u32, &Publication)>> {
    let mut known: HashMap<u32, Place> = HashMap::new();
    for seen in history.sightings() {
        known.entry(seen.pid).or_insert(seen.place);
    }
    let mut streams: HashMap<(u16, u16), Vec<(u32, &Publication)>> = HashMap::new();
    for publication in &history.publications {
        if let Some(place) = known.get(&publication.pid) {
            let stream = streams.entry((publication.channel, place.epoch)).or_default();
            stream.push((place.offset, publication));
        }
    }
    streams.values_mut().for_each(|stream| stream.sort_by_key(|(offset, _)| *offset));
    streams
}

fn offsets(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for ((channel, epoch), stream) in streams(history) {
        // The earliest answer among publications with higher offsets.
        let mut above: Option<(u32, &Publication)> = None;
        for (offset, publication) in stream.into_iter().rev() {
            if let Some((other_offset, other)) = above
                && other.done < publication.invoked
            {
                let place = history.show(channel, Place { epoch, offset });
                let text = format!(
                    "publication {} began after {} was acknowledged, and stands at {place} \
                     before it at {other_offset}",
                    publication.pid, other.pid
                );
                found.push(Violation::at(publication.invoked, text));
            }
            let answered = matches!(publication.outcome, Outcome::Ok(_));
            if answered && above.is_none_or(|(_, other)| publication.done < other.done) {
                above = Some((offset, publication));
            }
        }
    }
    found
}

/// Observations of one epoch of a channel.
struct Known {
    epoch: u16,
    /// Time of its first observation.
    shown: Micros,
    /// Start of its earliest publication. An epoch is certainly newer than another one if all of
    /// its publications began after the other one had been observed.
    begun: Micros,
}

fn epochs(history: &History) -> Vec<Violation> {
    let channels = known_epochs(history);
    let mut found = Vec::new();
    for publication in &history.publications {
        let Outcome::Ok(Some(place)) = publication.outcome else { continue };
        let Some(epochs) = channels.get(&publication.channel) else { continue };
        if is_split(history, publication) {
            continue;
        }
        let Some(mine) = epochs.iter().find(|known| known.epoch == place.epoch) else { continue };
        let newer = |known: &&Known| known.begun > mine.shown && known.shown < publication.invoked;
        if let Some(newer) = epochs.iter().find(newer) {
            let place = history.show(publication.channel, place);
            let newer = history.epochs.get(usize::from(newer.epoch)).map_or("?", String::as_str);
            let text = format!(
                "publication {} was acknowledged at {place}, though epoch {newer} was there \
                 before it began",
                publication.pid
            );
            found.push(Violation::at(publication.done, text));
        }
    }
    found
}

/// Whether two epochs existed at the same time during the publication, on different primaries.
fn is_split(history: &History, publication: &Publication) -> bool {
    history.faults.iter().any(|fault| {
        fault.took(Takes::Split, publication.channel)
            && fault.begin <= publication.done
            && publication.invoked <= fault.end
    })
}

/// Returns the epochs of each channel.
fn known_epochs(history: &History) -> HashMap<u16, Vec<Known>> {
    let mut channels: HashMap<u16, Vec<Known>> = HashMap::new();
    for seen in history.sightings() {
        let Some(publication) = history.publications.get(seen.pid as usize) else { continue };
        let epochs = channels.entry(seen.channel).or_default();
        let (epoch, shown, begun) = (seen.place.epoch, seen.at, publication.invoked);
        match epochs.iter_mut().find(|known| known.epoch == epoch) {
            None => epochs.push(Known { epoch, shown, begun }),
            Some(known) => {
                known.shown = known.shown.min(shown);
                known.begun = known.begun.min(begun);
            }
        }
    }
    channels
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;

    #[test]
    fn a_later_publication_that_stands_earlier_is_noticed() {
        let mut history = sound();
        history.clients.clear();
        history.finals.clear();
        history.publications[1].outcome = Outcome::Ok(Some(place(0, 3)));
        history.publications[2].outcome = Outcome::Ok(Some(place(0, 2)));
        assert!(only(check, &history).contains("publication 2 began after 1"));
    }

    #[test]
    fn one_without_an_answer_counts_if_it_is_seen() {
        let mut history = sound();
        history.clients[0].events.clear();
        history.publications[2].outcome = Outcome::Info;
        for read in &mut history.finals {
            read.publications = vec![(1, 0), (2, 2), (3, 1), (4, 3)];
        }
        history.publications[1].outcome = Outcome::Ok(Some(place(0, 3)));
        assert!(only(check, &history).contains("publication 2 began after 1"));
    }

    #[test]
    fn an_answer_in_an_old_epoch_is_noticed() {
        let mut history = renewed();
        let publication = publication(6, Outcome::Ok(Some(place(0, 5))));
        history.publications.push(publication.clone());
        assert!(only(check, &history).contains("though epoch new was there"));
        let (begin, end) = (publication.invoked, publication.done);
        history.faults.push(fault("split-brain", (begin, begin), Takes::Split));
        assert_eq!(check(&history), []);
        history.faults.pop();
        history.faults.push(fault("split-brain", (end + 1, end + 1), Takes::Split));
        assert_eq!(check(&history).len(), 1, "not yet");
    }
}
