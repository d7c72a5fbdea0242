//! Tiny histories for tests of the checks: a sound one, and helpers to break it.

use crate::history::{
    Client, Event, Fault, Final, History, Micros, Outcome, Place, Probe, Publication, Takes, Usage,
};

/// One second.
pub(crate) const SECOND: Micros = 1_000_000;

pub(crate) fn place(epoch: u16, offset: u32) -> Place {
    Place { epoch, offset }
}

pub(crate) fn subscribed(sub: u32, since: Option<Place>, recovered: bool, place: Place) -> Event {
    Event::Subscribed { sub, channel: 0, since, recovered, place, at: 0 }
}

pub(crate) fn live(sub: u32, place: Place, pid: u32) -> Event {
    received(sub, place, pid, false)
}

pub(crate) fn in_reply(sub: u32, place: Place, pid: u32) -> Event {
    received(sub, place, pid, true)
}

fn received(sub: u32, place: Place, pid: u32, in_reply: bool) -> Event {
    let at = (u64::from(pid) + 1) * SECOND;
    Event::Received { sub, channel: 0, place, pid, in_reply, at }
}

pub(crate) fn fault(kind: &'static str, (begin, end): (Micros, Micros), takes: Takes) -> Fault {
    Fault { kind, detail: String::new(), begin, end, takes, channels: None }
}

/// Publication `pid`, invoked `pid` seconds after the start and answered half a second later.
pub(crate) fn publication(pid: u32, outcome: Outcome) -> Publication {
    let invoked = u64::from(pid) * SECOND;
    let done = invoked + SECOND / 2;
    Publication { pid, publisher: 0, channel: 0, invoked, done, outcome, attempts: 1 }
}

/// Returns four publications that one client saw: two live ones, then, after a disconnect, one
/// recovered and one live.
pub(crate) fn sound() -> History {
    let places = [1, 2, 3, 4].map(|offset| place(0, offset));
    let publications =
        (0..4u32).map(|pid| publication(pid, Outcome::Ok(Some(places[pid as usize]))));
    let events = vec![
        subscribed(0, None, false, place(0, 0)),
        live(0, places[0], 0),
        live(0, places[1], 1),
        Event::Closed { node: 0, code: 0, at: 2 * SECOND + SECOND / 2 },
        subscribed(1, Some(places[1]), true, places[1]),
        in_reply(1, places[2], 2),
        live(1, places[3], 3),
    ];
    let read = |node| Final {
        node,
        channel: 0,
        top: places[3],
        publications: vec![(1, 0), (2, 1), (3, 2), (4, 3)],
    };
    History {
        channels: vec!["check:0".to_owned()],
        epochs: vec!["old".to_owned(), "new".to_owned()],
        publications: publications.collect(),
        clients: vec![Client { events, end: vec![(0, Some(places[3]))] }],
        faults: Vec::new(),
        finals: vec![read(0), read(1)],
        probes: vec![Probe { node: 0, channel: 0, took: 1000, error: None }],
        usages: vec![Usage { what: "descriptors".to_owned(), before: 20, after: 21, limit: 30 }],
        ..History::default()
    }
}

/// Returns [`sound`] with a new epoch of Redis at its end. Publication 4 is the first one in it,
/// and the client was told about the new epoch.
pub(crate) fn renewed() -> History {
    let mut history = sound();
    history.faults.push(fault("kill-redis", (4 * SECOND - 1, 4 * SECOND), Takes::Epoch));
    let top = place(1, 1);
    let mut answer = publication(4, Outcome::Ok(Some(top)));
    answer.invoked += SECOND / 4;
    history.publications.push(answer);
    let at = 4 * SECOND + SECOND / 8;
    let client = &mut history.clients[0];
    client.events.extend([
        Event::Unsubscribed { channel: 0, code: 2500, at },
        Event::Subscribed {
            sub: 2,
            channel: 0,
            since: Some(place(0, 4)),
            recovered: false,
            place: place(1, 0),
            at,
        },
        live(2, top, 4),
    ]);
    client.end = vec![(0, Some(top))];
    for read in &mut history.finals {
        read.top = top;
        read.publications = vec![(1, 4)];
    }
    history
}

/// All checks must pass on these.
#[test]
fn sound_histories_pass_every_check() {
    for history in [sound(), renewed()] {
        for check in &super::CHECKS {
            assert_eq!(check.violations(&history), [], "{}", check.name);
        }
    }
}

/// Returns the only violation that `check` finds in `history`.
pub(crate) fn only(check: fn(&History) -> Vec<super::Violation>, history: &History) -> String {
    let found = check(history);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].text.clone()
}
