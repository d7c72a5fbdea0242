//! The record of publications, their results in Redis, and all observations. Each observation is
//! checked at once against the model of Redis, and the rest at the end.

use std::collections::HashMap;

use corecast::bus::{Appending, channel_epoch};

use super::redis::Done;
use crate::sim::setup::Setup;
use crate::sim::truth::Place;

/// A publication that is to be published once, in one or more tries.
pub struct Attempt {
    pub channel: usize,
    /// The publisher. If order is checked, it publishes one after another.
    pub publisher: usize,
    /// Whether it has an idempotency key, which is its number.
    pub keyed: bool,
    pub data: Vec<u8>,
    invoked: usize,
    /// Time of the first acknowledgement.
    acked: Option<usize>,
    /// Number of tries without an answer.
    open: usize,
    /// Number of tries that may have been appended, as far as the publisher knows.
    doubtful: usize,
    /// Its past and present places in Redis.
    appended: Vec<Place>,
    seen: bool,
}

#[derive(Default)]
pub struct Record {
    /// Counts all events, to define "before" and "after".
    step: usize,
    attempts: Vec<Attempt>,
    places: HashMap<(usize, Place), usize>,
    /// Channels whose place was overwritten in Redis, so that they may get the same place twice.
    pub written_to: Vec<usize>,
}

/// The result of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Acked(Option<Place>),
    /// Certainly not appended.
    Failed,
    Unknown,
}

impl Record {
    fn now(&mut self) -> usize {
        self.step += 1;
        self.step
    }

