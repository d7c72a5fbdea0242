//! Answers to publications with an idempotency key, so that a repeat gets the same answer.
//!
//! A key is stored as a fingerprint of 16 bytes, a keyed hash of channel and key. The hash key is
//! unknown outside the process. A collision by chance is less likely than a failure of memory: 1 in
//! 10^24 for 10 million keys.

use std::hash::{BuildHasher, RandomState};

use crate::collections::{Index, Queue};
use crate::ids::{Epoch, Moment, Position};
use crate::limits::IDEMPOTENCY_TTL;
use crate::pool::{Pool, Share};
use crate::reason::ClientError;

/// The hash of a channel and an idempotency key.
pub type Fingerprint = u128;

/// A stored answer.
struct Answered {
    fingerprint: Fingerprint,
    /// The position, or offset 0 if the channel has no positions for clients.
    position: Position,
    at: Moment,
}

/// Bytes charged for one answer, including its entry in the index.
const ANSWER_BYTES: usize = size_of::<Answered>() + Index::PLACE_BYTES + 4;

/// The stored answers, in the order of their age.
pub struct Answers {
    hashers: [RandomState; 2],
    /// Index by the lower half of the fingerprint. A place is the number of an answer, modulo 2^32.
    index: Index,
    answers: Queue<Answered>,
    /// Number of the oldest answer.
    first: u32,
    share: Share,
}

impl Answers {
    /// Creates an empty store. `pool` limits its bytes, together with those of other shards.
    pub fn new(pool: Pool) -> Answers {
        Answers {
            hashers: [RandomState::new(), RandomState::new()],
            index: Index::default(),
            answers: Queue::default(),
            first: 0,
            share: Share::new(pool),
        }
    }

    /// Returns the bytes in use.
    pub fn bytes(&self) -> usize {
        self.answers.len() * ANSWER_BYTES
    }

    /// Returns the fingerprint of a key in a channel.
    pub fn fingerprint(&self, channel: &str, key: &str) -> Fingerprint {
        let [high, low] = &self.hashers;
        let halves = [high.hash_one((channel, key)), low.hash_one((channel, key))];
        u128::from(halves[0]) << 64 | u128::from(halves[1])
    }

    /// Returns the earlier answer to this key, which has a position if the channel has positions
    /// for clients. `None` if the key is new; then there is room for its answer.
    ///
    /// # Errors
    /// `TooManyRequests` if there is no room, so that a repeat could not be recognized.
    pub fn repeated(
        &mut self,
        fingerprint: Fingerprint,
    ) -> Result<Option<Option<Position>>, ClientError> {
        let (answers, first) = (&self.answers, self.first);
        let is = |place: u32| {
            let found = answers.get(place.wrapping_sub(first) as usize);
            found.is_some_and(|answered| answered.fingerprint == fingerprint)
        };
        if let Some(place) = self.index.find(fingerprint as u64, is) {
            let Some(answered) = self.answers.get(place.wrapping_sub(first) as usize) else {
                unreachable!("the index was searched for a stored answer")
            };
            return Ok(Some(Some(answered.position).filter(|position| position.offset > 0)));
        }
        let room = self.share.reach(self.bytes() + ANSWER_BYTES) || crate::sabotage!(UnboundedKeys);
        if room { Ok(None) } else { Err(ClientError::TooManyRequests) }
    }

    /// Stores the answer to a new key.
    pub fn remember(&mut self, now: Moment, fingerprint: Fingerprint, position: Option<Position>) {
        let place = self.first.wrapping_add(self.answers.len() as u32);
        let position = position.unwrap_or(Position { epoch: Epoch::new(0), offset: 0 });
        self.answers.push_back(Answered { fingerprint, position, at: now });
        self.index.insert(fingerprint as u64, place);
    }

