//! One call of `append.lua`: its keys and arguments, and the meaning of its reply.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::arguments::{argument, named_arguments};
use super::{EntryId, Keys, Offset, Reply, channel_epoch};
use crate::channel::ChannelName;
use crate::ids::Position;
use crate::limits::{BUS_CHANNEL_TTL, BUS_PUBLISHER_TTL, IDEMPOTENCY_TTL};

/// How repeats of a publication are recognised, so that it is appended only once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once {
    /// Repeats are not recognised: each publication is a new one.
    Never,
    /// The publisher's idempotency key.
    Key(Box<str>),
    /// The publication's place in an ingested stream. Only publications after the last ingested one
    /// are appended.
    Ingested {
        /// Name of the ingested stream.
        stream: Arc<str>,
        /// Id of the entry (milliseconds and sequence number), and number of the publication in it.
        place: (u64, u64, u32),
        /// The publisher's idempotency key, if there is one.
        key: Option<Box<str>>,
    },
}

/// The effect of a publication on the durable history of its channel in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// The publication changes no durable history.
    None,
    /// The publication is added to the history.
    Keep {
        /// Maximum number of publications in the history.
        size: usize,
        /// Lifetime of the history after its last publication.
        ttl: Duration,
    },
    /// The history is removed.
    Forget,
}

/// One publication of a batch, or a request to remove a history.
#[derive(Clone, Debug)]
pub struct Appending {
    /// Channel that the record belongs to.
    pub channel: ChannelName,
    /// Whether the publication gets an offset in its channel.
    pub offset: Offset,
    /// How repeats are recognised.
    pub once: Once,
    /// The publication in the form of [`super::record`].
    pub record: Arc<[u8]>,
    /// The effect on the channel's durable history.
    pub durable: Durable,
}

/// A batch for one stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// Index of the stream.
    pub stream: usize,
    /// Identity of the publisher, which differs between nodes, starts and epochs.
    pub publisher: u64,
    /// The publisher's number for the batch. Numbers begin with 1 and have no holes.
    pub number: u64,
    /// The only epoch of the stream in which the batch may be appended.
    pub epoch: u64,
    /// Number of the last entry of that epoch that this node has read. If the stream ends before
    /// it, Redis has lost entries.
    pub seen: u64,
    /// Number of the last entry that this node had read when it first sent the batch. `None` unless
    /// an earlier sending may have been appended.
    pub again: Option<u64>,
    /// Publications in the order in which they are appended.
    pub publications: Vec<Appending>,
}

/// Result of a batch that is in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Entry that contains the batch. If all publications were repeats, it is the stream's last
    /// entry.
    pub at: EntryId,
    /// Position of each publication. `None` if it has no offset, or if it repeats an ingested one.
    pub positions: Vec<Option<Position>>,
    /// Whether each publication is a repeat.
    pub repeats: Vec<bool>,
}

/// Reason why a batch was not appended, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendFailed {
    /// The stream belongs to another server process, or is in another epoch, so it must be fenced.
    /// This call appended nothing.
    Fenced,
    /// The publisher's numbers have a hole, or Redis may have lost the publisher's counter. This
    /// call appended nothing.
    OutOfOrder,
    /// Redis refused the batch with this text. This call appended nothing.
    Refused(String),
    /// Redis refused the batch with this text, but after a new connection another server may accept
    /// it. This call appended nothing.
    WrongServer(String),
    /// No reply arrived, so the batch may have been appended.
    Lost,
}

named_arguments! {
    /// Keys of every batch.
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
    /// Arguments of every batch.
    ARGV: struct AppendHead {
        /// The publisher's number for the batch.
        batch,
        /// Maximum bytes of the stream.
        stream_bytes_max,
        /// Minimum lifetime of the offsets of a silent channel, in milliseconds.
        silent_millis,
        /// Lifetime of the publisher's last reply, in milliseconds.
        publisher_millis,
        /// Lifetime of an idempotency key, in milliseconds.
        idempotency_millis,
        /// Number of channel names that follow.
        channel_count,
        /// Name of the ingested stream of the publications; empty if there is none.
        ingest_name,
        /// For each publication that changes a history: `publication=history:maximum
        /// publications:milliseconds that it is kept `, with a space at the end. `0:0` removes the
        /// history.
        history_list,
        /// The only epoch in which the batch may be appended.
        epoch,
        /// Number of the last entry of that epoch that the caller has read.
        seen,
        /// The value of `Append::again`; empty for `None`.
        again,
    }
}

/// Keys and arguments of a batch's publications, which follow those of every batch.
#[derive(Default)]
struct Rest<'a> {
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
    history_list: String,
    /// Numbers of the histories' keys, by channel, so that each key is passed once.
    histories: HashMap<&'a str, usize>,
}

impl<'a> Rest<'a> {
    /// Adds a key and returns its number. Numbers begin with 1, as in Lua.
    fn add_key(&mut self, key: Vec<u8>) -> usize {
        self.keys.push(key);
        self.keys.len()
    }

    /// Adds the effect on a history for the publication with this `index`.
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
    /// Returns the keys and arguments of the script, for a stream of at most `bytes_max` bytes.
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
        // A batch has one ingested stream at most (`Writer::gather`), so the script takes one name.
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
            let Appending { channel, offset, once, record, durable } = one;
            let name = channel.as_str();
            rest.args.push(argument(match offset {
                Offset::Next => numbers.get(name).copied().unwrap_or(0),
                Offset::None => 0,
            }));
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

    /// Returns the channels in which the script assigns offsets, in the order of its numbers for
    /// them.
    pub fn channels(&self) -> Vec<&str> {
        let mut seen = std::collections::HashSet::new();
        let ordered = self.publications.iter().filter(|one| one.offset == Offset::Next);
        ordered.map(|one| one.channel.as_str()).filter(|name| seen.insert(*name)).collect()
    }

    /// Parses the script's reply. Returns `None` if it has another form.
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
                // A repeat took no new offset, so the publications after it do not count it.
                Some(position) => *position,
                None if one.offset == Offset::None => None,
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

/// Parses `epoch:incarnation:offset`.
fn parse_position(text: &str) -> Option<Position> {
    let mut numbers = text.split(':').map(str::parse::<u64>);
    let (epoch, incarnation) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Position { epoch: channel_epoch(epoch, incarnation), offset: numbers.next()?.ok()? })
}
