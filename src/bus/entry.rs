//! An entry of a stream: the records of one batch, and the positions of their channels before it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::record::{self, Offset, Record};
use super::{Reply, channel_epoch};
use crate::channel::{ChannelName, Namespace, Namespaces, Publication, Publisher, check_payload};
use crate::ids::{Epoch, Moment};

/// Id of an entry. Numbers are contiguous within an epoch and begin with 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    /// The stream's epoch; 0 before the first one.
    pub epoch: u64,
    /// Number of the entry in its epoch.
    pub number: u64,
}

impl EntryId {
    /// Parses an id of the form `epoch-number`.
    pub fn parse(text: &str) -> Option<EntryId> {
        let (epoch, number) = text.split_once('-')?;
        Some(EntryId { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// An entry as it was read. Only the id has been parsed; the rest is untrusted bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Id of the entry.
    pub id: EntryId,
    /// When Redis appended it, in milliseconds of its clock since 1970.
    pub appended_ms: u64,
    /// Positions of the channels before the entry, in the order in which the records first name
    /// them.
    pub bases: Vec<u8>,
    /// The records, one after the other.
    pub records: Vec<u8>,
}

/// An entry that a node could not have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the bus is not what a node writes")]
pub struct Malformed;

/// One record of an entry, with its position resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A publication with its position. Offset 0 means that it is outside of the channel's order.
    Publication {
        /// Channel of the publication.
        channel: ChannelName,
        /// The channel's epoch, as clients see it.
        epoch: Epoch,
        /// The publication, with its offset.
        publication: Arc<Publication>,
    },
    /// The history of a channel is to be removed.
    RemoveHistory {
        /// Channel of the history.
        channel: ChannelName,
    },
}

/// Bytes that no record begins with, so they are malformed.
const NO_RECORD: &[u8] = &[0];

impl Entry {
    /// Parses one element of a reply to XREAD or XRANGE. An entry without our fields is returned
    /// too, with malformed items: it must count, because the reader would not get past it
    /// otherwise.
    ///
    /// # Errors
    /// It has no id.
    pub fn from_reply(reply: &Reply) -> Result<Entry, Malformed> {
        let [id, fields] = reply.list().ok_or(Malformed)? else { return Err(Malformed) };
        let id = id.text().and_then(EntryId::parse).ok_or(Malformed)?;
        let fields = fields.list().unwrap_or_default();
        let field = |name: &str| {
            let mut pairs = fields.chunks_exact(2);
            pairs.find(|pair| pair[0].text() == Some(name)).map(|pair| &pair[1])
        };
        Ok(Entry {
            id,
            appended_ms: field("t").and_then(Reply::number).unwrap_or_default(),
            bases: field("c").and_then(Reply::bytes).unwrap_or_default().to_vec(),
            records: field("d").and_then(Reply::bytes).unwrap_or(NO_RECORD).to_vec(),
        })
    }

    /// Parses the records. Publications in namespaces that this node does not have are left out.
    ///
    /// # Errors
    /// The entry contains something that a node does not write.
    pub fn items(&self, namespaces: &Namespaces, now: Moment) -> Result<Vec<Item>, Malformed> {
        let mut bases = Bases::parse(&self.bases)?;
        let mut records = &self.records[..];
        let mut items = Vec::new();
        while !records.is_empty() {
            let record = record::decode(&mut records).ok_or(Malformed)?;
            let item = match record {
                Record::RemoveHistory { channel } => {
                    Some(Item::RemoveHistory { channel: ChannelName::new(channel) })
                }
                Record::Publication { channel, offset, .. } => {
                    let (incarnation, offset) = match offset {
                        Offset::Next => bases.next(channel)?,
                        Offset::None => (0, 0),
                    };
                    // Settings of nodes may differ, for example during an update. The record has
                    // taken its offset from `bases` all the same.
                    let Ok(namespace) = namespaces.resolve(channel) else { continue };
                    let publication = publication(namespace, &record, offset, now)?;
                    Some(Item::Publication {
                        channel: ChannelName::new(channel),
                        epoch: channel_epoch(self.id.epoch, incarnation),
                        publication: Arc::new(publication),
                    })
                }
            };
            items.extend(item);
        }
        Ok(items)
    }
}

/// Returns the publication of a record, checked for the channel's `namespace`.
pub(super) fn publication(
    namespace: &Namespace,
    record: &Record<'_>,
    offset: u64,
    now: Moment,
) -> Result<Publication, Malformed> {
    let Record::Publication { data, tags, publisher, .. } = record else { return Err(Malformed) };
    let boxed = |text: &str| -> Box<str> { Box::from(text) };
    Ok(Publication {
        data: check_payload(namespace.data, data).map_err(|_| Malformed)?,
        offset,
        publisher: publisher
            .map(|(user, client)| Box::new(Publisher { user: boxed(user), client })),
        tags: tags.iter().map(|(key, value)| (boxed(key), boxed(value))).collect(),
        accepted: now,
    })
}

/// Positions of channels before an entry, in the order in which its records first name them.
struct Bases<'a> {
    unused: std::vec::IntoIter<(u64, u64)>,
    named: HashMap<&'a str, (u64, u64)>,
}

impl<'a> Bases<'a> {
    fn parse(bytes: &[u8]) -> Result<Bases<'a>, Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
        let parsed: Option<Vec<(u64, u64)>> = text
            .split_ascii_whitespace()
            .map(|base| {
                let (incarnation, offset) = base.split_once(':')?;
                Some((incarnation.parse().ok()?, offset.parse().ok()?))
            })
            .collect();
        let unused = parsed.ok_or(Malformed)?.into_iter();
        Ok(Bases { unused, named: HashMap::default() })
    }

    /// Returns incarnation and offset of the next record of `channel`.
    fn next(&mut self, channel: &'a str) -> Result<(u64, u64), Malformed> {
        let base = match self.named.entry(channel) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(self.unused.next().ok_or(Malformed)?)
            }
        };
        base.1 = base.1.checked_add(1).ok_or(Malformed)?;
        Ok(*base)
    }
}