    /// Removes expired answers, at most `steps_max`. Returns whether there are more.
    pub fn forget_some(&mut self, now: Moment, steps_max: usize) -> bool {
        for _ in 0..steps_max {
            let old = |answered: &&Answered| now.since(answered.at) >= IDEMPOTENCY_TTL;
            let Some(oldest) = self.answers.front().filter(old) else {
                self.share.settle(self.bytes());
                return false;
            };
            let known = self.index.remove(oldest.fingerprint as u64, self.first);
            assert!(known, "every answer is in the index");
            self.answers.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answers(bytes: usize) -> Answers {
        Answers::new(Pool::new(bytes, 1, 1 << 16))
    }

    fn position(offset: u64) -> Option<Position> {
        Some(Position { epoch: Epoch::new(7), offset })
    }

    #[test]
    fn a_key_is_remembered_for_as_long_as_promised() {
        let mut answers = answers(1 << 20);
        let now = Moment::from_nanos(1);
        let [own, other] = ["c", "d"].map(|channel| answers.fingerprint(channel, "k"));
        assert_eq!(answers.repeated(own), Ok(None));
        answers.remember(now, own, position(5));
        let later = now.after(IDEMPOTENCY_TTL - Duration::from_nanos(1));
        answers.forget_some(later, 10);
        assert_eq!(answers.repeated(own), Ok(Some(position(5))));
        assert_eq!(answers.repeated(other), Ok(None), "a key belongs to its channel");
        answers.remember(later, other, None);
        assert_eq!(answers.repeated(other), Ok(Some(None)), "without a position");
        answers.forget_some(later.after(Duration::from_nanos(1)), 10);
        assert_eq!(answers.repeated(own), Ok(None));
        assert_eq!(answers.repeated(other), Ok(Some(None)));
    }

    #[test]
    fn no_two_keys_are_taken_for_one() {
        let answers = answers(0);
        let all = [("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"), ("a", "b"), ("b", "a")];
        let mut prints: Vec<u128> =
            all.iter().map(|(channel, key)| answers.fingerprint(channel, key)).collect();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), all.len());
    }

    /// The default limit holds 5,000 answers a second for as long as they are kept, on one shard.
    /// After that, each new answer takes the place of an expired one.
    #[test]
    fn five_thousand_a_second_are_remembered_within_the_default_bytes() {
        let settings = crate::settings::Settings::default();
        let mut answers = Answers::new(Pool::new(settings.api.idempotency_bytes_max, 8, 1 << 16));
        const PER_SECOND: u64 = 5_000;
        let ttl = IDEMPOTENCY_TTL.as_secs();
        let print = |number: u64| u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060);
        let moment =
            |number: u64| Moment::from_nanos(1).after(Duration::from_secs(number / PER_SECOND));
        for number in 0..2 * ttl * PER_SECOND {
            if number.is_multiple_of(PER_SECOND) {
                while answers.forget_some(moment(number), 1024) {}
            }
            assert_eq!(answers.repeated(print(number)), Ok(None), "{number}");
            answers.remember(moment(number), print(number), position(number + 1));
            let oldest = number.saturating_sub((ttl - 1) * PER_SECOND);
            assert_eq!(answers.repeated(print(oldest)), Ok(Some(position(oldest + 1))));
        }
        assert!(answers.bytes() <= settings.api.idempotency_bytes_max);
    }

    #[test]
    fn beyond_its_bytes_a_new_key_is_refused_and_an_old_one_answered() {
        let mut answers = answers(10 * ANSWER_BYTES);
        let now = Moment::from_nanos(1);
        for number in 0..10 {
            assert_eq!(answers.repeated(number), Ok(None));
            answers.remember(now, number, position(1));
        }
        assert_eq!(answers.repeated(10), Err(ClientError::TooManyRequests));
        assert_eq!(answers.repeated(3), Ok(Some(position(1))));
        answers.forget_some(now.after(IDEMPOTENCY_TTL), 1);
        assert_eq!(answers.repeated(10), Ok(None));
    }
}
