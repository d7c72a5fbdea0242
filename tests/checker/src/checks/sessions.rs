//! Session order: within a subscription, offsets count up by one, and any break ends the
//! subscription first. This check also reports messages that a client should never receive.

use std::collections::HashMap;

use super::Violation;
use crate::history::{Event, History, Place};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (client, record) in history.clients.iter().enumerate() {
        let mut reached: HashMap<u32, Place> = HashMap::new();
        for event in &record.events {
            match event {
                Event::Subscribed { sub, place, .. } => {
                    reached.insert(*sub, *place);
                }
                Event::Received { sub, channel, place, pid, in_reply, at } => {
                    let last = reached.insert(*sub, *place);
                    let next = last.map(|last| Place { offset: last.offset + 1, ..last });
                    // `recovery` checks the content of replies.
                    if *in_reply || next == Some(*place) {
                        continue;
                    }
                    let after = last.map_or("nothing".into(), |last| history.show(*channel, last));
                    let got = history.show(*channel, *place);
                    let text =
                        format!("client {client} got {got} (publication {pid}) after {after}");
                    found.push(Violation::at(*at, text));
                }
                Event::Odd { text, at } => {
                    found.push(Violation::at(*at, format!("client {client}: {text}")));
                }
                Event::Unsubscribed { .. } | Event::Closed { .. } => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;

    #[test]
    fn a_hole_a_repeat_and_a_swap_are_noticed() {
        for (offset, pid) in [(6, 3), (4, 3), (3, 2)] {
            let mut history = sound();
            history.clients[0].events.push(live(1, place(0, offset), pid));
            assert!(only(check, &history).contains("after check:0 old:4"), "{offset}");
        }
    }

    #[test]
    fn an_epoch_that_was_not_announced_is_noticed() {
        let mut history = sound();
        history.clients[0].events.push(live(1, place(1, 5), 3));
        assert!(only(check, &history).contains("new:5"));
    }

    #[test]
    fn what_no_server_may_say_is_noticed() {
        let mut history = sound();
        history.clients[0].events.push(Event::Odd { text: "a push too many".into(), at: 1 });
        assert!(only(check, &history).contains("a push too many"));
    }
}
