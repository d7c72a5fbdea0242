//! The record of a run: what was published and what became of it, what every client was told, and
//! what was broken when. The checks read nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::node::DURABLE;

/// Microseconds since the run began.
pub(crate) type Micros = u64;

/// The run's clock.
pub(crate) fn now() -> Micros {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as Micros
}

/// A moment as people read it.
pub(crate) fn seconds(at: Micros) -> String {
    format!("{:.3} s", at as f64 / 1e6)
}

/// Where a publication stands in its channel: an epoch's number in [`Epochs`], and an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Place {
    pub(crate) epoch: u16,
    pub(crate) offset: u32,
}

/// What a publisher knows in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Appended, says the answer; where, it must say in channels with history.
    Ok(Option<Place>),
    /// Certainly not appended.
    Fail,
    /// Nobody knows.
    Info,
}

/// One publication. Its number is its index in [`History::publications`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Publication {
    pub(crate) pid: u32,
    pub(crate) publisher: u16,
    pub(crate) channel: u16,
    /// When the first attempt began, and when the last one was answered or given up.
    pub(crate) invoked: Micros,
    pub(crate) done: Micros,
    pub(crate) outcome: Outcome,
    /// More than one only with an idempotency key.
    pub(crate) attempts: u16,
}

/// What one client saw, in the order in which it saw it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// A subscription stands. `sub` is new for every one of a client's.
    Subscribed {
        sub: u32,
        channel: u16,
        since: Option<Place>,
        recovered: bool,
        place: Place,
        at: Micros,
    },
    /// A publication came, live or in the answer to a subscription.
    Received { sub: u32, channel: u16, place: Place, pid: u32, in_reply: bool, at: Micros },
    /// A subscription was ended by the server.
    Unsubscribed { channel: u16, code: u16, at: Micros },
    /// The connection ended: the server's close code, or 0 for none.
    Closed { node: u8, code: u16, at: Micros },
    /// Something that no server may say.
    Odd { text: String, at: Micros },
}

/// One client, and where it stood when the run ended.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Client {
    pub(crate) events: Vec<Event>,
    /// Channels that it wants, and where it stands in each if it is subscribed.
    pub(crate) end: Vec<(u16, Option<Place>)>,
}

/// What a fault may take from channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Takes {
    /// Nothing: nobody may be told of anything.
    Nothing,
    /// Entries of a stream.
    Entries,
    /// The epoch, and all that was in it.
    Epoch,
    /// The same in the end, but until then some go on in the old epoch and others in a new one.
    Split,
}

/// A channel that no namespace allows.
pub(crate) const NOWHERE: &str = "nowhere:1";

/// Something that was added to the stream from which nodes take publications in.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    /// The publication's number, and its channel; none if nobody can publish it, and the channel
    /// is [`NOWHERE`].
    pub(crate) pid: Option<u32>,
    pub(crate) channel: Option<u16>,
    /// What Redis called it; none if it did not say.
    pub(crate) id: Option<String>,
    pub(crate) invoked: Micros,
    pub(crate) done: Micros,
}

/// Something that was broken on purpose.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
    pub(crate) begin: Micros,
    pub(crate) end: Micros,
    pub(crate) takes: Takes,
    /// Channels that it concerns; none means all.
    pub(crate) channels: Option<Vec<u16>>,
}

impl Fault {
    /// Whether it may have taken this from the channel.
    pub(crate) fn took(&self, what: Takes, channel: u16) -> bool {
        let concerned = self.channels.as_ref().is_none_or(|some| some.contains(&channel));
        let ends = what == Takes::Epoch && self.takes == Takes::Split;
        (self.takes == what || ends) && concerned
    }

    /// Whether it may have taken anything from the channel.
    pub(crate) fn took_any(&self, channel: u16) -> bool {
        self.took(Takes::Entries, channel) || self.took(Takes::Epoch, channel)
    }
}

/// A channel's history as one node told it in the end.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Final {
    pub(crate) node: u8,
    pub(crate) channel: u16,
    pub(crate) top: Place,
    /// Offset and number of each publication, as they came.
    pub(crate) publications: Vec<(u32, u32)>,
}

impl Final {
    /// The first offset that is kept; one above the top if nothing is.
    pub(crate) fn first(&self) -> u32 {
        self.publications.first().map_or(self.top.offset + 1, |(offset, _)| *offset)
    }
}

