//! What was published, what became of it in Redis, and what everybody was told: each observation is
//! checked at once against what the model of Redis has done, the rest at the end.

use std::collections::HashMap;

use corecast::bus::{Appending, channel_epoch};

use super::redis::Done;
use crate::sim::setup::Setup;
use crate::sim::truth::Place;

/// Something that is to be published once, however often it is tried.
pub struct Attempt {
    pub channel: usize,
    /// Who publishes; each does one thing after the other where order is to be checked.
    pub publisher: usize,
    /// Whether it has an idempotency key, which is its number.
    pub keyed: bool,
    pub data: Vec<u8>,
    invoked: usize,
    /// When the first acknowledgement came.
    acked: Option<usize>,
    /// Tries whose answer has not come, or never will.
    open: usize,
    /// Tries that may have been appended, as far as the publisher knows.
    doubtful: usize,
    /// Where it is in Redis, or was.
    appended: Vec<Place>,
    seen: bool,
}

#[derive(Default)]
pub struct Record {
    /// Counts everything that happens, for "before" and "after".
    step: usize,
    attempts: Vec<Attempt>,
    places: HashMap<(usize, Place), usize>,
    /// Channels whose place somebody else has written: what they are given, they may have had.
    pub written_to: Vec<usize>,
}

/// What became of a try.
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

    /// Notes an attempt and its first try; answers its number.
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

    /// It is tried again.
    pub fn retry(&mut self, number: usize) {
        self.attempts[number].open += 1;
    }

    pub fn attempt(&self, number: usize) -> &Attempt {
        &self.attempts[number]
    }

    /// Attempts that may be tried again: those with a key, and those that have certainly failed.
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

    /// A publisher has an answer, or will have none.
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

    /// Redis has carried out appends. `broken` if it may have forgotten something before, `expired`
    /// if that may be keys in the same epoch.
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
                // A key may be forgotten with the server that knew it, and nothing else may.
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

    /// Somebody was given a publication; answers its number.
    pub fn received(&mut self, channel: usize, data: &[u8], place: Option<Place>) -> usize {
        let number = number_in(data).expect("a publication has a number");
        let attempt = self.attempts.get_mut(number).expect("nobody published this yet");
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

    /// A history that outlives epochs has a publication at that place of the present one.
    pub fn kept(&mut self, channel: usize, data: &[u8], place: Place) {
        let known = self.places.contains_key(&(channel, place));
        let number = self.received(channel, data, known.then_some(place));
        let appended = &self.attempts[number].appended;
        assert!(
            appended.iter().any(|one| one.offset == place.offset),
            "publication {number} is kept at {place:?} and was appended at {appended:?}"
        );
    }

    /// Whether the second is after the first, as far as that can be said: both were appended once,
    /// in one epoch.
    pub fn is_in_order(&self, (first, second): (usize, usize)) -> bool {
        if self.written_to.contains(&self.attempts[first].channel) {
            return true;
        }
        match (&self.attempts[first].appended[..], &self.attempts[second].appended[..]) {
            ([first], [second]) => first.epoch != second.epoch || first.offset < second.offset,
            _ => true,
        }
    }

    /// A client that has published itself asks for the history: its own publications that were
    /// acknowledged before are in it, in the epoch that the history is of.
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

    /// What can only be judged when everything is over.
    ///
    /// # Panics
    /// On a broken promise.
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

    /// How many have been seen by some client.
    pub fn seen(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.seen).count()
    }
}

/// The number that a payload bears, wherever it is in `bytes`.
fn number_in(bytes: &[u8]) -> Option<usize> {
    let mut parts = bytes.split(|byte| *byte == b'#');
    std::str::from_utf8(parts.nth(1)?).ok()?.parse().ok()
}
