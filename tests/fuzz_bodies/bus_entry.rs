//! Entries of the bus. Reading any stream must neither panic nor use disproportionate memory, and
//! each accepted record must be one that a node could have written.

use corecast::bus::{Entry, EntryId, Item, Record, Reply, record};
use corecast::channel::{Publication, Publisher};
use corecast::ids::Moment;

use crate::namespaces;

/// Size of the smallest tag: two lengths.
const TAG_BYTES_MIN: usize = 4;

/// Size of the smallest record: kind, flags and the length of the channel.
const RECORD_BYTES_MIN: usize = 3;

/// Known flags of a record. Others are ignored and not written again.
const FLAGS: u8 = 3;

/// The first byte determines the form of Redis' answer, and the second one the length of the bases.
/// The bases and the records follow.
///
/// # Panics
/// If a check fails.
pub(crate) fn check(data: &[u8]) {
    let [form, bases, rest @ ..] = data else { return };
    check_records(rest);
    let (bases, records) = rest.split_at(rest.len().min(usize::from(*bases)));
    check_records(records);
    let entry = Entry {
        id: EntryId { epoch: 7, number: 1 },
        appended_ms: 1,
        bases: bases.to_vec(),
        records: records.to_vec(),
    };
    check_items(&entry);
    check_reply(*form, &entry);
}

/// Decodes records until one is refused. Encoding each of them must return the same bytes.
fn check_records(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest;
        let Some(record) = record::decode(&mut rest) else { return };
        let taken = &before[..before.len() - rest.len()];
        assert!(taken.len() >= RECORD_BYTES_MIN, "every record takes bytes");
        let mut expected = taken.to_vec();
        expected[1] &= FLAGS;
        match &record {
            Record::RemoveHistory { channel } => {
                expected[1] = 0;
                assert_eq!(record::encode_remove_history(channel), expected);
            }
            Record::Publication { channel, offset, data, tags, publisher } => {
                let tags_max = 2 * taken.len().div_ceil(TAG_BYTES_MIN) + TAG_BYTES_MIN;
                assert!(tags.capacity() <= tags_max, "{} tags reserved", tags.capacity());
                if let Some((_, client)) = publisher {
                    // Some bits are equal in all ids, whatever the input contains.
                    let at = expected.len() - size_of::<u128>();
                    expected[at..].copy_from_slice(&client.raw().to_le_bytes());
                }
                let boxed = |text: &str| -> Box<str> { Box::from(text) };
                let publisher = publisher
                    .map(|(user, client)| Box::new(Publisher { user: boxed(user), client }));
                let publication = Publication {
                    data: Box::from(*data),
                    offset: 0,
                    publisher,
                    tags: tags.iter().map(|(key, value)| (boxed(key), boxed(value))).collect(),
                    accepted: Moment::default(),
                };
                assert!(record::fits(channel, &publication), "a node could have written it");
                assert_eq!(record::encode(channel, &publication, *offset), expected);
            }
        }
    }
}

/// Checks the items of an entry: offsets are consecutive, and the output is not larger than the
/// input.
fn check_items(entry: &Entry) {
    let Ok(items) = entry.items(&namespaces::of_each_type(), Moment::default()) else { return };
    let records_max = entry.records.len() / RECORD_BYTES_MIN;
    assert!(items.len() <= records_max, "{} items of {records_max} records", items.len());
    let mut bytes = 0;
    let mut last = std::collections::BTreeMap::new();
    for item in &items {
        let Item::Publication { channel, epoch, publication } = item else { continue };
        bytes += publication.data.len() + channel.as_str().len();
        if publication.offset == 0 {
            continue;
        }
        let before = last.insert(channel.as_str(), (*epoch, publication.offset));
        let expected =
            before.map_or((*epoch, publication.offset), |(epoch, offset)| (epoch, offset + 1));
        assert_eq!((*epoch, publication.offset), expected, "{} has no holes", channel.as_str());
    }
    assert!(bytes <= entry.records.len(), "payloads and names are in the records");
    assert_eq!(entry.items(&namespaces::of_each_type(), Moment::default()).as_ref(), Ok(&items));
}

/// Checks the same entry in an answer of Redis, which may lack a field or have additional ones.
fn check_reply(form: u8, entry: &Entry) {
    let text = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    let mut fields = Vec::new();
    for (bit, name, value) in
        [(1, "c", Reply::Bytes(entry.bases.clone())), (2, "d", Reply::Bytes(entry.records.clone()))]
    {
        if form & bit == 0 {
            fields.extend([text(name), value]);
        }
    }
    if form & 4 == 0 {
        fields.extend([text("t"), Reply::Integer(1)]);
    }
    if form & 8 != 0 {
        fields.push(Reply::Nil);
    }
    let id = match form >> 4 & 3 {
        0 => text("7-1"),
        1 => Reply::Bytes(entry.bases.clone()),
        2 => Reply::Nil,
        _ => Reply::List(vec![text("7-1")]),
    };
    let fields = if form & 64 == 0 { Reply::List(fields) } else { Reply::Nil };
    let read = Entry::from_reply(&Reply::List(vec![id, fields]));
    if form & !8 == 0 {
        assert_eq!(read.as_ref(), Ok(entry), "the fields are found, whatever follows them");
    }
    if let Ok(read) = read {
        assert_eq!(EntryId::parse(&read.id.to_string()), Some(read.id));
        let meant = read.items(&namespaces::of_each_type(), Moment::default());
        assert!(form & 66 == 0 || meant.is_err(), "an entry without records is malformed");
    }
}
