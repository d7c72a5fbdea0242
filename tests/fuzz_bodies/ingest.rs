//! Entries of an ingest stream. Any fields must result either in valid publications or in an error.

use corecast::bus::Reply;
use corecast::channel::{Namespaces, check_payload};
use corecast::ids::Moment;
use corecast::ingest::{Fields, IngestId, IngestRequest, read_entries};
use corecast::mesh::Asker;

use crate::namespaces;

/// Names of known fields, and of an unknown one.
const NAMES: [&[u8]; 9] = [
    b"channel",
    b"data",
    b"b64data",
    b"tags",
    b"skip_history",
    b"idempotency_key",
    b"method",
    b"payload",
    b"trace",
];

/// Maximum size of an entry in bytes.
const ENTRY_BYTES_MAX: usize = 300;

/// The first byte determines the form of Redis' answer. Fields follow, each with a byte for its
/// name, one for the length of its value, and the value.
///
/// # Panics
/// If a check fails.
pub(crate) fn check(data: &[u8]) {
    let Some((&form, mut rest)) = data.split_first() else { return };
    let mut fields = Fields::new();
    while let [name, value_bytes, more @ ..] = rest {
        let (value, more) = more.split_at(more.len().min(usize::from(*value_bytes)));
        fields.push((NAMES[usize::from(*name) % NAMES.len()].to_vec(), value.to_vec()));
        rest = more;
    }
    check_answer(form, &fields);
    let namespaces = namespaces::of_each_type();
    let id = IngestId(1, 0);
    let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    match IngestRequest::parse(id, &fields, &namespaces, ENTRY_BYTES_MAX) {
        Err(error) => assert!(!error.is_empty(), "an error says why"),
        Ok(request) => {
            assert!(bytes <= ENTRY_BYTES_MAX, "{bytes} B are too many");
            assert!(request.count() > 0, "an entry that publishes nothing is an error");
            assert!(request.count() <= bytes, "each publication is asked for by bytes");
            (0..request.count()).for_each(|number| check_publish(&request, &namespaces, number));
        }
    }
}

fn check_publish(request: &IngestRequest, namespaces: &Namespaces, number: usize) {
    let publish = request.publish(number, Moment::default(), Asker::Nobody);
    let namespace = namespaces.resolve(publish.channel.as_str()).expect("a channel of this node");
    let data = &publish.publication.data;
    assert!(data.len() <= ENTRY_BYTES_MAX, "a payload is not longer than its entry");
    let checked = check_payload(namespace.data, data);
    assert_eq!(checked.as_ref(), Ok(data), "a payload is checked, and in its one form");
}

/// Checks the fields in an answer of Redis, which may lack parts.
fn check_answer(form: u8, fields: &Fields) {
    let bytes = |bytes: &[u8]| Reply::Bytes(bytes.to_vec());
    let mut all: Vec<Reply> =
        fields.iter().flat_map(|(name, value)| [bytes(name), bytes(value)]).collect();
    if form & 1 != 0 {
        all.pop();
    }
    let id = fields.first().filter(|_| form & 2 != 0).map_or(bytes(b"5-1"), |(_, id)| bytes(id));
    let fields_reply = if form & 4 == 0 { Reply::List(all) } else { Reply::Nil };
    let entry = Reply::List(vec![id, fields_reply]);
    let entries = if form & 8 == 0 { Reply::List(vec![entry]) } else { entry };
    let stream = Reply::List(vec![bytes(b"stream"), entries]);
    let answer = if form & 16 == 0 { Reply::List(vec![stream]) } else { stream };
    let read = read_entries(&answer);
    if form & 31 == 0 {
        assert_eq!(read, Some(vec![(IngestId(5, 1), Some(fields.clone()))]));
    }
    for (id, _) in read.unwrap_or_default() {
        assert_eq!(IngestId::parse(&id.to_string()), Some(id));
    }
}