    /// Records an attempt and its first try. Returns its number.
    pub fn invoke(&mut self, (channel, publisher): (usize, usize), keyed: bool) -> usize {
        let number = self.attempts.len();
        let invoked = self.now();
        self.attempts.push(Attempt {
            channel,
            publisher,
            keyed,
            data: format!(r##"{{"id":"#{number}#"}}"##).into_bytes(),
            invoked,
            acked: None,
            open: 1,
            doubtful: 0,
            appended: Vec::new(),
            seen: false,
        });
        number
    }

    /// Records another try.
    pub fn retry(&mut self, number: usize) {
        self.attempts[number].open += 1;
    }

    pub fn attempt(&self, number: usize) -> &Attempt {
        &self.attempts[number]
    }

    /// Whether an attempt may be tried again: it has a key, or it has certainly failed.
    pub fn may_retry(&self, number: usize) -> bool {
        let attempt = &self.attempts[number];
        attempt.keyed || attempt.acked.is_none() && attempt.open == 0 && attempt.doubtful == 0
    }

    pub fn is_acked(&self, number: usize) -> bool {
        self.attempts[number].acked.is_some()
    }

    pub fn is_appended(&self, number: usize) -> bool {
        !self.attempts[number].appended.is_empty()
    }

    pub fn is_answered(&self, number: usize) -> bool {
        self.attempts[number].open == 0
    }

    pub fn count(&self) -> usize {
        self.attempts.len()
    }

    /// Records the result of a try.
    pub fn on_fate(&mut self, number: usize, fate: Fate) {
        let now = self.now();
        let attempt = &mut self.attempts[number];
        attempt.open -= 1;
        match fate {
            Fate::Acked(place) => {
                attempt.acked.get_or_insert(now);
                assert!(
                    !attempt.appended.is_empty(),
                    "publication {number} was acknowledged, and Redis has never had it"
                );
                if let Some(place) = place {
                    let there = &attempt.appended;
                    assert!(
                        there.contains(&place),
                        "publication {number} is not at {place:?} but at {there:?}"
                    );
                }
            }
            Fate::Failed => {}
            Fate::Unknown => attempt.doubtful += 1,
        }
    }

    /// Records appends by Redis. `broken` says that Redis may have lost data before, and `expired`
    /// that it may have lost keys in the same epoch.
    pub fn on_done(&mut self, setup: &Setup, done: Vec<Done>, (broken, expired): (bool, bool)) {
        for Done { append, taken } in done {
            for one in taken {
                let Appending { channel, record, .. } = &append.publications[one.index];
                let number = number_in(record).expect("a publication has a number");
                let channel = setup.find(channel.as_str());
                let Some((epoch, incarnation, offset)) = one.place else { continue };
                let epoch = channel_epoch(epoch, incarnation).value();
                let place = Place { epoch, offset };
                let attempt = &mut self.attempts[number];
                assert_eq!(attempt.channel, channel, "publication {number} is elsewhere");
                let again = !attempt.appended.is_empty();
                let same = attempt.appended.iter().any(|other| other.epoch == epoch);
                // Only a key may be forgotten, together with the server that stored it.
                assert!(
                    !again || attempt.keyed && broken && (!same || expired),
                    "publication {number} was appended at {:?} and again at {place:?}",
                    attempt.appended
                );
                attempt.appended.push(place);
                let before = self.places.insert((channel, place), number);
                let excused = self.written_to.contains(&channel);
                assert!(
                    before.is_none() || excused,
                    "{place:?} of channel {channel} is given twice"
                );
            }
        }
    }

    /// Records a publication that a client received. Returns its number.
    pub fn received(&mut self, channel: usize, data: &[u8], place: Option<Place>) -> usize {
        let number = number_in(data).expect("a publication has a number");
        let attempt = self.attempts.get_mut(number).expect("the publication was not sent yet");
        assert_eq!(attempt.channel, channel, "publication {number} came in another channel");
        assert!(attempt.data == data, "publication {number} came with other bytes");
        assert!(!attempt.appended.is_empty(), "publication {number} was never appended");
        attempt.seen = true;
        if let Some(place) = place {
            let there = self.places.get(&(channel, place)).copied();
            assert_eq!(
                there,
                Some(number),
                "{place:?} of channel {channel} is another publication"
            );
        }
        number
    }

    /// Records a publication of a history that outlives epochs. Its place is in the present epoch.
    pub fn kept(&mut self, channel: usize, data: &[u8], place: Place) {
        let known = self.places.contains_key(&(channel, place));
        let number = self.received(channel, data, known.then_some(place));
        let appended = &self.attempts[number].appended;
        assert!(
            appended.iter().any(|one| one.offset == place.offset),
            "publication {number} is kept at {place:?} and was appended at {appended:?}"
        );
    }

    /// Whether the second one is after the first one, if that is known: both were appended once, in
    /// the same epoch.
    pub fn is_in_order(&self, (first, second): (usize, usize)) -> bool {
        if self.written_to.contains(&self.attempts[first].channel) {
            return true;
        }
        match (&self.attempts[first].appended[..], &self.attempts[second].appended[..]) {
            ([first], [second]) => first.epoch != second.epoch || first.offset < second.offset,
            _ => true,
        }
    }

    /// Checks the history that a publishing client reads: none of its acknowledged publications in
    /// the same epoch may be above the history's `top`.
    pub fn check_own(&self, acked: &[usize], (channel, top): (usize, Place)) {
        for &number in acked {
            let attempt = &self.attempts[number];
            let [place] = attempt.appended[..] else { continue };
            let above = place.epoch == top.epoch && place.offset > top.offset;
            assert!(
                attempt.channel != channel || !above,
                "publication {number} at {place:?} is not in its publisher's history up to {top:?}"
            );
        }
    }

    /// Checks that are only possible at the end.
    ///
    /// # Panics
    /// If a promise was broken.
    pub fn finish(&self) {
        let mut streams: HashMap<(usize, usize), Vec<&Attempt>> = HashMap::new();
        for (number, attempt) in self.attempts.iter().enumerate() {
            let failed = attempt.acked.is_none() && attempt.open == 0 && attempt.doubtful == 0;
            assert!(
                !failed || attempt.appended.is_empty(),
                "publication {number} was refused, and is at {:?}",
                attempt.appended
            );
            let excused = self.written_to.contains(&attempt.channel);
            if attempt.acked.is_some() && attempt.appended.len() == 1 && !excused {
                streams.entry((attempt.channel, attempt.publisher)).or_default().push(attempt);
            }
        }
        for stream in streams.values() {
            for later in stream {
                for earlier in stream.iter().filter(|one| one.acked < Some(later.invoked)) {
                    let (first, second) = (earlier.appended[0], later.appended[0]);
                    assert!(
                        first.epoch != second.epoch || first.offset < second.offset,
                        "{first:?} was acknowledged before {second:?} was begun"
                    );
                }
            }
        }
    }

    /// Returns the number of publications that a client has received.
    pub fn seen(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.seen).count()
    }
}

/// Returns the number in a payload, wherever it is in `bytes`.
fn number_in(bytes: &[u8]) -> Option<usize> {
    let mut parts = bytes.split(|byte| *byte == b'#');
    std::str::from_utf8(parts.nth(1)?).ok()?.parse().ok()
}