/// One publication after everything was healed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Probe {
    pub(crate) node: u8,
    pub(crate) channel: u16,
    pub(crate) took: Micros,
    pub(crate) error: Option<String>,
}

/// What a node used before the load and after it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Usage {
    pub(crate) what: String,
    pub(crate) before: u64,
    pub(crate) after: u64,
    /// What `after` may be at most.
    pub(crate) limit: u64,
}

/// Everything that is known about a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) channels: Vec<String>,
    pub(crate) epochs: Vec<String>,
    pub(crate) publications: Vec<Publication>,
    pub(crate) clients: Vec<Client>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) finals: Vec<Final>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) usages: Vec<Usage>,
    pub(crate) entries: Vec<Entry>,
    /// Entries that were set aside in the end, by channel and name, for a server that took over may
    /// give a name again; and how many nobody has taken or acknowledged.
    pub(crate) dead: Vec<String>,
    pub(crate) untaken: u64,
    /// What went wrong when all was healed: a node that did not come back, for one.
    pub(crate) unhealed: Vec<String>,
}

/// Who says that a publication stands somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    Client(usize),
    Publisher(u16),
    Node(u8),
}

impl std::fmt::Display for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Witness::Client(client) => write!(f, "client {client}"),
            Witness::Publisher(publisher) => write!(f, "publisher {publisher}'s answer"),
            Witness::Node(node) => write!(f, "node {node}'s history"),
        }
    }
}

/// Someone says that publication `pid` stands at `place` of `channel`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) channel: u16,
    pub(crate) place: Place,
    pub(crate) pid: u32,
    /// When, as far as it matters; final histories are read at the end of time.
    pub(crate) at: Micros,
    pub(crate) by: Witness,
}

impl History {
    /// A place as people read it.
    pub(crate) fn show(&self, channel: u16, place: Place) -> String {
        let unknown = String::from("?");
        let channel = self.channels.get(usize::from(channel)).unwrap_or(&unknown);
        let epoch = self.epochs.get(usize::from(place.epoch)).unwrap_or(&unknown);
        format!("{channel} {epoch}:{}", place.offset)
    }

    /// Whether Redis keeps the channel's history besides.
    pub(crate) fn is_durable(&self, channel: u16) -> bool {
        self.channel(channel).starts_with(DURABLE)
    }

    /// A channel's name.
    pub(crate) fn channel(&self, channel: u16) -> &str {
        self.channels.get(usize::from(channel)).map_or("?", String::as_str)
    }

    /// Everything that clients received and histories hold.
    pub(crate) fn seen(&self) -> impl Iterator<Item = Sighting> {
        let clients = self.clients.iter().enumerate().flat_map(|(client, record)| {
            record.events.iter().filter_map(move |event| match *event {
                Event::Received { channel, place, pid, at, .. } => {
                    Some(Sighting { channel, place, pid, at, by: Witness::Client(client) })
                }
                _ => None,
            })
        });
        let finals = self.finals.iter().flat_map(|read| {
            read.publications.iter().map(|&(offset, pid)| Sighting {
                channel: read.channel,
                place: Place { epoch: read.top.epoch, offset },
                pid,
                at: Micros::MAX,
                by: Witness::Node(read.node),
            })
        });
        clients.chain(finals)
    }

    /// Those, and what publishers were answered.
    pub(crate) fn sightings(&self) -> impl Iterator<Item = Sighting> {
        let answers = self.publications.iter().filter_map(|publication| {
            let Outcome::Ok(Some(place)) = publication.outcome else { return None };
            Some(Sighting {
                channel: publication.channel,
                place,
                pid: publication.pid,
                at: publication.done,
                by: Witness::Publisher(publication.publisher),
            })
        });
        answers.chain(self.seen())
    }
}

/// Numbers for epochs, which are texts on the wire.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Mutex<(HashMap<String, u16>, Vec<String>)>);

impl Epochs {
    /// The epoch's number; a new one if it was never seen.
    pub(crate) fn number(&self, text: &str) -> u16 {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (numbers, texts) = &mut *inner;
        if let Some(number) = numbers.get(text) {
            return *number;
        }
        // An epoch per channel and fault: far below 65,536 in any run of hours.
        let number = u16::try_from(texts.len()).unwrap_or(u16::MAX);
        numbers.insert(text.to_owned(), number);
        texts.push(text.to_owned());
        number
    }

    /// All of them, by number.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}
