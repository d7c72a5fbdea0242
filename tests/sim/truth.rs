//! The record of publications, their results, and all observations. Each observation is checked at
//! once, and all of them together at the end.

use std::collections::{BTreeSet, HashMap};

use corecast::channel::DataType;

use super::random::Random;
use super::setup::Setup;

/// A publisher. Each connection of a client has its own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publisher {
    pub client: usize,
    pub connection: usize,
}

/// The publisher that is not a client.
pub const CONTROL: Publisher = Publisher { client: usize::MAX, connection: 0 };

/// The place of a publication in its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub epoch: u64,
    pub offset: u64,
}

impl Place {
    /// Parses the texts that clients receive.
    pub fn read(epoch: &str, offset: u64) -> Place {
        let epoch = u64::from_str_radix(epoch, 16);
        Place { epoch: epoch.expect("an epoch is a hexadecimal number"), offset }
    }
}

/// One attempt to publish.
pub struct Attempt {
    pub channel: usize,
    pub publisher: Publisher,
    /// The idempotency key.
    pub key: Option<usize>,
    pub skip_history: bool,
    pub data: Vec<u8>,
    invoked: usize,
    acked: Option<usize>,
    failed: bool,
    seen: bool,
    place: Option<Place>,
}

#[derive(Default)]
pub struct Truth {
    /// Counts all events, to define "before" and "after".
    step: usize,
    attempts: Vec<Attempt>,
    places: HashMap<(usize, Place), usize>,
    /// The first answer for each key.
    keys: HashMap<(usize, usize), Option<Place>>,
    /// Number of publications whose key found no room.
    pub keys_refused: u64,
    /// Close codes that control sent, with the client that each was for; `None` means all clients.
    pub kicks: Vec<(u16, Option<String>)>,
    /// Channels whose subscriptions control has ended; `None` means all channels.
    pub unsubscribed: Vec<Option<usize>>,
    /// Channels whose history the application has removed.
    pub removed: BTreeSet<usize>,
    pub draining: bool,
    /// Additional bytes in payloads; random if absent.
    pub padding: Option<usize>,
}

impl Truth {
    fn now(&mut self) -> usize {
        self.step += 1;
        self.step
    }

    /// Records an attempt. Returns its number and the payload to publish.
    pub fn invoke(
        &mut self,
        (setup, random): (&Setup, &mut Random),
        channel: usize,
        publisher: Publisher,
    ) -> usize {
        let number = self.attempts.len();
        let long = random.chance(10);
        let some = random.below(if long { 1500 } else { 60 });
        let padding = "x".repeat(self.padding.unwrap_or(some));
        let data = match setup.channels[channel].namespace.data {
            DataType::Json => format!(r##"{{"id":"#{number}#","pad":"{padding}"}}"##).into_bytes(),
            DataType::Text => format!("#{number}# \"\\\n{padding}").into_bytes(),
            DataType::Binary => [b"\xff\0", format!("#{number}#{padding}").as_bytes()].concat(),
        };
        let invoked = self.now();
        self.attempts.push(Attempt {
            channel,
            publisher,
            key: None,
            skip_history: false,
            data,
            invoked,
            acked: None,
            failed: false,
            seen: false,
            place: None,
        });
        number
    }

    pub fn attempt(&mut self, number: usize) -> &mut Attempt {
        &mut self.attempts[number]
    }

    /// Returns the number of acknowledged attempts.
    #[allow(dead_code, reason = "directed tests use it")]
    pub fn acked_count(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.acked.is_some()).count()
    }

    pub fn count(&self) -> usize {
        self.attempts.len()
    }

    /// Records the answer to the publisher. Control receives the position, if there is one.
    pub fn acked(&mut self, number: usize, position: Option<Place>) {
        let now = self.now();
        let attempt = &mut self.attempts[number];
        attempt.acked = Some(now);
        let (channel, key) = (attempt.channel, attempt.key);
        match key {
            None => {
                if let Some(place) = position {
                    self.settle(number, place);
                }
            }
            Some(key) => {
                let first = *self.keys.entry((channel, key)).or_insert(position);
                assert_eq!(first, position, "a repeated key is answered like the first time");
            }
        }
    }

    /// Records a refusal. No client may receive this publication.
    pub fn failed(&mut self, number: usize) {
        self.attempts[number].failed = true;
    }

