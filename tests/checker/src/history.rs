//! The record of a run: publications with their results, all observations of clients, and the
//! faults. The checks read nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::node::DURABLE;

/// Microseconds since the start of the run.
pub(crate) type Micros = u64;

/// The run's clock.
pub(crate) fn now() -> Micros {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as Micros
}

/// Formats a time in seconds.
pub(crate) fn seconds(at: Micros) -> String {
    format!("{:.3} s", at as f64 / 1e6)
}

/// The place of a publication in its channel: an epoch's number in [`Epochs`], and an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Place {
    pub(crate) epoch: u16,
    pub(crate) offset: u32,
}

/// The final result that a publisher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The answer says that it was appended. In channels with history it must contain the place.
    Ok(Option<Place>),
    /// Certainly not appended.
    Fail,
    /// The result is unknown.
    Info,
}

/// One publication. Its number is its index in [`History::publications`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Publication {
    pub(crate) pid: u32,
    pub(crate) publisher: u16,
    pub(crate) channel: u16,
    /// Start of the first attempt, and the time at which the last one was answered or given up.
    pub(crate) invoked: Micros,
    pub(crate) done: Micros,
    pub(crate) outcome: Outcome,
    /// More than one is only possible with an idempotency key.
    pub(crate) attempts: u16,
}

/// An observation of one client.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// A subscription began. Each one of a client has a new `sub`.
    Subscribed {
        sub: u32,
        channel: u16,
        since: Option<Place>,
        recovered: bool,
        place: Place,
        at: Micros,
    },
    /// A publication arrived, live or in the reply to a subscription.
    Received { sub: u32, channel: u16, place: Place, pid: u32, in_reply: bool, at: Micros },
    /// The server ended a subscription.
    Unsubscribed { channel: u16, code: u16, at: Micros },
    /// The connection ended, with the server's close code or 0.
    Closed { node: u8, code: u16, at: Micros },
    /// A message that a server must not send.
    Odd { text: String, at: Micros },
}

/// One client, with its state at the end of the run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Client {
    pub(crate) events: Vec<Event>,
    /// Its channels, with its position in each if it is subscribed.
    pub(crate) end: Vec<(u16, Option<Place>)>,
}

/// The loss that a fault may cause in channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Takes {
    /// Nothing, so no client may be told about a loss.
    Nothing,
    /// Entries of a stream.
    Entries,
    /// The epoch, with all its publications.
    Epoch,
    /// The same in the end, but before that, an old and a new epoch exist at the same time.
    Split,
}

/// A channel that no namespace allows.
pub(crate) const NOWHERE: &str = "nowhere:1";

/// An entry that was added to the ingest stream.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    /// The publication's number, and its channel. Both are `None` if it can't be published; its
    /// channel is then [`NOWHERE`].
    pub(crate) pid: Option<u32>,
    pub(crate) channel: Option<u16>,
    /// The id that Redis returned, if it did.
    pub(crate) id: Option<String>,
    pub(crate) invoked: Micros,
    pub(crate) done: Micros,
}

/// A fault that was caused.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
    pub(crate) begin: Micros,
    pub(crate) end: Micros,
    pub(crate) takes: Takes,
    /// Affected channels; `None` means all.
    pub(crate) channels: Option<Vec<u16>>,
}

impl Fault {
    /// Whether it may have caused this loss in the channel.
    pub(crate) fn took(&self, what: Takes, channel: u16) -> bool {
        let concerned = self.channels.as_ref().is_none_or(|some| some.contains(&channel));
        let ends = what == Takes::Epoch && self.takes == Takes::Split;
        (self.takes == what || ends) && concerned
    }

    /// Whether it may have caused any loss in the channel.
    pub(crate) fn took_any(&self, channel: u16) -> bool {
        self.took(Takes::Entries, channel) || self.took(Takes::Epoch, channel)
    }
}

/// A channel's history as one node returned it at the end.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Final {
    pub(crate) node: u8,
    pub(crate) channel: u16,
    pub(crate) top: Place,
    /// Offset and number of each publication, in the order of the reply.
    pub(crate) publications: Vec<(u32, u32)>,
}

impl Final {
    /// Returns the first offset that is kept, or one above the top if there is none.
    pub(crate) fn first(&self) -> u32 {
        self.publications.first().map_or(self.top.offset + 1, |(offset, _)| *offset)
    }
}

/// One publication after all faults were repaired.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Probe {
    pub(crate) node: u8,
    pub(crate) channel: u16,
    pub(crate) took: Micros,
    pub(crate) error: Option<String>,
}

/// The usage of a node before and after the load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Usage {
    pub(crate) what: String,
    pub(crate) before: u64,
    pub(crate) after: u64,
    /// Maximum allowed value of `after`.
    pub(crate) limit: u64,
}

/// All information about a run.
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
    /// Channel and id of entries that were set aside, because a server that took over may reuse an
    /// id. `untaken` counts entries that were not taken in or not acknowledged.
    pub(crate) dead: Vec<String>,
    pub(crate) untaken: u64,
    /// Errors after the repair, such as a node that did not start.
    pub(crate) unhealed: Vec<String>,
}

/// The source of an observation.
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

/// An observation of publication `pid` at `place` of `channel`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) channel: u16,
    pub(crate) place: Place,
    pub(crate) pid: u32,
    /// Its time, if that matters. Final histories have the maximum.
    pub(crate) at: Micros,
    pub(crate) by: Witness,
}

impl History {
    /// Formats a place.
    pub(crate) fn show(&self, channel: u16, place: Place) -> String {
        let unknown = String::from("?");
        let channel = self.channels.get(usize::from(channel)).unwrap_or(&unknown);
        let epoch = self.epochs.get(usize::from(place.epoch)).unwrap_or(&unknown);
        format!("{channel} {epoch}:{}", place.offset)
    }

    /// Whether the channel has a durable history in Redis.
    pub(crate) fn is_durable(&self, channel: u16) -> bool {
        self.channel(channel).starts_with(DURABLE)
    }

    /// Returns a channel's name.
    pub(crate) fn channel(&self, channel: u16) -> &str {
        self.channels.get(usize::from(channel)).map_or("?", String::as_str)
    }

    /// Returns everything that clients received and histories contain.
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

    /// Returns the same, and answers to publishers.
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

/// Numbers for epochs, which are texts in the protocol.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Mutex<(HashMap<String, u16>, Vec<String>)>);

impl Epochs {
    /// Returns the epoch's number, which is new for a new epoch.
    pub(crate) fn number(&self, text: &str) -> u16 {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (numbers, texts) = &mut *inner;
        if let Some(number) = numbers.get(text) {
            return *number;
        }
        // One epoch per channel and fault: far below 65,536, even in a run of hours.
        let number = u16::try_from(texts.len()).unwrap_or(u16::MAX);
        numbers.insert(text.to_owned(), number);
        texts.push(text.to_owned());
        number
    }

    /// Returns the texts of all epochs, by number.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}
