//! Recovery: `recovered` means that the epoch is the same, and that the reply has all publications
//! after the position, without a hole. Without `recovered`, a reply has no publications.
//!
//! Publications missing at the end of a reply are found by `order` at the next live publication, or
//! by `liveness` if there is none.

use super::Violation;
use crate::history::{Event, History, Micros, Place};

/// A subscription whose reply is being read.
struct Reply {
    sub: u32,
    recovered: bool,
    last: Place,
}

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (client, record) in history.clients.iter().enumerate() {
        let mut reply: Option<Reply> = None;
        for event in &record.events {
            match *event {
                Event::Subscribed { sub, channel, since, recovered, place, at } => {
                    let wrong = promised(history, channel, (since, recovered, place));
                    found.extend(wrong.map(|text| violation(client, at, &text)));
                    reply = Some(Reply { sub, recovered, last: place });
                }
                Event::Received { sub, channel, place, in_reply: true, at, .. } => {
                    let Some(reply) = reply.as_mut().filter(|reply| reply.sub == sub) else {
                        continue;
                    };
                    let wrong = given(history, channel, (reply, place));
                    found.extend(wrong.map(|text| violation(client, at, &text)));
                    reply.last = place;
                }
                _ => {}
            }
        }
    }
    found
}

fn violation(client: usize, at: Micros, text: &str) -> Violation {
    Violation::at(at, format!("client {client} {text}"))
}

/// Returns an error in the reply itself.
fn promised(
    history: &History,
    channel: u16,
    (since, recovered, place): (Option<Place>, bool, Place),
) -> Option<String> {
    if !recovered || since == Some(place) {
        return None;
    }
    let got = history.show(channel, place);
    Some(match since {
        None => format!("recovered {got} without having asked"),
        Some(since) => {
            format!("asked from {} on and recovered from {got}", history.show(channel, since))
        }
    })
}

/// Returns an error in the reply's next publication.
fn given(history: &History, channel: u16, (reply, place): (&Reply, Place)) -> Option<String> {
    let got = history.show(channel, place);
    if !reply.recovered {
        return Some(format!("was given {got}, though it did not recover"));
    }
    let next = Place { offset: reply.last.offset + 1, ..reply.last };
    let last = history.show(channel, reply.last);
    (place != next).then(|| format!("recovered {got} after {last}"))
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;

    #[test]
    fn a_recovery_that_begins_too_late_is_noticed() {
        let mut history = sound();
        history.clients[0].events[5] = in_reply(1, place(0, 4), 3);
        history.clients[0].events.truncate(6);
        assert!(only(check, &history).contains("recovered check:0 old:4 after check:0 old:2"));
    }

    #[test]
    fn a_recovery_across_epochs_is_noticed() {
        let mut history = sound();
        history.clients[0].events[4] = subscribed(1, Some(place(1, 2)), true, place(0, 2));
        assert!(only(check, &history).contains("asked from check:0 new:2"));
    }

    #[test]
    fn part_of_a_recovery_is_noticed() {
        let mut history = sound();
        history.clients[0].events[4] = subscribed(1, Some(place(0, 2)), false, place(0, 2));
        assert!(only(check, &history).contains("did not recover"));
    }
}
