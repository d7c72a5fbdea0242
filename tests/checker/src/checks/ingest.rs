//! Every entry of the ingest stream is published, or set aside if it can't be published, unless
//! Redis itself lost it. No other entry is set aside.

use std::collections::HashSet;

use super::Violation;
use crate::history::{Entry, History, Micros, NOWHERE, Takes};

/// Time after an answer in which a fault of Redis may delete this entry, or its publication, before
/// it was read. Entries have no deadline: they wait as long as nodes can't publish, and another
/// node takes them in if one was lost.
const UNREAD_MAX: Micros = 60_000_000;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let seen: HashSet<u32> = history.seen().map(|seen| seen.pid).collect();
    let dead: HashSet<&str> = history.dead.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    for entry in &history.entries {
        let Some(id) = entry.id.as_deref() else { continue };
        let channel = entry.channel.map_or(NOWHERE, |channel| history.channel(channel));
        let wrong = match (entry.pid, dead.contains(&*format!("{channel} {id}"))) {
            (Some(pid), true) => format!("of publication {pid} was set aside"),
            (Some(pid), false) if !seen.contains(&pid) && !is_lost(history, entry) => {
                format!("of publication {pid} was never seen by anybody")
            }
            (None, false) if !is_forgotten(history, entry) => {
                "that can't be published was not set aside".to_owned()
            }
            _ => continue,
        };
        found.push(Violation::at(entry.done, format!("entry {id} {wrong}")));
    }
    if history.untaken > 0 {
        let text = format!("{} entries were not taken or not acknowledged", history.untaken);
        found.push(Violation::whenever(text));
    }
    found
}

/// Whether Redis may have lost the entry or its publication before anybody saw it.
fn is_lost(history: &History, entry: &Entry) -> bool {
    let Some(channel) = entry.channel else { return false };
    history.faults.iter().any(|fault| {
        fault.took_any(channel)
            && fault.end >= entry.invoked
            && fault.begin <= entry.done + UNREAD_MAX
    })
}

/// Whether Redis may have lost the list of entries that were set aside, at any later time.
fn is_forgotten(history: &History, entry: &Entry) -> bool {
    let ends = |takes| matches!(takes, Takes::Epoch | Takes::Split);
    history.faults.iter().any(|fault| ends(fault.takes) && fault.end >= entry.invoked)
}

#[cfg(test)]
mod tests {
    use super::super::scene::*;
    use super::*;

    fn added(pid: Option<u32>, id: &str) -> Entry {
        let channel = pid.map(|_| 0);
        Entry { pid, channel, id: Some(id.to_owned()), invoked: SECOND, done: SECOND + 1 }
    }

    fn with(entries: Vec<Entry>, dead: &[&str]) -> History {
        let dead = dead.iter().map(|id| (*id).to_owned()).collect();
        History { entries, dead, ..sound() }
    }

    #[test]
    fn entries_that_went_their_way_are_no_violation() {
        let entries = vec![added(Some(1), "1-1"), added(None, "1-2")];
        assert_eq!(check(&with(entries, &["nowhere:1 1-2"])), []);
    }

    #[test]
    fn an_entry_that_was_lost_is_noticed_unless_redis_lost_it() {
        let mut history = with(vec![added(Some(9), "1-1")], &[]);
        assert!(only(check, &history).contains("publication 9 was never seen"));
        history.faults.push(fault("reset", (0, 2 * SECOND), Takes::Nothing));
        assert_eq!(check(&history).len(), 1);
        history.faults.push(fault("flush", (0, 2 * SECOND), Takes::Epoch));
        assert_eq!(check(&history), []);
    }

    #[test]
    fn a_lost_letter_is_noticed_unless_redis_lost_it() {
        let mut history = with(vec![added(None, "1-1")], &[]);
        assert!(only(check, &history).contains("was not set aside"));
        history.faults.push(fault("trim", (0, 2 * SECOND), Takes::Entries));
        assert_eq!(check(&history).len(), 1);
        history.faults.push(fault("flush", (9 * SECOND, 9 * SECOND), Takes::Epoch));
        assert_eq!(check(&history), []);
    }

    #[test]
    fn what_was_wrongly_set_aside_and_what_was_left_is_noticed() {
        let mut history = with(vec![added(Some(1), "1-1")], &["check:0 1-1"]);
        assert!(only(check, &history).contains("publication 1 was set aside"));
        history.dead = vec!["nowhere:1 1-1".to_owned()];
        assert_eq!(check(&history), [], "another one, that has its name");
        history.untaken = 2;
        assert!(only(check, &history).contains("2 entries were not taken"));
    }
}
