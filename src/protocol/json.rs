//! JSON written straight into messages: what every JSON protocol has in common.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::channel::{ChannelView, DataType, Publication};

/// Appends a number.
pub(crate) fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    write_escaped(text.as_bytes(), out);
    out.push(b'"');
}

/// Appends the inside of a JSON string. RFC 8259 §7: quotation mark, reverse solidus and control
/// characters MUST be escaped.
fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| matches!(byte, 0..=0x1F | b'"' | b'\\')) {
        out.extend_from_slice(&rest[..at]);
        let byte = rest[at];
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 0xF)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends a payload as a JSON value, the reverse of `channel::payload_of_json`: JSON as it is,
/// text as a string, bytes as a string of base64 (RFC 4648 §4), because JSON has no bytes.
pub(crate) fn write_data(data_type: DataType, data: &[u8], out: &mut Vec<u8>) {
    match data_type {
        DataType::Json => out.extend_from_slice(data),
        DataType::Text => {
            out.push(b'"');
            write_escaped(data, out);
            out.push(b'"');
        }
        DataType::Binary => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(data).as_bytes());
            out.push(b'"');
        }
    }
}

/// Appends a publication as Centrifugo's protocol and its HTTP API write it:
/// `{"data":..,"offset":N,"info":{..},"tags":{..}}`, without what is absent.
pub(crate) fn write_publication(
    channel: &ChannelView<'_>,
    publication: &Publication,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(br#"{"data":"#);
    write_data(channel.data, &publication.data, out);
    if channel.has_history && publication.offset > 0 {
        out.extend_from_slice(br#","offset":"#);
        write_number(publication.offset, out);
    }
    if let Some(publisher) = &publication.publisher {
        out.extend_from_slice(br#","info":{"user":"#);
        write_string(&publisher.user, out);
        out.extend_from_slice(br#","client":"#);
        write_string(&publisher.client.to_string(), out);
        out.push(b'}');
    }
    if !publication.tags.is_empty() {
        out.extend_from_slice(br#","tags":"#);
        write_tags(&publication.tags, out);
    }
    out.push(b'}');
}

fn write_tags(tags: &[(Box<str>, Box<str>)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (key, value)) in tags.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(key, out);
        out.push(b':');
        write_string(value, out);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Publisher;
    use crate::ids::{ClientId, Epoch, Moment};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_string_is_escaped_as_serde_json_reads_it(text in "(.|[\\x00-\\x20\"\\\\]){0,40}") {
            let mut out = Vec::new();
            write_string(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            prop_assert!(!out.contains(&b'\n'), "a line feed would split the message");
        }
    }

    #[test]
    fn a_publication_shows_what_it_has_and_nothing_else() {
        let mut publication = Publication {
            data: Box::from(&b"{}"[..]),
            offset: 7,
            publisher: None,
            tags: Box::default(),
            accepted: Moment::default(),
        };
        let mut channel = ChannelView {
            name: "c",
            data: DataType::Json,
            has_history: false,
            epoch: Epoch::new(1),
        };
        let check = |channel: &ChannelView<'_>, publication: &Publication, json: &str| {
            let mut out = Vec::new();
            write_publication(channel, publication, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), json);
        };
        check(&channel, &publication, r#"{"data":{}}"#);
        channel.has_history = true;
        check(&channel, &publication, r#"{"data":{},"offset":7}"#);
        channel.data = DataType::Binary;
        check(&channel, &publication, r#"{"data":"e30=","offset":7}"#);
        channel.data = DataType::Text;
        publication.data = Box::from(&b"\"hi\"\n"[..]);
        publication.tags = Box::new([("a".into(), "b\"".into()), ("c".into(), "".into())]);
        let client = ClientId::from_raw(1);
        publication.publisher = Some(Box::new(Publisher { user: "".into(), client }));
        check(
            &channel,
            &publication,
            concat!(
                r#"{"data":"\"hi\"\n","offset":7,"#,
                r#""info":{"user":"","client":"00000000-0000-8000-8000-000000000001"},"#,
                r#""tags":{"a":"b\"","c":""}}"#
            ),
        );
    }
}
