//! One call of the script that appends: what it is given, and what its answer means.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::arguments::{argument, named_arguments};
use super::{EntryId, Keys, Reply, channel_epoch};
use crate::channel::ChannelName;
use crate::ids::Position;
use crate::limits::{BUS_CHANNEL_TTL, BUS_PUBLISHER_TTL, IDEMPOTENCY_TTL};

/// What makes a publication happen once, however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once {
    /// Nothing: each is its own.
    Never,
    /// The publisher's key for it.
    Key(Box<str>),
    /// Its place in a stream that is ingested: only what comes after the last one is appended.
    Ingested {
        /// The stream.
        stream: Arc<str>,
        /// Id of the entry and number of the publication in it.
        place: (u64, u64, u32),
        /// The publisher's key for it, if it has one.
        key: Option<Box<str>>,
    },
}

/// What becomes of a history that Redis keeps for one channel, beside the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// There is none.
    None,
    /// The publication is added to it.
    Keep {
        /// Most publications in it.
        size: usize,
        /// How long it is kept after the last one.
        ttl: Duration,
    },
    /// It is forgotten.
    Forget,
}

/// One publication of a batch, or one wish that a history be forgotten.
#[derive(Clone, Debug)]
pub struct Appending {
    /// Its channel.
    pub channel: ChannelName,
    /// Whether it gets an offset there.
    pub ordered: bool,
    /// What makes it happen once.
    pub once: Once,
    /// Its record.
    pub record: Arc<[u8]>,
    /// What becomes of the channel's own history.
    pub durable: Durable,
}

/// A batch for one stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// Which stream.
    pub stream: usize,
    /// Who appends.
    pub publisher: u64,
    /// The publisher's number for the batch, from 1, without holes.
    pub number: u64,
    /// The only epoch of the stream in which it may be appended.
    pub epoch: u64,
    /// The last entry of that epoch that this node has read: a stream that ends before was set
    /// back.
    pub seen: u64,
    /// The last entry that it had read when it was sent for the first time; absent unless that may
    /// have been taken.
    pub again: Option<u64>,
    /// What is in it, in its order.
    pub publications: Vec<Appending>,
}

/// What was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The entry that has the batch; if all of it was there before, the last one of the stream.
    pub at: EntryId,
    /// For each publication its position; absent if it has no offset, or had one of an ingested
    /// entry that was published before.
    pub positions: Vec<Option<Position>>,
    /// For each publication whether it was there before.
    pub repeats: Vec<bool>,
}

/// Why nothing was, or may have been, appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendFailed {
    /// The stream belongs to another server process, or is in another epoch: fence it. Nothing was
    /// appended.
    Fenced,
    /// The publisher's numbers have a hole. Nothing was appended.
    OutOfOrder,
    /// Redis refused, and says why. Nothing was appended.
    Refused(String),
    /// Redis refused, and another server may not: connect anew. Nothing was appended.
    WrongServer(String),
    /// No answer came: it may have been appended.
    Lost,
}

named_arguments! {
    /// The keys that every batch has.
    KEYS: struct AppendKeys {
        stream_key,
        meta_key,
        marks_key,
        publisher_key,
        places_key,
        silent_key,
    }
}

named_arguments! {
    /// The arguments that every batch has.
    ARGV: struct AppendHead {
        /// The publisher's number for the batch.
        batch,
        /// Bytes that the stream may have.
        stream_bytes_max,
        /// Milliseconds that a silent channel keeps its offsets at least.
        silent_millis,
        /// Milliseconds that a publisher is known.
        publisher_millis,
        /// Milliseconds that an idempotency key is known.
        idempotency_millis,
        /// How many names of channels follow.
        channel_count,
        /// The ingested stream that publications are from; empty if there is none.
        ingest_name,
        /// For each publication whose channel has a history: `publication=history:most
        /// publications:milliseconds that it is kept `. It is forgotten with `0:0`.
        history_list,
        /// The epoch in which the batch was sent for the first time.
        epoch,
        /// The last entry of that epoch that the caller has read.
        seen,
        /// The entry that it had read when the batch was sent for the first time, if that may have
        /// been taken; otherwise empty.
        again,
    }
}

/// Keys and arguments of a batch's publications, after those that every batch has.
#[derive(Default)]
struct Rest<'a> {
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
    history_list: String,
    /// The number of each history among the keys.
    histories: HashMap<&'a str, usize>,
}

impl<'a> Rest<'a> {
    /// Adds a key; returns its number, from 1.
    fn add_key(&mut self, key: Vec<u8>) -> usize {
        self.keys.push(key);
        self.keys.len()
    }

    /// Says what becomes of the history of the publication with this `index`.
    fn add_history(&mut self, index: usize, durable: Durable, channel: &'a str, key: Vec<u8>) {
        let (size, ttl) = match durable {
            Durable::None => return,
            Durable::Keep { size, ttl } => (size, ttl.as_millis()),
            Durable::Forget => (0, 0),
        };
        let known = self.histories.get(channel).copied();
        let number = known.unwrap_or_else(|| self.add_key(key));
        self.histories.insert(channel, number);
        self.history_list += &format!("{index}={number}:{size}:{ttl} ");
    }
}