    /// Records that there was no room for the idempotency key of a publication. An earlier
    /// publication with the same key would have been recognized.
    pub fn key_refused(&mut self, number: usize) {
        let attempt = &self.attempts[number];
        let key = attempt.key.unwrap_or_else(|| panic!("publication {number} has no key"));
        let known = self.keys.contains_key(&(attempt.channel, key));
        assert!(!known, "publication {number} repeats a key, which needs no room");
        self.keys_refused += 1;
        self.failed(number);
    }

    /// Records a received publication. Returns its number.
    pub fn received(&mut self, channel: usize, data: &[u8], place: Option<Place>) -> usize {
        let text = String::from_utf8_lossy(data);
        let number = text.split('#').nth(1).and_then(|number| number.parse::<usize>().ok());
        let number = number.unwrap_or_else(|| panic!("{text:?} was not published"));
        let attempt = self.attempts.get_mut(number).expect("the publication was not sent yet");
        assert_eq!(attempt.channel, channel, "publication {number} came in another channel");
        assert!(attempt.data == data, "publication {number} came with other bytes: {text:?}");
        attempt.seen = true;
        if let Some(place) = place.filter(|place| place.offset > 0) {
            self.settle(number, place);
        }
        number
    }

    /// Checks that a place has one publication, and a publication one place.
    fn settle(&mut self, number: usize, place: Place) {
        let attempt = &mut self.attempts[number];
        let before = *attempt.place.get_or_insert(place);
        assert_eq!(before, place, "publication {number} was appended twice");
        let channel = attempt.channel;
        let there = *self.places.entry((channel, place)).or_insert(number);
        assert_eq!(there, number, "{place:?} of channel {channel} holds two publications");
    }

    /// Returns the place of a publication, if any observation contained it.
    pub fn place(&self, number: usize) -> Option<Place> {
        self.attempts[number].place
    }

    pub fn channel(&self, number: usize) -> usize {
        self.attempts[number].channel
    }

    pub fn publisher(&self, number: usize) -> Publisher {
        self.attempts[number].publisher
    }

    /// Checks the final history of a channel, from `first` up to `top`. Every acknowledged
    /// publication must be in it, unless it is older than `first`, or the channel may have been
    /// evicted for lack of memory.
    pub fn final_history(&self, channel: usize, (first, top): (u64, Place), forgets: bool) {
        for (number, attempt) in self.attempts.iter().enumerate() {
            if attempt.channel != channel || attempt.skip_history || attempt.acked.is_none() {
                continue;
            }
            match attempt.place {
                Some(place) if place.epoch == top.epoch => {
                    assert!(place.offset <= top.offset, "{number} is above the top");
                }
                Some(_) => {}
                None => assert!(
                    first > 1 || attempt.key.is_some() || forgets,
                    "publication {number} was acknowledged and is nowhere"
                ),
            }
        }
    }

    /// Checks that are only possible at the end.
    ///
    /// # Panics
    /// If the server broke a promise.
    pub fn finish(&self) {
        let mut keyed: HashMap<(usize, usize), usize> = HashMap::new();
        for (number, attempt) in self.attempts.iter().enumerate() {
            assert!(!attempt.failed || !attempt.seen, "publication {number} was refused and seen");
            let Some(key) = attempt.key.filter(|_| attempt.seen) else { continue };
            let other = *keyed.entry((attempt.channel, key)).or_insert(number);
            assert_eq!(other, number, "two publications with one key were seen");
            if let (Some(place), Some(Some(told))) =
                (attempt.place, self.keys.get(&(attempt.channel, key)))
            {
                assert_eq!(place, *told, "publication {number} is where its answer said");
            }
        }
        self.check_order();
    }

    /// Checks that a publication acknowledged before another one began has an earlier place.
    fn check_order(&self) {
        type Stream = Vec<(usize, usize, Place)>;
        let mut streams: HashMap<(usize, usize), Stream> = HashMap::new();
        for attempt in self.attempts.iter().filter(|attempt| attempt.key.is_none()) {
            if let (Some(acked), Some(place)) = (attempt.acked, attempt.place) {
                let stream =
                    streams.entry((attempt.channel, attempt.publisher.client)).or_default();
                for &(_, other_acked, other) in stream.iter() {
                    let before = other_acked < attempt.invoked && other.epoch == place.epoch;
                    assert!(!before || other.offset < place.offset, "{other:?} before {place:?}");
                }
                stream.push((attempt.invoked, acked, place));
            }
        }
    }
}
