//! No false alarms: every notice of a gap, every failed recovery and every new epoch is caused by a
//! fault.

use std::collections::{HashMap, HashSet};

use super::Violation;
use crate::history::{Event, Fault, History, Micros, Place, Takes};

/// Time after the end of a fault in which clients may be told about its consequences.
const CAUSE_WINDOW: Micros = 20_000_000;

/// Maximum number of publications that one recovery returns. A client that missed more is told so.
const RECOVERY_MAX: u32 = 300;

/// The code of a subscription that ended because of a gap, and that of a connection.
const UNSUBSCRIBED_GAP: u16 = 2500;
const CLOSED_GAP: u16 = 3010;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (client, record) in history.clients.iter().enumerate() {
        for event in &record.events {
            let (what, at) = match *event {
                Event::Unsubscribed { channel, code: UNSUBSCRIBED_GAP, at }
                    if !is_caused(history, Some(channel), at) =>
                {
                    (format!("was told of a gap in {}", history.channel(channel)), at)
                }
                Event::Closed { node, code: CLOSED_GAP, at } if !is_caused(history, None, at) => {
                    (format!("was closed with {CLOSED_GAP} by node {node}"), at)
                }
                Event::Subscribed {
                    channel,
                    since: Some(since),
                    recovered: false,
                    place,
                    at,
                    ..
                } if !is_excused(history, (channel, at), (since, place)) => {
                    let (since, place) =
                        (history.show(channel, since), history.show(channel, place));
                    (format!("could not recover from {since}; the top is {place}"), at)
                }
                _ => continue,
            };
            found.push(Violation::at(at, format!("client {client} {what}, without a cause")));
        }
    }
    found.extend(epochs(history));
    found
}

/// Whether a fault took something from the channel, or from any channel, shortly before.
fn is_caused(history: &History, channel: Option<u16>, at: Micros) -> bool {
    history.faults.iter().any(|fault| {
        let concerned = match channel {
            Some(channel) => fault.took_any(channel),
            None => fault.takes != Takes::Nothing,
        };
        concerned && fault.begin <= at && at <= fault.end + CAUSE_WINDOW
    })
}

/// Whether there is a reason for a failed recovery.
fn is_excused(
    history: &History,
    (channel, at): (u16, Micros),
    (since, top): (Place, Place),
) -> bool {
    let before = history.faults.iter().filter(|fault| fault.begin <= at);
    if since.epoch != top.epoch {
        // A client that returns late notices the new epoch late.
        return before.into_iter().any(|fault| fault.took(Takes::Epoch, channel));
    }
    // If the node is behind its client, it has not read that far yet, and nothing is missing.
    let Some(missed) = top.offset.checked_sub(since.offset) else { return false };
    let mut recent = before.filter(|fault| at <= fault.end + CAUSE_WINDOW);
    // Losses from a stream do not affect durable histories.
    let taken = |fault: &Fault| fault.took(Takes::Entries, channel) && !history.is_durable(channel);
    missed > RECOVERY_MAX || recent.any(taken)
}

/// Checks that a channel has one epoch, and at most one more for each fault that may end it.
fn epochs(history: &History) -> Vec<Violation> {
    let mut seen: HashMap<u16, HashSet<u16>> = HashMap::new();
    for sighting in history.sightings() {
        seen.entry(sighting.channel).or_default().insert(sighting.place.epoch);
    }
    let mut channels: Vec<_> = seen.into_iter().collect();
    channels.sort_unstable_by_key(|(channel, _)| *channel);
    let mut found = Vec::new();
    for (channel, epochs) in channels {
        let took = |fault: &&Fault| fault.took(Takes::Epoch, channel);
        let faults = history.faults.iter().filter(took).count();
        if epochs.len() > faults + 1 {
            found.push(Violation::whenever(format!(
                "{} had {} epochs, with {faults} faults that may end one",
                history.channel(channel),
                epochs.len()
            )));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;

    #[test]
    fn a_notice_without_a_fault_is_noticed() {
        let mut history = sound();
        let notice = Event::Unsubscribed { channel: 0, code: 2500, at: 3 * SECOND };
        history.clients[0].events.push(notice);
        assert!(only(check, &history).contains("told of a gap in check:0"));
        history.faults.push(fault("client-kill", (2 * SECOND, 3 * SECOND), Takes::Nothing));
        assert_eq!(check(&history).len(), 1, "a fault that takes nothing away is no cause");
        history.faults.push(fault("trim", (2 * SECOND, 3 * SECOND), Takes::Entries));
        assert_eq!(check(&history), []);
    }

    #[test]
    fn a_fault_of_other_channels_or_long_ago_is_no_cause() {
        let mut history = sound();
        let at = 60 * SECOND;
        history.clients[0].events.push(Event::Unsubscribed { channel: 0, code: 2500, at });
        let mut trim = fault("trim", (59 * SECOND, 60 * SECOND), Takes::Entries);
        trim.channels = Some(vec![1]);
        history.faults = vec![trim, fault("flush", (SECOND, 2 * SECOND), Takes::Epoch)];
        assert_eq!(check(&history).len(), 1);
    }

    #[test]
    fn a_close_without_a_fault_is_noticed() {
        let mut history = sound();
        history.clients[0].events.push(Event::Closed { node: 2, code: 3010, at: SECOND });
        assert!(only(check, &history).contains("3010 by node 2"));
    }

    #[test]
    fn a_recovery_that_fails_without_a_fault_is_noticed_unless_too_much_was_missed() {
        let mut history = sound();
        history.clients[0].events.push(subscribed(2, Some(place(0, 4)), false, place(0, 5)));
        assert!(only(check, &history).contains("could not recover from check:0 old:4"));
        history.clients[0].events.pop();
        history.clients[0].events.push(subscribed(2, Some(place(0, 4)), false, place(0, 400)));
        assert_eq!(check(&history), []);
    }

    #[test]
    fn a_node_that_is_behind_its_client_has_no_excuse() {
        let mut history = sound();
        history.faults.push(fault("flush", (0, SECOND), Takes::Epoch));
        history.faults.push(fault("trim", (0, SECOND), Takes::Entries));
        history.clients[0].events.push(subscribed(2, Some(place(0, 4)), false, place(0, 3)));
        assert!(only(check, &history).contains("the top is check:0 old:3"));
    }

    #[test]
    fn a_fault_that_ends_epochs_takes_nothing_within_one() {
        let mut history = sound();
        history.clients[0].events.push(subscribed(2, Some(place(0, 3)), false, place(0, 4)));
        history.faults.push(fault("flush", (0, SECOND), Takes::Epoch));
        assert_eq!(check(&history).len(), 1);
        history.faults.push(fault("trim", (0, SECOND), Takes::Entries));
        assert_eq!(check(&history), []);
    }

    #[test]
    fn a_durable_history_has_what_a_stream_has_lost() {
        let mut history = sound();
        history.channels = vec!["kept:0".to_owned()];
        history.clients[0].events.push(subscribed(2, Some(place(0, 3)), false, place(0, 4)));
        history.faults.push(fault("trim", (0, SECOND), Takes::Entries));
        assert!(only(check, &history).contains("could not recover from kept:0 old:3"));
    }

    #[test]
    fn an_epoch_too_many_is_noticed() {
        let mut history = renewed();
        history.clients[0].events.push(live(3, place(2, 1), 4));
        assert!(only(check, &history).contains("had 3 epochs, with 1 faults"));
    }
}