impl Append {
    /// Keys and arguments of the script, for a stream of at most `bytes_max` bytes.
    pub fn keys_and_args(&self, keys: &Keys, bytes_max: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let stream = self.stream;
        let names = AppendKeys {
            stream_key: keys.stream(stream),
            meta_key: keys.meta(stream),
            marks_key: keys.marks(stream),
            publisher_key: keys.publisher(stream, self.publisher),
            places_key: keys.places(stream),
            silent_key: keys.silent(stream),
        };
        let ingest = self.publications.iter().find_map(|one| match &one.once {
            Once::Ingested { stream, .. } => Some(stream.as_bytes()),
            _ => None,
        });
        let channels = self.channels();
        let rest = self.rest(keys, &channels);
        let head = AppendHead {
            batch: argument(self.number),
            stream_bytes_max: argument(bytes_max),
            silent_millis: argument(BUS_CHANNEL_TTL.as_millis()),
            publisher_millis: argument(BUS_PUBLISHER_TTL.as_millis()),
            idempotency_millis: argument(IDEMPOTENCY_TTL.as_millis()),
            channel_count: argument(channels.len()),
            ingest_name: ingest.unwrap_or_default().to_vec(),
            history_list: rest.history_list.into_bytes(),
            epoch: argument(self.epoch),
            seen: argument(self.seen),
            again: self.again.map(argument).unwrap_or_default(),
        };
        let (mut names, mut args) = (names.into_list(), head.into_list());
        names.extend(rest.keys);
        args.extend(channels.iter().map(argument));
        args.extend(rest.args);
        (names, args)
    }

    fn rest<'a>(&'a self, keys: &Keys, channels: &[&str]) -> Rest<'a> {
        let mut rest = Rest::default();
        let numbers: HashMap<&str, usize> =
            channels.iter().enumerate().map(|(at, name)| (*name, at + 1)).collect();
        for (index, one) in self.publications.iter().enumerate() {
            let Appending { channel, ordered, once, record, durable } = one;
            let name = channel.as_str();
            let number = if *ordered { numbers.get(name) } else { None };
            rest.args.push(argument(number.copied().unwrap_or(0)));
            rest.add_history(index, *durable, name, keys.history(self.stream, name));
            let key = match once {
                Once::Key(key) | Once::Ingested { key: Some(key), .. } => {
                    rest.add_key(keys.idempotency(self.stream, name, key))
                }
                Once::Never | Once::Ingested { key: None, .. } => 0,
            };
            rest.args.push(match once {
                Once::Ingested { place: (ms, sequence, part), .. } => {
                    argument(format_args!("i{ms}-{sequence}-{part}:{key}"))
                }
                Once::Never | Once::Key(_) => argument(key),
            });
            rest.args.push(record.to_vec());
        }
        rest
    }

    /// Channels in which offsets are given, in the order of the script's numbers.
    pub fn channels(&self) -> Vec<&str> {
        let mut seen = std::collections::HashSet::new();
        let ordered = self.publications.iter().filter(|one| one.ordered);
        ordered.map(|one| one.channel.as_str()).filter(|name| seen.insert(*name)).collect()
    }

    /// What the script's answer says. Absent if it is not one.
    pub fn answer(&self, reply: &Reply) -> Option<Appended> {
        let [said, epoch, number, bases, repeats] = reply.list()? else { return None };
        if !matches!(said.text()?, "ok" | "dup") {
            return None;
        }
        let epoch = epoch.number()?;
        let at = EntryId { epoch, number: number.number()? };
        let channels = self.channels();
        let mut places: HashMap<&str, (u64, u64)> = HashMap::new();
        for base in bases.text()?.split_ascii_whitespace() {
            let (number, base) = base.split_once('=')?;
            let name = channels.get(number.parse::<usize>().ok()?.checked_sub(1)?)?;
            let (incarnation, offset) = base.split_once(':')?;
            places.insert(name, (incarnation.parse().ok()?, offset.parse().ok()?));
        }
        let mut repeated: HashMap<usize, Option<Position>> = HashMap::new();
        for repeat in repeats.text()?.split_ascii_whitespace() {
            let (index, position) = repeat.split_once('=')?;
            let position = if position == "-" { None } else { Some(parse_position(position)?) };
            repeated.insert(index.parse().ok()?, position);
        }
        let mut positions = Vec::with_capacity(self.publications.len());
        for (index, one) in self.publications.iter().enumerate() {
            positions.push(match repeated.get(&index) {
                Some(position) => *position,
                None if !one.ordered => None,
                None => {
                    let place = places.get_mut(one.channel.as_str())?;
                    place.1 += 1;
                    Some(Position { epoch: channel_epoch(epoch, place.0), offset: place.1 })
                }
            });
        }
        let repeats = (0..positions.len()).map(|index| repeated.contains_key(&index)).collect();
        Some(Appended { at, positions, repeats })
    }
}

/// Reads `epoch:incarnation:offset`.
fn parse_position(text: &str) -> Option<Position> {
    let mut numbers = text.split(':').map(str::parse::<u64>);
    let (epoch, incarnation) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Position { epoch: channel_epoch(epoch, incarnation), offset: numbers.next()?.ok()? })
}
