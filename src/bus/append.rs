//! One call of the script that appends: what it is given, and what its answer means.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

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

impl Append {
    /// Keys and arguments of the script, for a stream of at most `bytes_max` bytes.
    pub fn keys_and_args(&self, keys: &Keys, bytes_max: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let stream = self.stream;
        let channels = self.channels();
        let mut names = vec![
            keys.stream(stream),
            keys.meta(stream),
            keys.marks(stream),
            keys.publisher(stream, self.publisher),
            keys.places(stream),
            keys.silent(stream),
        ];
        let ingest = self.publications.iter().find_map(|one| match &one.once {
            Once::Ingested { stream, .. } => Some(stream.as_bytes()),
            _ => None,
        });
        let mut args = vec![
            text(self.number),
            text(bytes_max),
            text(BUS_CHANNEL_TTL.as_millis()),
            text(BUS_PUBLISHER_TTL.as_millis()),
            text(IDEMPOTENCY_TTL.as_millis()),
            text(channels.len()),
            ingest.unwrap_or_default().to_vec(),
            Vec::new(),
            text(self.epoch),
            text(self.seen),
        ];
        args.extend(channels.iter().map(text));
        let (mut durable, mut histories) = (String::new(), HashMap::new());
        let numbers: HashMap<&str, usize> =
            channels.iter().enumerate().map(|(at, name)| (*name, at + 1)).collect();
        let fixed = names.len();
        for (index, one) in self.publications.iter().enumerate() {
            let Appending { channel, ordered, once, record, durable: history } = one;
            let number = if *ordered { numbers.get(channel.as_str()) } else { None };
            args.push(text(number.copied().unwrap_or(0)));
            let kept = match history {
                Durable::None => None,
                Durable::Keep { size, ttl } => Some((*size, ttl.as_millis())),
                Durable::Forget => Some((0, 0)),
            };
            if let Some((size, ttl)) = kept {
                let key = *histories.entry(channel.as_str()).or_insert_with(|| {
                    names.push(keys.history(stream, channel.as_str()));
                    names.len() - fixed
                });
                durable += &format!("{index}={key}:{size}:{ttl} ");
            }
            let key = match once {
                Once::Key(key) | Once::Ingested { key: Some(key), .. } => {
                    names.push(keys.idempotency(stream, channel.as_str(), key));
                    names.len() - fixed
                }
                Once::Never | Once::Ingested { key: None, .. } => 0,
            };
            args.push(match once {
                Once::Ingested { place: (ms, sequence, part), .. } => {
                    text(format_args!("i{ms}-{sequence}-{part}:{key}"))
                }
                Once::Never | Once::Key(_) => text(key),
            });
            args.push(record.to_vec());
        }
        args[DURABLE_ARG] = durable.into_bytes();
        (names, args)
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

/// Place of the argument that says of which publications a history is kept.
const DURABLE_ARG: usize = 7;

fn text(value: impl std::fmt::Display) -> Vec<u8> {
    format!("{value}").into_bytes()
}

/// Reads `epoch:incarnation:offset`.
fn parse_position(text: &str) -> Option<Position> {
    let mut numbers = text.split(':').map(str::parse::<u64>);
    let (epoch, incarnation) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Position { epoch: channel_epoch(epoch, incarnation), offset: numbers.next()?.ok()? })
}
