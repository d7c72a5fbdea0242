//! A publication in the encoding of the bus. Each length precedes the bytes or items that it
//! counts, and numbers are little-endian.
//!
//! ```text
//! kind 1 B · flags 1 B · channel length 1 B, channel · data length 4 B, data · number of tags 2 B,
//! each: key length 2 B, key, value length 2 B, value · with flag PUBLISHER: user length 2 B, user,
//! client id 16 B
//! ```

use crate::channel::{Publication, Publisher};
use crate::ids::ClientId;

const PUBLICATION: u8 = 1;
const REMOVE_HISTORY: u8 = 2;

const ORDERED: u8 = 1;
const PUBLISHER: u8 = 2;

/// The offset of a publication in its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// The next one.
    Next,
    /// None: it is outside of the channel's order.
    None,
}

/// One record of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A publication.
    Publication {
        /// Channel of the publication.
        channel: &'a str,
        /// Its offset.
        offset: Offset,
        /// The payload.
        data: &'a [u8],
        /// The publication's tags, as keys and values.
        tags: Vec<(&'a str, &'a str)>,
        /// User and client id of the publisher, if a client published.
        publisher: Option<(&'a str, ClientId)>,
    },
    /// The history of a channel is to be removed.
    RemoveHistory {
        /// Channel of the history.
        channel: &'a str,
    },
}

/// Encodes a publication. It must fit, see [`fits`].
pub fn encode(channel: &str, publication: &Publication, offset: Offset) -> Vec<u8> {
    let publisher = publication.publisher.as_deref();
    let ordered = if offset == Offset::Next { ORDERED } else { 0 };
    let flags = ordered | if publisher.is_some() { PUBLISHER } else { 0 };
    let mut out = Vec::with_capacity(publication.data.len() + channel.len() + 32);
    out.extend([PUBLICATION, flags, channel.len() as u8]);
    out.extend(channel.as_bytes());
    out.extend((publication.data.len() as u32).to_le_bytes());
    out.extend(&publication.data);
    out.extend((publication.tags.len() as u16).to_le_bytes());
    for (key, value) in &publication.tags {
        put_text(&mut out, key);
        put_text(&mut out, value);
    }
    if let Some(Publisher { user, client }) = publisher {
        put_text(&mut out, user);
        out.extend(client.raw().to_le_bytes());
    }
    out
}

/// Encodes a request to remove a history.
pub fn encode_remove_history(channel: &str) -> Vec<u8> {
    let mut out = vec![REMOVE_HISTORY, 0, channel.len() as u8];
    out.extend(channel.as_bytes());
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Whether all lengths of a publication fit into their fields.
pub fn fits(channel: &str, publication: &Publication) -> bool {
    let short = |text: &str| text.len() <= usize::from(u16::MAX);
    let user = publication.publisher.as_deref().is_none_or(|publisher| short(&publisher.user));
    channel.len() <= usize::from(u8::MAX)
        && publication.data.len() <= u32::MAX as usize
        && publication.tags.len() <= usize::from(u16::MAX)
        && publication.tags.iter().all(|(key, value)| short(key) && short(value))
        && user
}

/// Removes the first record from `bytes` and returns it. `None` if it is malformed.
pub fn decode<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let [kind, flags, channel_bytes] = *take(bytes, 3)?.first_chunk::<3>()?;
    let channel = take_text(bytes, usize::from(channel_bytes))?;
    match kind {
        PUBLICATION => {
            let data_bytes = u32::from_le_bytes(*take(bytes, 4)?.first_chunk()?);
            let data = take(bytes, data_bytes as usize)?;
            let count = take_u16(bytes)?;
            let mut tags = Vec::new();
            for _ in 0..count {
                tags.push((take_counted(bytes)?, take_counted(bytes)?));
            }
            let publisher = if flags & PUBLISHER == 0 {
                None
            } else {
                let user = take_counted(bytes)?;
                let raw = u128::from_le_bytes(*take(bytes, 16)?.first_chunk()?);
                Some((user, ClientId::from_raw(raw)))
            };
            let offset = if flags & ORDERED != 0 { Offset::Next } else { Offset::None };
            Some(Record::Publication { channel, offset, data, tags, publisher })
        }
        REMOVE_HISTORY => Some(Record::RemoveHistory { channel }),
        _ => None,
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn take_u16(bytes: &mut &[u8]) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(*take(bytes, 2)?.first_chunk()?)))
}

fn take_text<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a str> {
    std::str::from_utf8(take(bytes, count)?).ok()
}

fn take_counted<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let count = take_u16(bytes)?;
    take_text(bytes, count)
}
